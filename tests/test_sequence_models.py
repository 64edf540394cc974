"""n-gram and GPT: probabilities that sum to one, causality, caches, conditions, counting, the step."""

from __future__ import annotations

import collections
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from properties import compiled

from genjax.core import AXIS, Element, Spec, Variables
from genjax.counting.tables import nearest
from genjax.errors import ConfigError
from genjax.models import gpt, ngram
from genjax.training.step import create, make_step
from genjax.views.sequences import Sequence

IMAGES = Spec(
    {
        "image": Element((2, 2, 1), "uint8", 3, "image", "target"),
        "label": Element((), "int32", 2, "label", "condition"),
    },
    24,
)
TEXT = Spec({"tokens": Element((5,), "int32", 4, "tokens", "target")}, 24)
FORMS = {
    "gpt2": {},
    "modern": {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "kv_heads": 1},
    "biased": {"bias": True, "tied": True, "activation": "relu2", "position": "both", "remat": True},
}


def batch(spec: Spec, rows: int, seed: int = 0) -> dict:
    """Random rows of a spec."""
    r = np.random.default_rng(seed)
    out = {k: r.integers(0, e.levels, (rows, *e.shape)).astype(e.dtype) for k, e in spec.elements.items()}
    return {**out, "mask": np.ones(rows, np.float32)}


def build_gpt(spec: Spec, **fields) -> tuple[Any, Variables]:
    """A small GPT whose weights are large enough that its predictions differ."""
    config = gpt.Config(**{"layers": 2, "heads": 2, "width": 16, **fields})
    model = gpt.build(config, spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(2), {}))(jax.random.key(0))
    return compiled(model), variables.replace(
        params=jax.tree.map(lambda x: x * 6 if x.ndim > 1 else x, variables.params)
    )


