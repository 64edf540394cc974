"""Every optimizer and schedule against optax itself, and which leaves decay or are orthogonalised."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import Model, Phase
from genjax.errors import ConfigError
from genjax.training import optimizers
from genjax.training.optimizers import Config

RATE, TOTAL = 0.01, 10


@pytest.fixture
def params():
    keys = iter(jax.random.split(jax.random.key(0), 9))
    normal = lambda *shape: jax.random.normal(next(keys), shape)
    return {
        "dense": {"kernel": normal(4, 8), "bias": normal(8)},
        "blocks": {"mlp": {"kernel": normal(3, 4, 8)}, "norm": {"scale": normal(3, 4)}},
        "conv": {"kernel": normal(3, 3, 2, 4)},
        "SelfAttention_0": {"query": {"kernel": normal(8, 2, 4)}, "out": {"kernel": normal(2, 4, 8)}},
        "embed": {"embedding": normal(5, 4)},
    }


def updates(tx: optax.GradientTransformation, params: Any, steps: int = 5) -> Any:
    """The parameters after some steps on a quadratic with a little of everything in its gradient."""
    state, update = tx.init(params), jax.jit(tx.update)
    for n in range(steps):
        grads = jax.tree.map(lambda x, n=n: 0.3 * x + 0.1 * jnp.cos(3 * x + n), params)
        change, state = update(grads, state, params)
        params = optax.apply_updates(params, change)
    return params


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7), a, b)


def matrices(params):
    """The leaves that decay where nothing else is said: written out."""
    return {
        "dense": {"kernel": True, "bias": False},
        "blocks": {"mlp": {"kernel": True}, "norm": {"scale": False}},
        "conv": {"kernel": True},
        "SelfAttention_0": {"query": {"kernel": True}, "out": {"kernel": True}},
        "embed": {"embedding": True},
    }


OPTAX = {
    "sgd": (Config("sgd", RATE, momentum=0.0), lambda: optax.sgd(RATE)),
    "momentum": (Config("sgd", RATE, momentum=0.9), lambda: optax.sgd(RATE, 0.9, nesterov=True)),
    "sgd decayed": (
        Config("sgd", RATE, momentum=0.9, nesterov=False, weight_decay=0.1),
        lambda: optax.chain(optax.add_decayed_weights(0.1, matrices), optax.sgd(RATE, 0.9)),
    ),
    "adam": (Config("adam", RATE, b1=0.5, b2=0.9, eps=1e-6), lambda: optax.adam(RATE, 0.5, 0.9, 1e-6)),
    "adamw": (
        Config("adamw", RATE, weight_decay=0.1),
        lambda: optax.adamw(RATE, weight_decay=0.1, mask=matrices),
    ),
    "lion": (
        Config("lion", RATE, b2=0.99, weight_decay=0.1),
        lambda: optax.lion(RATE, weight_decay=0.1, mask=matrices),
    ),
    "clipped": (
        Config("adam", RATE, clip=0.5),
        lambda: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(RATE)),
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_against_optax(params, name):
    config, make = OPTAX[name]
    ours, theirs = updates(optimizers.make(config, TOTAL), params), updates(make(), params)
    assert_same(ours, theirs)
    assert not np.allclose(ours["dense"]["kernel"], params["dense"]["kernel"])


def test_muon_against_optax_on_matrices():
    """Where every leaf is a plain matrix, muon is optax's, in both its scalings."""
    params = {"kernel": jax.random.normal(jax.random.key(1), (6, 4))}
    for rms in (None, 0.2):
        config = Config("muon", RATE, momentum=0.9, weight_decay=0.1, consistent_rms=rms)
        theirs = optax.contrib.muon(RATE, beta=0.9, weight_decay=0.1, consistent_rms=rms)
        assert_same(updates(optimizers.make(config, TOTAL), params), updates(theirs, params))


def test_muon_orthogonalises_each_matrix_of_a_stack(params):
    """A stack of three layers, a convolution and an attention kernel, each as its own plain matrices."""
    config = Config("muon", RATE)
    tx = optimizers.make(config, TOTAL)
    ours = updates(tx, params)

    def alone(kernel):
        return updates(tx, {"kernel": kernel})["kernel"]

    stacked = params["blocks"]["mlp"]["kernel"]
    for n in range(3):
        np.testing.assert_allclose(
            ours["blocks"]["mlp"]["kernel"][n], alone(stacked[n]), rtol=1e-4, atol=1e-6
        )
    for path, shape in (("query", (8, 8)), ("out", (8, 8))):
        kernel = params["SelfAttention_0"][path]["kernel"]
        flat = alone(kernel.reshape(shape)).reshape(kernel.shape)
        np.testing.assert_allclose(ours["SelfAttention_0"][path]["kernel"], flat, rtol=1e-4, atol=1e-6)
    flat = alone(params["conv"]["kernel"].reshape(18, 4)).reshape(3, 3, 2, 4)
    np.testing.assert_allclose(ours["conv"]["kernel"], flat, rtol=1e-4, atol=1e-6)
    adam = updates(optimizers.make(Config("adamw", RATE), TOTAL), params)
    for a, b in (("dense", "bias"), ("embed", "embedding")):
        np.testing.assert_allclose(ours[a][b], adam[a][b], rtol=1e-5)
    assert not np.allclose(ours["blocks"]["mlp"]["kernel"], adam["blocks"]["mlp"]["kernel"], atol=1e-4)


