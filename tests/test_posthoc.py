"""Averages of another width after training: profiles, combinations, and a run's own checkpoints."""

from __future__ import annotations

import logging

import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cli
from genjax.training.posthoc import Profile, combination, combined, exponent_of, product
from genjax.training.step import Average


def profile(steps: int, exponent: float) -> np.ndarray:
    """The weights of steps 1 .. T that the update of the average leads to."""
    decay = np.asarray(Average(("a",), 1.0, None, exponent).decay(jnp.arange(steps), 1), np.float64)
    # Step n enters with 1 - decay, and each later one multiplies it.
    later = np.append(np.cumprod(decay[::-1])[::-1][1:], 1.0)
    return (1 - decay) * later


def test_the_width_is_that_of_the_profile():
    for sigma in (0.05, 0.1, 0.2):
        weights = profile(2000, exponent_of(sigma))
        np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-4)
        t = (np.arange(2000) + 0.5) / 2000
        mean = (weights * t).sum()
        np.testing.assert_allclose(np.sqrt((weights * (t - mean) ** 2).sum()), sigma, rtol=0.02)
    with pytest.raises(ValueError, match=r"sigma_rel=0\.3"):
        exponent_of(0.3)


def test_products_are_integrals():
    t = (np.arange(200_000) + 0.5) / 200_000 * 3.0
    curve = lambda p: np.where(t < p.step, (p.exponent + 1) / p.step * (t / p.step) ** p.exponent, 0.0)
    for a, b in [(Profile(1.0, 6.9), Profile(2.0, 3.0)), (Profile(3.0, 2.0), Profile(2.5, 17.0))]:
        np.testing.assert_allclose(product(a, b), (curve(a) * curve(b)).sum() * 3 / 200_000, rtol=1e-3)
        assert product(a, b) == pytest.approx(product(b, a))


def test_an_average_of_another_width_is_reconstructed():
    """The profile of a combination of snapshots is the wanted one but for a small error."""
    exponents = [exponent_of(s) for s in (0.05, 0.1)]
    steps = range(125, 1001, 125)
    saved = [Profile(n, g) for n in steps for g in exponents]
    curves = [np.pad(profile(n, g), (0, 1000 - n)) for n in steps for g in exponents]
    for sigma in (0.04, 0.07, 0.15):
        wanted = Profile(1000, exponent_of(sigma))
        weights = combination(saved, wanted)
        found = combined([{"x": c} for c in curves], weights)["x"]
        true = profile(1000, wanted.exponent)
        assert np.abs(found - true).sum() < 0.1, sigma
    np.testing.assert_allclose(combination(saved, saved[5]), np.eye(len(saved))[5], atol=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("posthoc") / "run"
    widths = "{'eval': {'sigma_rel': 0.05}, 'wide': {'sigma_rel': 0.1}}"
    args = ["--config.train.checkpoint_every=2", "--config.train.keep_last=9"]
    args += [f"--config.train.averages={widths}"]
    assert cli.main(["train", "--config=digits/vae:smoke", f"--dir={directory}", *args]) == 0
    return directory


def test_a_run_samples_with_a_width_that_it_has_not_kept(run, capsys, caplog):
    with caplog.at_level(logging.INFO, "genjax"):
        assert cli.main(["sample", str(run), "--num=2", "--average=sigma_rel:0.07"]) == 0
    assert "combination of 8 averages of 4 checkpoints" in caplog.text
    capsys.readouterr()
    how = ["--evaluate.metrics=('likelihood',)"]
    assert cli.main(["evaluate", str(run), *how, "--evaluate.average=sigma_rel:0.1"]) == 0
    first = capsys.readouterr().out
    assert cli.main(["evaluate", str(run), *how, "--evaluate.average=wide"]) == 0
    again = capsys.readouterr().out
    # The width that was kept is reconstructed as it was.
    value = lambda text: float(text.split("bits_per_dim/bound")[1].split()[0])
    assert value(first) == pytest.approx(value(again), rel=1e-3)


@pytest.mark.parametrize(
    ("average", "says"),
    [
        ("sigma_rel:0.4", "sigma_rel=0.4"),
        ("sigma_rel:wide", "sigma_rel:wide"),
        ("sigma_rel:0.27", "do not determine it"),
    ],
)
def test_widths_that_are_none_are_refused(run, capsys, average: str, says: str):
    assert cli.main(["sample", str(run), f"--average={average}"]) == 2
    assert says in capsys.readouterr().err


def test_other_runs_have_none_to_reconstruct(tmp_path, capsys):
    directory = tmp_path / "plain"
    assert cli.main(["train", "--config=digits/vae:smoke", f"--dir={directory}"]) == 0
    assert cli.main(["sample", str(directory), "--average=sigma_rel:0.1"]) == 2
    assert "has not kept" in capsys.readouterr().err
    assert (
        cli.main(["train", "--config=digits/vae:smoke", "--config.train.averages={'a': {'sigma_rel': 0.4}}"])
        == 2
    )