def train_ngram(spec: Spec, rows: dict, parts: int = 1, passes: int = 1, **fields) -> tuple[Any, Variables]:
    """An n-gram after the real step over `rows`, in `parts` batches."""
    model = ngram.build(ngram.Config(**fields), spec, {})
    optimizers = {"model": optax.adamw(1e-3)}
    state = jax.jit(lambda key: create(model, optimizers, key, rows))(jax.random.key(0))
    step: Any = jax.jit(make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    for _ in range(passes):
        for i in range(parts):
            part = {k: jnp.asarray(v[i::parts]) for k, v in rows.items()}
            state, _ = step(state, {}, part, jax.random.key(1), ("nll",))
    assert step._cache_size() == 1
    return compiled(model), state.variables


def everything(spec: Spec) -> dict:
    """Every possible row of a tiny spec: images with label 0, texts that begin with token 0."""
    sequence = Sequence.of(spec)
    rows = np.array(list(itertools.product(range(sequence.levels), repeat=sequence.length)))
    mask = np.ones(len(rows), np.float32)
    if sequence.text:
        return {"tokens": np.pad(rows, ((0, 0), (1, 0))).astype(np.int32), "mask": mask}
    image = rows.reshape(-1, *sequence.shape).astype(np.uint8)
    return {"image": image, "label": np.zeros(len(rows), np.int32), "mask": mask}


def models(spec: Spec) -> dict[str, tuple[Any, Variables]]:
    """A GPT and two n-grams of a spec."""
    rows = batch(spec, 24)
    built = {"gpt": build_gpt(spec), "additive": train_ngram(spec, rows, order=2, smoothing="additive")}
    near = {} if "tokens" in spec else {"context": "nearest", "position": True, "bins": 2}
    return {**built, "backoff": train_ngram(spec, rows, order=3, **near)}


@pytest.fixture(scope="module", params=["images", "text"])
def family(request) -> tuple[Spec, dict[str, tuple[Any, Variables]]]:
    spec = IMAGES if request.param == "images" else TEXT
    return spec, models(spec)


def test_probabilities_of_every_row_sum_to_one(family):
    spec, built = family
    rows = everything(spec)
    for model, variables in built.values():
        for knobs in ({}, {"label": False}):
            mean, carry = model.likelihood(variables, rows, None, **knobs)
            assert carry == {}
            probabilities = np.exp(-np.asarray(mean.total, np.float64))
            assert probabilities.min() > 0
            assert probabilities.std() > 1e-4 / len(probabilities)
            np.testing.assert_allclose(probabilities.sum(), 1, rtol=2e-5)
            assert set(np.asarray(mean.count)) == {Sequence.of(spec).length}


def test_samples_follow_the_likelihood(family):
    spec, built = family
    rows, num = everything(spec), 6000
    prompt = {"tokens": jnp.zeros((num, 1), jnp.int32)}
    if "label" in spec:
        prompt = {"label": jnp.zeros(num, jnp.int32)}
    codes = (len(rows["mask"]) ** (1 / Sequence.of(spec).length) + 0.5) // 1
    for model, variables in built.values():
        p = np.exp(-np.asarray(model.likelihood(variables, rows, None)[0].total, np.float64))
        drawn = model.sample(variables, jax.random.split(jax.random.key(5), num), prompt)
        values = np.asarray(drawn["tokens"][:, 1:] if "tokens" in drawn else drawn["image"]).reshape(num, -1)
        index = values @ codes ** np.arange(values.shape[1])[::-1]
        seen = np.bincount(index.astype(int), minlength=len(p))
        often = p * num >= 5
        expected = np.append(p[often], p[~often].sum()) * num
        observed = np.append(seen[often], seen[~often].sum())
        chi2 = ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
        degrees = len(expected) - 1
        # Mean `degrees`, variance 2 `degrees`: five deviations, for a fixed seed.
        assert chi2 < degrees + 5 * math.sqrt(2 * degrees), (chi2, degrees)
        # A uniform model would be found out by the same test.
        flat = np.full(len(p), num / len(p))
        assert ((seen - flat) ** 2 / flat).sum() > len(p) + 5 * math.sqrt(2 * len(p))


@pytest.mark.parametrize("form", FORMS)
def test_gpt_is_causal(form):
    model, variables = build_gpt(TEXT, **FORMS[form])
    cache = model.decoder.start(variables, {}, 1, 4)

    def embedded(table):
        params = {**variables.params["model"], "token_embedding": table}
        v = variables.replace(params={"model": params})
        return model.decoder.step(v, cache, jnp.arange(4)[None])[0][0]

    # Token t is read at position t alone: the gradient of logits t' with respect to its embedding.
    jacobian = jax.jacobian(embedded)(variables.params["model"]["token_embedding"])
    reach = np.abs(np.asarray(jacobian)).sum((1, 3))[:, :4]
    if "tied" in FORMS[form]:
        rows = jnp.arange(4)[None]
        for t in range(4):
            other = rows.at[0, t].set((t + 1) % 4)
            a, b = (model.decoder.step(variables, cache, x)[0][0] for x in (rows, other))
            assert bool((a[:t] == b[:t]).all())
            assert float(jnp.abs(a[t:] - b[t:]).min(axis=1).max()) > 1e-6
    else:
        assert np.all(reach[np.triu_indices(4, 1)] == 0)
        assert np.all(reach[np.tril_indices(4)] > 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_cache_equals_no_cache(form):
    spec = Spec({"tokens": Element((13,), "int32", 7, "tokens", "target")})
    for model, variables in (build_gpt(spec, **FORMS[form]), train_ngram(spec, batch(spec, 40), order=4)):
        tokens = jnp.asarray(batch(spec, 3)["tokens"][:, :-1])
        decoder, step = model.decoder, jax.jit(model.decoder.step)
        whole, _ = step(variables, decoder.start(variables, {}, 3, 12), tokens)
        assert whole.shape == (3, 12, 7)
        mean, _ = model.likelihood(
            variables, {"tokens": jnp.pad(tokens, ((0, 0), (0, 1))), "mask": np.ones(3)}, None
        )
        nats = -jnp.take_along_axis(
            jax.nn.log_softmax(whole), jnp.pad(tokens, ((0, 0), (0, 1)))[:, 1:, None], 2
        )
        np.testing.assert_allclose(nats.sum((1, 2)), mean.total, rtol=1e-5)
        cache, parts = decoder.start(variables, {}, 3, 20), []
        for part in jnp.split(tokens, (1, 2, 7), axis=1):
            # Two more tokens are read and refused: they must leave no trace.
            logits, trail = step(variables, cache, jnp.pad(part, ((0, 0), (0, 2)), constant_values=6))
            parts.append(logits[:, : part.shape[1]])
            cache = decoder.commit(trail, jnp.full((3,), part.shape[1]))
        difference = np.abs(jnp.concatenate(parts, axis=1) - whole).max()
        assert difference <= 1e-5 * np.abs(whole).max()
        # Rows that keep different counts go on each from where it is.
        _, trail = step(variables, decoder.start(variables, {}, 3, 20), tokens[:, :6])
        counts = jnp.array([1, 4, 6])
        following = jnp.stack([tokens[i, n : n + 3] for i, n in enumerate((1, 4, 6))])
        logits, _ = step(variables, decoder.commit(trail, counts), following)
        expected = jnp.stack([whole[i, n : n + 3] for i, n in enumerate((1, 4, 6))])
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(whole).max()


def test_ngram_equals_a_count():
    rows = batch(TEXT, 24)
    held = batch(TEXT, 6, seed=1)
    pairs, totals = collections.Counter(), collections.Counter()
    for row in rows["tokens"].tolist():
        for t in range(1, 5):
            context = (None, row[t - 1]) if t == 1 else (row[t - 2], row[t - 1])
            for k in range(3):
                pairs[context[2 - k :], row[t]] += 1
                totals[context[2 - k :]] += 1

    def backoff(context, x, strength=1.5):
        p = 1 / 4
        for k in range(3):
            c = context[2 - k :]
            p = (pairs[c, x] + strength * p) / (totals[c] + strength)
        return p

    def additive(context, x, delta=0.5):
        return (pairs[context, x] + delta) / (totals[context] + 4 * delta)

    forms: list[tuple[Any, dict[str, Any]]] = [(backoff, {"strength": 1.5})]
    forms.append((additive, {"smoothing": "additive", "strength": 0.5}))
    for p, fields in forms:
        model, variables = train_ngram(TEXT, rows, order=3, parts=3, **fields)
        mean, _ = model.likelihood(variables, held, None)
        expected = []
        for row in held["tokens"].tolist():
            contexts = [(None, row[0]), *((row[t - 2], row[t - 1]) for t in range(2, 5))]
            expected.append(-sum(math.log(p(c, x)) for c, x in zip(contexts, row[1:], strict=True)))
        np.testing.assert_allclose(mean.total, expected, rtol=1e-5)
        assert int(variables.state.rows) == 24


def test_ngram_counts_do_not_depend_on_how_they_are_gathered():
    rows = batch(IMAGES, 24)
    rows["mask"][5:7] = 0
    fields = {"order": 3, "context": "nearest", "position": True}
    model, whole = train_ngram(IMAGES, rows, **fields)
    _, parts = train_ngram(IMAGES, rows, parts=4, **fields)
    optimizers = {"model": optax.adamw(1e-3)}
    state = jax.jit(lambda key: create(model, optimizers, key, rows))(jax.random.key(0))
    step = jax.jit(make_step(model, optimizers, accumulate=3), static_argnums=4)
    accumulated = step(state, {}, rows, jax.random.key(1), ("nll",))[0].variables
    mapped = jax.pmap(
        make_step(model, optimizers), AXIS, static_broadcasted_argnums=4, in_axes=(None, None, 0, None)
    )
    shards = {k: v.reshape(8, 3, *v.shape[1:]) for k, v in rows.items()}
    state, metrics = mapped(state, {}, shards, jax.random.key(1), ("nll",))
    for other in (parts.state, accumulated.state, jax.tree.map(lambda x: x[3], state.variables.state)):
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), whole.state, other)))
    assert int(whole.state.totals[0][0]) == 2 * 22 * 4
    loss = jax.jit(make_step(model, optimizers), static_argnums=4)(
        create(model, optimizers, jax.random.key(0), rows), {}, rows, jax.random.key(1), ("nll",)
    )[1]["nll/loss"]
    np.testing.assert_allclose(metrics["nll/loss"].value[0], loss.value, rtol=1e-6)


