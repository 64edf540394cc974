"""T5: what it reads, what its losses are of, and that padding and batch-mates change nothing."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import compiled

from genjax.core import Element, Spec
from genjax.errors import ConfigError
from genjax.models import t5
from genjax.views.pairs import Pairs

V, S, T = 30, 9, 7
INT = Element((), "int32")
PAIRS = Spec(
    {
        "source": Element((S,), "int32", V, "tokens", "condition"),
        "source_length": INT.replace(role="condition"),
        "target": Element((T,), "int32", V, "tokens", "target"),
        "target_length": INT.replace(role="target"),
    },
    special={"pad": 0, "eos": 1},
    paired=True,
)
TEXT = Spec({"tokens": Element((25,), "int32", V, "tokens", "target")})
FORMS = {
    "t5": {},
    "transformer": {
        "position": "sinusoidal", "norm": "layernorm", "prenorm": False, "bias": True,
        "scaled_attention": True, "scale_logits": False, "scale_embedding": True,
    },
}  # fmt: skip


@functools.cache
def made(form: str, spec_name: str, dropout: float = 0.0):
    spec = {"pairs": PAIRS, "text": TEXT}[spec_name]
    config = t5.Config(layers=1, heads=2, width=16, dropout=dropout, smoothing=0.1, **FORMS[form])
    model = t5.build(config, spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(0))
    return compiled(model), variables


def keys(n: int) -> jax.Array:
    return jax.random.split(jax.random.key(3), n)


def pairs(n: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, S + 1, n), rng.integers(1, T + 1, n)
    rows = {"source": rng.integers(2, V, (n, S)), "target": rng.integers(2, V, (n, T))}
    out = {**rows, "source_length": lengths[0], "target_length": lengths[1], "mask": np.ones(n, np.float32)}
    return {k: jnp.asarray(v) for k, v in out.items()}


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing_and_rows_stand_alone(form: str):
    model, variables = made(form, "pairs")
    score = jax.jit(lambda b, k: model.likelihood(variables, b, k)[0])
    batch = pairs(4)
    whole = score(batch, keys(4))
    np.testing.assert_array_equal(whole.count, batch["target_length"])
    other = dict(batch)
    for side in ("source", "target"):
        inside = jnp.arange(batch[side].shape[1])[None] < batch[f"{side}_length"][:, None]
        other[side] = jnp.where(inside, batch[side], 5)
    np.testing.assert_allclose(score(other, keys(4)).total, whole.total, rtol=1e-6)
    long = {
        **other,
        "source": jnp.pad(other["source"], ((0, 0), (0, 3))),
        "target": jnp.pad(other["target"], ((0, 0), (0, 2))),
    }
    np.testing.assert_allclose(score(long, keys(4)).total, whole.total, rtol=1e-5)
    changed = {**batch, "source": batch["source"].at[:, 0].add(1)}
    assert (np.abs(score(changed, keys(4)).total - whole.total) > 1e-4).all(), "the source matters"


@pytest.mark.parametrize("form", FORMS)
def test_the_cache_equals_no_cache(form: str):
    model, variables = made(form, "pairs")
    batch = pairs(3)
    batch["target_length"] = jnp.full((3,), T)
    inputs = jnp.pad(batch["target"][:, :-1], ((0, 0), (1, 0)))
    cache = model.decoder.start(variables, batch, 3, T)
    step, logits = jax.jit(model.decoder.step), []
    for t in range(T):
        out, trail = step(variables, cache, inputs[:, t : t + 1])
        cache = model.decoder.commit(trail, jnp.ones((3,), jnp.int32))
        logits.append(out)
    nats = -jnp.take_along_axis(
        jax.nn.log_softmax(jnp.concatenate(logits, 1)), batch["target"][..., None], axis=-1
    )[..., 0].sum(1)
    np.testing.assert_allclose(model.likelihood(variables, batch, keys(3))[0].total, nats, rtol=1e-5)


def test_smoothing_is_of_training_alone():
    model, variables = made("t5", "pairs")
    train, aux = model.phases["nll"].objective(variables, pairs(4), keys(4), step=jnp.zeros((), jnp.int32))
    held, _ = model.phases["nll"].objective(variables, pairs(4), keys(4), step=None)
    np.testing.assert_allclose(aux.metrics["nats"].value, held.value, rtol=1e-6)
    assert abs(float(train.value - held.value)) > 1e-4


def test_samples_of_pairs_end_with_eos_and_hold_no_special_token():
    model, variables = made("t5", "pairs")
    batch = pairs(6)
    got = jax.jit(lambda k: model.sample(variables, k, batch, length=12))(keys(6))
    assert got["target"].shape == (6, 12)
    for row, n in zip(np.asarray(got["target"]), np.asarray(got["target_length"]), strict=True):
        assert (row[n:] == 0).all()
        assert (row[: n - 1] > 1).all()
        assert n == 12 or row[n - 1] == 1
    assert (np.asarray(got["target"]) < V).all()
    one = model.sample(variables, keys(6), batch, length=5, top_k=1)["target"]
    greedy = model.sample(variables, keys(6), batch, length=5, temperature=0.0)["target"]
    np.testing.assert_array_equal(one, greedy)


def test_every_knob_reaches_the_draw():
    model, variables = made("t5", "pairs")
    batch = pairs(4)
    draw = lambda **knobs: model.sample(variables, keys(4), batch, length=8, **knobs)
    greedy = np.asarray(draw(temperature=0.0)["target"])
    never_twice = np.asarray(draw(temperature=0.0, repetition_penalty=1e6)["target"])
    for row, other in zip(greedy, never_twice, strict=True):
        assert len(set(other[other > 1])) == (other > 1).sum()
        assert len(set(row[row > 1])) <= len(set(other[other > 1]))
    assert (np.asarray(draw(min_length=8)["target"]) != 1).all()
    found = draw(beams=3, length_penalty=0.0, min_length=8)
    assert (np.asarray(found["target"]) > 1).all()
    assert (np.asarray(found["target_length"]) == 8).all()


def test_running_text_goes_on_from_its_prompt():
    model, variables = made("t5", "text")
    prompt = {"tokens": jnp.full((3, 6), 4), "length": jnp.array([6, 2, 0])}
    rows = np.asarray(jax.jit(lambda k: model.sample(variables, k, prompt))(keys(3))["tokens"])
    assert rows.shape == (3, 25)
    assert (rows < V).all()
    for row, n in zip(rows, (6, 2, 0), strict=True):
        assert (row[:n] == 4).all()
    assert model.likelihood_kind != "exact"


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="no text"):
        Pairs.of(Spec({"image": Element((2, 2, 1), "uint8", 4, "image", "target")}))
    few = Pairs.of(Spec(TEXT.elements, special={"sentinel_0": 28, "sentinel_1": 29}), 0.5, 1.0)
    batch = {"tokens": jnp.zeros((1, 25), jnp.int32), "mask": jnp.ones(1)}
    with pytest.raises(ConfigError, match="2 sentinels"):
        few.read(batch, keys(1))
    # Sampling needs only the first.
    assert few.ask(jnp.zeros((1, 3), jnp.int32), jnp.array([3]))["source"][0, 3] == 28
    with pytest.raises(ConfigError, match="at least"):
        Pairs.of(TEXT, vocabulary=V)
    with pytest.raises(ValueError, match="smoothing"):
        t5.Config(smoothing=1.0)


def test_rows_beyond_the_learned_positions_are_refused():
    """They would all share the last position."""
    few = t5.Config(layers=1, heads=2, width=16, position="learned", positions=8)
    with pytest.raises(ConfigError, match="8 learned positions"):
        t5.build(few, TEXT, {})
    enough = dataclasses.replace(few, positions=TEXT["tokens"].shape[0] + 2)
    model = t5.build(enough, TEXT, {})
    variables = jax.eval_shape(lambda key: model.init(key, TEXT.example(1), {}), jax.random.key(0))
    draw = lambda length: jax.eval_shape(lambda v: model.sample(v, keys(1), {}, length=length), variables)
    draw(TEXT["tokens"].shape[0])
    with pytest.raises(ConfigError, match="length"):
        draw(TEXT["tokens"].shape[0] + 1)


def test_a_least_length_that_has_no_effect_is_refused():
    for spec, least in ((TEXT, 3), (PAIRS, T + 1)):
        model = t5.build(t5.Config(layers=1, heads=2, width=16), spec, {})
        variables = jax.eval_shape(lambda key: model.init(key, spec.example(1), {}), jax.random.key(0))  # noqa: B023
        with pytest.raises(ConfigError, match="min_length"):
            model.sample(variables, keys(1), {}, min_length=least)
