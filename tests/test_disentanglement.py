"""Scores of latent spaces on planted codes: separate, mixed, and empty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from genjax.evaluation import information
from genjax.evaluation.metrics import dci, factor_vote, mig, sap

RNG = np.random.default_rng(0)
N = 3000
FACTORS = {"a": RNG.integers(0, 4, N), "b": RNG.integers(0, 5, N), "c": RNG.integers(0, 3, N)}


def separate() -> np.ndarray:
    """Each factor in one dimension, and one dimension of noise."""
    columns = [v + 0.05 * RNG.normal(size=N) for v in FACTORS.values()]
    return np.stack([*columns, RNG.normal(size=N)], 1)


def mixed() -> np.ndarray:
    """The same, rotated: every dimension knows something of every factor."""
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))
    return separate() @ q


def scores(codes: np.ndarray) -> dict[str, float]:
    return {
        "mig": mig.mig(codes, FACTORS),
        "sap": sap.sap(codes, FACTORS),
        "vote": float(factor_vote.votes(codes, FACTORS).mean()),
        **dci.dci(codes, FACTORS),
    }


def test_separate_codes_have_scores_near_one_and_mixed_ones_lower():
    one, other = scores(separate()), scores(mixed())
    assert one["mig"] > 0.9
    assert one["vote"] > 0.99
    assert one["disentanglement"] > 0.9
    assert one["completeness"] > 0.85
    assert one["informativeness"] > 0.97
    # The best dimension is right, and the second knows the most frequent value.
    assert one["sap"] > 0.6
    for name in ("mig", "sap", "disentanglement", "completeness"):
        assert other[name] < 0.6 * one[name], name


def test_codes_that_know_nothing_score_nothing():
    empty = RNG.normal(size=(N, 4))
    found = scores(empty)
    assert abs(found["mig"]) < 0.02
    assert abs(found["sap"]) < 0.05
    assert found["informativeness"] < 0.5
    assert factor_vote.votes(np.zeros((N, 3)), FACTORS).sum() == 0


def test_mutual_information_is_sklearns():
    x, y = RNG.integers(0, 6, 500), RNG.integers(0, 3, 500)
    np.testing.assert_allclose(information.mutual_information(x, y), mutual_info_score(x, y), atol=1e-12)
    np.testing.assert_allclose(information.entropy(x), mutual_info_score(x, x), atol=1e-12)


def test_bins_have_equal_width_and_constants_one_bin():
    codes = np.stack([np.linspace(0, 1, 41), np.full(41, 3.0)], 1)
    found = information.binned(codes)
    assert (np.bincount(found[:, 0]) >= 2).all()
    assert found[-1, 0] == information.BINS - 1
    assert (found[:, 1] == 0).all()


@pytest.mark.parametrize("R", [np.eye(3), np.ones((3, 3))])
def test_importances_in_one_place_are_disentangled_and_spread_ones_are_not(R: np.ndarray):
    expected = 1.0 if R[0, 1] == 0 else 0.0
    assert math.isclose(dci.disentanglement(R), expected, abs_tol=1e-6)