def test_more_passes_change_no_probability():
    rows = batch(TEXT, 24)
    model, once = train_ngram(TEXT, rows, order=3)
    _, thrice = train_ngram(TEXT, rows, order=3, passes=3)
    assert int(thrice.state.rows) == 72
    held = batch(TEXT, 8, seed=3)
    a, b = (model.likelihood(v, held, None)[0].total for v in (once, thrice))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_nearest_pixels_come_before():
    for shape in ((8, 8, 1), (4, 4, 3)):
        found = nearest(6, shape)
        assert len({n.lag for n in found}) == 6
        assert min(n.lag for n in found) >= 1
    assert [(n.lag, n.dx) for n in nearest(4, (8, 8, 1))] == [(1, -1), (8, 0), (9, -1), (7, 1)]
    assert [n.lag for n in nearest(4, (4, 4, 3))] == [1, 2, 3, 12]


def test_labels_condition_and_are_dropped():
    rows = batch(IMAGES, 64)
    rows["image"] = np.broadcast_to((2 * rows["label"])[:, None, None, None], (64, 2, 2, 1)).astype(np.uint8)
    counted = train_ngram(IMAGES, rows, order=1, strength=0.01)
    model = gpt.build(gpt.Config(layers=1, heads=2, width=16, condition_dropout=0.5), IMAGES, {})
    optimizers = {"model": optax.adam(1e-2)}
    state = jax.jit(lambda key: create(model, optimizers, key, rows))(jax.random.key(0))
    step = jax.jit(make_step(model, optimizers), static_argnums=4)
    for _ in range(60):
        state, _ = step(state, {}, rows, jax.random.key(1), ("nll",))
    keys, label = jax.random.split(jax.random.key(2), 64), jnp.arange(64) % 2

    def right(built: tuple[Any, Variables], **knobs) -> float:
        drawn = built[0].sample(built[1], keys, {"label": label}, **knobs)
        assert drawn["image"].shape == (64, 2, 2, 1)
        assert drawn["image"].dtype == jnp.uint8
        assert bool((drawn["label"] == label).all())
        return float((drawn["image"] == (2 * label)[:, None, None, None]).mean())

    learned = (model, state.variables)
    for built in (counted, learned):
        assert right(built) > 0.95
        free = built[0].sample(built[1], keys, {})["image"][:, 0, 0, 0]
        assert 0.05 < float((free == 0).mean()) < 0.95
        known, unknown = (
            float(built[0].likelihood(built[1], rows, None, label=flag)[0].total.mean())
            for flag in (True, False)
        )
        assert known + 0.3 < unknown
    assert right(learned, temperature=3.0, guidance=4.0) > right(learned, temperature=3.0)


