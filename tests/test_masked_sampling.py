"""Iterative refinement over predictors that can be computed by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import ConfigError
from genjax.sampling.masked import Refinement, fill, refine

V, MASK = 6, 6


def keys(n: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), n)


def independent(probs: np.ndarray):
    """Every place has this distribution, whatever the others hold."""
    return lambda tokens: jnp.broadcast_to(jnp.log(probs), (*tokens.shape, len(probs)))


def alternating(tokens: jax.Array) -> jax.Array:
    """A place is sure to hold 1 - (its left neighbour); where that is masked, 0 or 1 with even odds."""
    left = jnp.concatenate([jnp.full_like(tokens[:, :1], MASK), tokens[:, :-1]], axis=1)
    sure = jax.nn.one_hot(1 - left, V)
    return jnp.log(jnp.where((left == MASK)[..., None], jnp.array([0.5, 0.5, 0, 0, 0, 0]), sure))


@pytest.mark.parametrize("revisit", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_given_tokens_stay_and_all_places_are_filled(revisit: bool, schedule):
    tokens = jnp.array([[0, 5, 5, 3, 5], [2, 2, 2, 2, 2], [5, 5, 5, 5, 5]])
    unknown = jnp.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    how = Refinement(steps=4, schedule=schedule, revisit=revisit)
    got = refine(independent(np.full(V, 1 / V)), keys(3), tokens, unknown, mask=MASK, how=how)
    assert (np.asarray(got.tokens) < V).all()
    np.testing.assert_array_equal(got.tokens[~unknown], tokens[~unknown])
    np.testing.assert_allclose(got.log_probs, np.where(unknown, -np.log(V), 0), rtol=1e-5)


def test_random_order_keeps_the_law_and_confidence_sharpens_it():
    probs = np.array([0.5, 0.2, 0.1, 0.1, 0.06, 0.04])
    n, T = 400, 20
    rows = jnp.full((n, T), MASK)

    def share(choice: float) -> np.ndarray:
        how = Refinement(steps=5, choice=choice)
        tokens = refine(independent(probs), keys(n), rows, rows == MASK, mask=MASK, how=how).tokens
        return np.bincount(np.asarray(tokens).ravel(), minlength=V) / (n * T)

    assert (np.abs(share(1e6) - probs) < 5 * np.sqrt(probs * (1 - probs) / (n * T))).all()
    assert share(0.0)[0] > 0.6


def test_refinement_uses_what_it_has_written():
    """As many steps as places, surest first: after one free choice each place follows from its neighbour."""
    n, T = 30, 8
    tokens = jnp.full((n, T), MASK).at[:, 0].set(0)
    unknown = tokens == MASK
    run = lambda **how: np.asarray(
        refine(alternating, keys(n), tokens, unknown, mask=MASK, how=Refinement(choice=0.0, **how)).tokens
    )
    good = lambda rows: (rows[:, 1:] == 1 - rows[:, :-1]).all(1).mean()
    assert good(run(steps=T - 1, schedule="linear")) == 1
    assert good(run(steps=1)) < 0.3, "all at once they cannot agree"


def test_mask_predict_mends_what_it_doubts():
    """A guess made without context is masked again once another place makes it unlikely."""

    def predict(tokens: jax.Array) -> jax.Array:
        sees = (tokens[:, 1] == 3)[:, None]
        first = jnp.where(
            sees,
            jnp.array([0.01, 0.95, 0.01, 0.01, 0.01, 0.01]),
            jnp.array([0.4, 0.12, 0.12, 0.12, 0.12, 0.12]),
        )
        second = jnp.broadcast_to(jnp.array([0.01, 0.01, 0.01, 0.95, 0.01, 0.01]), first.shape)
        return jnp.log(jnp.stack([first, second], axis=1))

    rows = jnp.full((1, 2), MASK)
    how = Refinement(steps=2, schedule="linear", revisit=True, temperature=0, choice=0.0)
    assert refine(predict, keys(1), rows, rows == MASK, mask=MASK, how=how).tokens.tolist() == [[1, 3]]
    once = Refinement(steps=1, temperature=0, choice=0.0)
    assert refine(predict, keys(1), rows, rows == MASK, mask=MASK, how=once).tokens.tolist() == [[0, 3]]


def test_rows_depend_on_their_own_key_alone():
    tokens, predict = jnp.full((6, 9), MASK), independent(np.full(V, 1 / V))
    whole = refine(predict, keys(6), tokens, tokens == MASK, mask=MASK).tokens
    half = refine(predict, keys(6)[2:5], tokens[2:5], tokens[2:5] == MASK, mask=MASK).tokens
    np.testing.assert_array_equal(whole[2:5], half)


def test_fill_ranks_the_candidates():
    logits = jnp.log(jnp.array([[[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]]))
    got = fill(logits, jnp.array([[1, 0]]), k=2)
    assert got.tokens[0, :, 0].tolist() == [2, 1]
    np.testing.assert_allclose(got.probs[0, 1], [0.6, 0.3], rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"schedule": "square"}, {"temperature": -1.0}, {"choice": -1.0}]
)
def test_impossible_knobs_are_refused(wrong: dict):
    with pytest.raises(ConfigError):
        Refinement(**wrong)
