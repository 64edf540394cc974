"""GPT: packed documents, piano rolls, caps, and the maximal-update parametrisation."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import Element, Spec, Variables
from genjax.errors import ConfigError
from genjax.models import gpt
from genjax.training import optimizers

V, T = 7, 12
TEXT = Spec({"tokens": Element((T + 1,), "int32", V, "tokens", "target")})
PACKED = Spec({**TEXT.elements, "segment": Element((T + 1,), "int32")})
ROLL = Spec({"roll": Element((3, 2), "uint8", 2, "roll", "target")})
FORMS: dict[str, dict[str, Any]] = {
    "gpt2": {"bias": True, "tied": True},
    "modern": {
        "norm": "rmsnorm",
        "activation": "swiglu",
        "position": "rope",
        "kv_heads": 1,
        "qk_norm": True,
        "logit_cap": 5.0,
        "final_logit_cap": 3.0,
        "windows": [4, 0],
    },
}


def built(spec: Spec, **fields) -> tuple[Any, Variables]:
    """A small GPT with large weights."""
    config = gpt.Config(**{"layers": 2, "heads": 2, "width": 16, "init_std": 0.3, **fields})
    model = gpt.build(config, spec, {})
    return model, jax.jit(lambda: model.init(jax.random.key(0), spec.example(2), {}))()


@pytest.mark.parametrize("form", FORMS)
def test_packed_documents_are_as_likely_as_apart(form):
    model, variables = built(PACKED, **FORMS[form])
    tokens = np.random.default_rng(0).integers(0, V, (2, T + 1)).astype(np.int32)
    ends = [[0, 4, 13], [0, 6, 10]]
    segment, apart = np.zeros((2, T + 1), np.int32), []
    for row, n in itertools.product(range(2), range(2)):
        a, b = ends[row][n : n + 2]
        segment[row, a:b] = n + 1
        apart.append((tokens[row, a:b], b - a))
    alone = {
        "tokens": np.stack([np.pad(t, (0, T + 1 - n)) for t, n in apart]),
        "token_mask": np.stack([(np.arange(T) < n - 1).astype(np.float32) for _, n in apart]),
        "mask": np.ones(4, np.float32),
    }
    packed = {"tokens": tokens, "segment": segment, "mask": np.ones(2, np.float32)}
    nats = jax.jit(lambda batch: model.likelihood(variables, batch, None)[0])
    together, separate = nats(packed), nats(alone)
    np.testing.assert_allclose(together.total, separate.total.reshape(2, 2).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(together.count, separate.count.reshape(2, 2).sum(1))
    joined = nats({"tokens": tokens, "mask": packed["mask"]})
    assert float(jnp.abs(joined.total - together.total).min()) > 1e-2


def test_rolls_have_probabilities_and_are_drawn():
    model, variables = built(ROLL, **FORMS["modern"])
    rest = np.array(list(itertools.product((0, 1), repeat=4)), np.uint8).reshape(16, 2, 2)
    first = np.broadcast_to(np.array([[[1, 0]]], np.uint8), (16, 1, 2))
    rows = {"roll": np.concatenate([first, rest], axis=1), "mask": np.ones(16, np.float32)}
    mean, _ = model.likelihood(variables, rows, None)
    p = np.exp(-np.asarray(mean.total, np.float64))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    assert p.std() > 1e-3
    assert set(np.asarray(mean.count)) == {2}
    num = 4000
    drawn = model.sample(
        variables,
        jax.random.split(jax.random.key(1), num),
        {"roll": jnp.broadcast_to(first[:1], (num, 1, 2))},
    )["roll"]
    assert drawn.shape == (num, 3, 2)
    index = np.asarray(drawn)[:, 1:].reshape(num, 4) @ np.array([8, 4, 2, 1])
    seen = np.bincount(index, minlength=16)
    assert ((seen - num * p) ** 2 / (num * p)).sum() < 15 + 5 * 30**0.5


def test_mup_is_the_ordinary_model_at_its_base():
    a, va = built(TEXT, tied=True)
    b, vb = built(TEXT, tied=True, mup_base=16)
    rows = {"tokens": jnp.arange(2 * (T + 1)).reshape(2, -1) % V, "mask": jnp.ones(2)}
    totals = [m.likelihood(v, rows, None)[0].total for m, v in ((a, va), (b, vb))]
    np.testing.assert_allclose(*totals, rtol=1e-6)
    assert a.learning_rate_multipliers is None
    assert set(jax.tree.leaves(b.learning_rate_multipliers("model", vb.params["model"]))) == {1.0}


def test_mup_scales_what_goes_with_width():
    model, variables = built(TEXT, width=64, heads=2, mup_base=16, init_std=0.1)
    params = variables.params["model"]
    rates = model.learning_rate_multipliers("model", params)
    block, stack = rates["stack"]["block_0"], params["stack"]["block_0"]
    assert block["mlp"]["down"]["kernel"] == block["attention"]["project"]["query"]["kernel"] == 0.25
    assert rates["token_embedding"] == rates["head"]["kernel"] == block["mlp_norm"]["scale"] == 1.0
    assert abs(float(stack["mlp"]["project"]["up"]["kernel"].std()) / 0.05 - 1) < 0.05
    assert abs(float(params["head"]["kernel"].std()) / 0.1 - 1) < 0.15
    # 1 / features, and what it was at the base of 8 features a head.
    assert gpt.Config(width=64, heads=2, mup_base=16).stack().scale == pytest.approx(8**0.5 / 32)
    assert gpt.Config(width=64, heads=8, mup_base=16, mup_heads=2).stack().scale == pytest.approx(8**-0.5)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_factors_are_on_the_step_and_not_on_the_decay(name):
    config = optimizers.Config(name=name, learning_rate=0.1, weight_decay=0.0 if name == "adam" else 0.5)
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"kernel": 2 * jnp.ones((2, 2))}}
    gradient = jax.tree.map(lambda x: 0.3 * x, params)
    factors = lambda p: {"a": {"kernel": 0.25}, "b": {"kernel": 1.0}}

    def moved(tx: optax.GradientTransformation) -> Any:
        state, p = tx.init(params), params
        for _ in range(3):
            update, state = tx.update(gradient, state, p)
            p = optax.apply_updates(p, update)
        return p

    ordinary, scaled = moved(optimizers.make(config, 9)), moved(optimizers.make(config, 9, factors))
    np.testing.assert_allclose(ordinary["b"]["kernel"], scaled["b"]["kernel"], rtol=1e-6)
    decayed = 1.0
    for _ in range(3):
        decayed += -0.1 * (0.25 + config.weight_decay * decayed)
    np.testing.assert_allclose(scaled["a"]["kernel"], decayed, rtol=1e-5)
    with pytest.raises(ConfigError, match="sgd"):
        optimizers.make(optimizers.Config(name="sgd"), 9, factors)