def test_dropout_is_by_row_and_only_in_training():
    model, variables = build_gpt(TEXT, layers=1, dropout=0.5, condition_dropout=0.0)
    rows, keys = batch(TEXT, 4), jax.random.split(jax.random.key(3), 4)
    objective = model.phases["nll"].objective
    trained = jax.jit(lambda part, keys: objective(variables, part, keys, step=jnp.int32(0))[0].total)
    tested = jax.jit(lambda part, keys: objective(variables, part, keys, step=None)[0].total)
    halves = [({k: v[i : i + 2] for k, v in rows.items()}, keys[i : i + 2]) for i in (0, 2)]
    together = float(trained(rows, keys))
    assert math.isclose(together, sum(float(trained(*half)) for half in halves), rel_tol=1e-5)
    assert not math.isclose(together, float(trained(rows, keys[::-1])), rel_tol=1e-4)
    assert float(tested(rows, keys)) == float(tested(rows, keys[::-1]))


def test_configs_that_cannot_be():
    with pytest.raises(ConfigError, match="multiple of heads"):
        gpt.build(gpt.Config(width=10, heads=4), TEXT, {})
    with pytest.raises(ConfigError, match="bins"):
        ngram.build(
            ngram.Config(order=6), Spec({"tokens": Element((65,), "int32", 256, "tokens", "target")}), {}
        )
    with pytest.raises(ValueError, match="order"):
        ngram.Config(order=0)
    with pytest.raises(ConfigError, match="discrete"):
        ngram.build(ngram.Config(), Spec({"point": Element((2,), "float32", None, "point", "target")}), {})
    model, variables = build_gpt(TEXT)
    with pytest.raises(ConfigError, match="learned positions"):
        model.sample(variables, jax.random.split(jax.random.key(0), 1), {}, length=9)
