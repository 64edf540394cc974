"""Policies: what a distribution is narrowed to, what penalties take, and that draws follow it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import ConfigError
from genjax.sampling.logits import Bernoulli, Seen, Truncation, draw, min_p, top_k, top_p, typical_p


def test_truncation_masks():
    p = np.array([[0.4, 0.3, 0.15, 0.1, 0.05], [0.05, 0.1, 0.15, 0.3, 0.4], [0.2, 0.2, 0.2, 0.2, 0.2]])
    logits = jnp.log(jnp.asarray(p)) + 3
    kept = lambda x: np.isfinite(np.asarray(x)).astype(int).tolist()
    assert kept(top_k(logits, 2)) == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    assert kept(top_k(logits, 99)) == np.ones((3, 5), int).tolist()
    assert kept(top_p(logits, 0.69)) == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 0]]
    assert kept(top_p(logits, 0.71)) == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert kept(top_p(logits, 1e-6)) == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    both = np.exp(Truncation(temperature=0.5, top_k=3, top_p=0.8)(logits[:1]))[0]
    # Squared they are .16, .09 and .0225: of these three, the first two reach 0.8.
    np.testing.assert_allclose(both, [0.64, 0.36, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(np.exp(Truncation()(logits)), p, atol=1e-6)
    assert np.exp(Truncation(temperature=0)(logits)).tolist() == [
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0],
    ]
    for knobs in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(knobs))):
            Truncation(**knobs)


def test_draws_follow_their_probabilities():
    p = np.array([0.5, 0.3, 0.2, 0.0])
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p)), (20_000, 4))
    seen = np.bincount(draw(jax.random.split(jax.random.key(7), 20_000), logits), minlength=4)
    assert seen[3] == 0
    chi2 = ((seen[:3] - 20_000 * p[:3]) ** 2 / (20_000 * p[:3])).sum()
    assert chi2 < 13.8  # 0.1% of draws lie beyond, with two degrees of freedom


def test_min_p_and_typical_masks():
    p = np.array([[0.5, 0.26, 0.13, 0.06, 0.05], [0.05, 0.06, 0.13, 0.26, 0.5]])
    logits = jnp.log(jnp.asarray(p)) - 2
    kept = lambda x: np.isfinite(np.asarray(x)).astype(int).tolist()
    assert kept(min_p(logits, 0.25)) == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
    assert kept(min_p(logits, 1.0)) == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    # Surprises 0.69, 1.35, 2.04, 2.81, 3.00; the entropy is 1.28: the order is 1, 0, 2, 3, 4.
    assert kept(typical_p(logits, 0.2)) == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert kept(typical_p(logits, 0.75)) == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert kept(typical_p(logits, 0.78)) == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
    for knobs in ({"min_p": 1.5}, {"typical_p": 0.0}, {"repetition_penalty": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(knobs))):
            Truncation(**knobs)


def test_penalties_take_what_was_seen():
    seen = Seen.none(2, 5).read(jnp.array([[1, 7, 4], [2, 2, 3]]), jnp.array([2, 1]))
    assert np.asarray(seen.given).astype(int).tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    for token, count in (([0, 3], [1, 1]), ([0, 4], [1, 0])):
        seen = seen.draw(jnp.array(token), jnp.array(count))
    assert np.asarray(seen.drawn).tolist() == [[2, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    logits = jnp.array([[2.0, -1.0, 0.5, 0.0, 3.0], [2.0, -1.0, 0.5, 1.0, 3.0]])
    found = Truncation(repetition_penalty=2.0).scores(logits, seen)
    assert np.asarray(found).tolist() == [[1.0, -2.0, 0.5, 0.0, 3.0], [2.0, -1.0, 0.25, 0.5, 3.0]]
    found = Truncation(frequency_penalty=0.5, presence_penalty=0.25, temperature=0.5).scores(logits, seen)
    assert np.asarray(found).tolist() == [[1.5, -2.0, 1.0, 0.0, 6.0], [4.0, -2.0, 1.0, 0.5, 6.0]]
    assert not Truncation(top_k=3).remembers


def test_frames_follow_their_probabilities():
    keys, logits = (
        jax.random.split(jax.random.key(0), 5000),
        jnp.tile(jnp.array([[-2.0, 0.0, 1.0]]), (5000, 1)),
    )
    frames, log_prob = Bernoulli(0.5).draw(keys, logits)
    p = np.asarray(jax.nn.sigmoid(logits[0] / 0.5))
    assert np.all(np.abs(np.asarray(frames).mean(0) - p) < 4 * (p * (1 - p) / 5000) ** 0.5)
    found = np.corrcoef(np.asarray(frames).T) - np.eye(3)
    assert np.abs(found).max() < 0.06
    np.testing.assert_allclose(log_prob[0], np.log(np.where(frames[0] > 0, p, 1 - p)).sum(), rtol=1e-5)
    assert np.asarray(Bernoulli(0).draw(keys, logits)[0][0]).tolist() == [0, 0, 1]