def test_the_masks_are_the_users(params):
    mask = optimizers.decayed(Config(decay_mask="bias$|scale$"), params)
    assert mask["dense"] == {"kernel": False, "bias": True}
    assert optimizers.decayed(Config(), params) == matrices(params)
    axes = Config("muon", muon_axes=(("blocks/", "oi"), ("conv", "")))
    dims = optimizers.muon_dimensions(axes, params)
    assert dims["blocks"]["mlp"]["kernel"] == optax.contrib.MuonDimensionNumbers([2], [1])
    assert dims["conv"]["kernel"] is None


SCHEDULES = {
    "constant": (Config("sgd", RATE), lambda n: RATE),
    "warm constant": (Config("sgd", RATE, warmup=4), lambda n: RATE * min(n / 4, 1)),
    "cosine": (
        Config("sgd", RATE, schedule="cosine", warmup=2, end=0.1),
        optax.warmup_cosine_decay_schedule(0.0, RATE, 2, TOTAL, 0.1 * RATE),
    ),
    "short cosine": (
        Config("sgd", RATE, schedule="cosine", decay_steps=6),
        optax.cosine_decay_schedule(RATE, 6),
    ),
    "linear": (
        Config("sgd", RATE, schedule="linear", warmup=2, end=0.5),
        lambda n: RATE * n / 2 if n < 2 else RATE * (1 - 0.5 * min((n - 2) / 8, 1)),
    ),
    "wsd": (
        Config("sgd", RATE, schedule="wsd", warmup=2, decay_steps=4),
        lambda n: RATE * (n / 2 if n < 2 else 1.0 if n < 6 else max(1 - (n - 6) / 4, 0)),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    config, expected = SCHEDULES[name]
    ours = optimizers.learning_rate(config, TOTAL)
    for n in range(TOTAL + 3):
        np.testing.assert_allclose(
            np.asarray(ours(n)), np.asarray(expected(n)), rtol=1e-5, atol=1e-9, err_msg=f"update {n}"
        )


def test_a_schedule_drives_the_optimizer(params):
    config = Config("sgd", RATE, momentum=0.0, schedule="linear")
    theirs = optax.sgd(optax.linear_schedule(RATE, 0.0, TOTAL))
    assert_same(updates(optimizers.make(config, TOTAL), params, TOTAL), updates(theirs, params, TOTAL))


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ConfigError, match="do not fit into 10 updates"):
        optimizers.learning_rate(Config(schedule="cosine", warmup=10), TOTAL)
    with pytest.raises(ConfigError, match="do not fit into 10 updates"):
        optimizers.learning_rate(Config(schedule="wsd", warmup=8, decay_steps=3), TOTAL)
    with pytest.raises(ValueError, match="adamw"):
        Config("adam", weight_decay=0.1)


def test_a_warmup_below_one_is_a_fraction_of_the_run():
    fraction = optimizers.learning_rate(Config("sgd", RATE, schedule="cosine", warmup=0.2), TOTAL)
    count = optimizers.learning_rate(Config("sgd", RATE, schedule="cosine", warmup=2), TOTAL)
    assert [fraction(n) for n in range(TOTAL)] == [count(n) for n in range(TOTAL)]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="warmup"):
            Config("sgd", RATE, warmup=wrong)


def test_an_optimizer_outside_the_package(params: Any):
    """The module tests/outside/signs.py steps by the sign of the gradient, and decays what adamw would."""
    config = Config("outside.signs", RATE, weight_decay=0.1, options={"scale": 0.5})
    changed = updates(optimizers.make(config, TOTAL), params, steps=1)
    grads = jax.tree.map(lambda x: 0.3 * x + 0.1 * jnp.cos(3 * x), params)
    x, g = params["dense"]["kernel"], grads["dense"]["kernel"]
    np.testing.assert_allclose(
        changed["dense"]["kernel"], x - RATE * (0.5 * jnp.sign(g) + 0.1 * x), rtol=1e-6
    )
    b, g = params["dense"]["bias"], grads["dense"]["bias"]
    np.testing.assert_allclose(changed["dense"]["bias"], b - RATE * 0.5 * jnp.sign(g), rtol=1e-6)


def test_an_optimizer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="did you mean 'lion'"):
        Config("lionn")
    with pytest.raises(ConfigError, match=r"optimizer 'outside\.nothing': there is no such module"):
        optimizers.make(Config("outside.nothing"), TOTAL)
    with pytest.raises(ConfigError, match="defines no build"):
        optimizers.make(Config("outside.tones"), TOTAL)
    with pytest.raises(ValueError, match="options"):
        Config("adam", options={"scale": 1.0})


def test_a_lazy_penalty_slows_adam_down():
    """Of StyleGAN2: a penalty at every 16th step, a path length at every 4th one of the generator."""
    phase = lambda player, n=1, evaluated=True: Phase(player, lambda *_: None, n, True, evaluated)  # type: ignore[arg-type]
    model = Model(
        init=lambda *_: None,  # type: ignore[arg-type, return-value]
        phases={
            "critic": phase("critic"),
            "penalty": phase("critic", 16, False),
            "generator": phase("generator"),
            "path": phase("generator", 4, False),
            "rare": phase("alone", 3),
        },
    )
    config = Config("adam", 0.002, b1=0.5, b2=0.99)
    for player, c in {"critic": 16 / 17, "generator": 4 / 5}.items():
        found = optimizers.corrected(config, model, player)
        assert (found.learning_rate, found.b1, found.b2) == pytest.approx((0.002 * c, 0.5**c, 0.99**c))
    assert optimizers.corrected(config, model, "alone") == config
    assert optimizers.corrected(Config("sgd", 0.1), model, "critic") == Config("sgd", 0.1)
    # The run trains with it.
    _, rates = optimizers.of_players(model, dict.fromkeys(model.players, config), 100, 10)
    assert rates(50) == pytest.approx({"alone": 0.002, "critic": 0.002 * 16 / 17, "generator": 0.0016})
