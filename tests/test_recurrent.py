"""Recurrent networks: derivative, truncated backpropagation, documents, decoder, rolls, images."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import shaken

from genjax.core import Element, Spec, Variables, row_keys
from genjax.models import rnn
from genjax.nn.recurrent import CELLS, Cell, Layer, Recurrent, unroll
from genjax.sampling import speculative
from genjax.sampling.autoregressive import generate

V, T, B = 7, 6, 4
TEXT = Spec({"tokens": Element((T + 1,), "int32", V, "tokens", "target")})
DOCUMENTS = Spec({**TEXT.elements, "segment": Element((T + 1,), "int32")})
IMAGES = Spec(
    {
        "image": Element((2, 3, 1), "uint8", 3, "image", "target"),
        "label": Element((), "int32", 2, "label", "condition"),
    }
)
ROLLS = Spec(
    {"roll": Element((T + 1, 5), "uint8", 2, "roll", "target"), "token_mask": Element((T,), "float32")}
)
FORMS = {
    "elman": {"cell": "elman"},
    "lstm": {"cell": "lstm"},
    "gru": {"cell": "gru"},
    "elman normalised": {"cell": "elman", "layer_norm": True, "tied": True, "embedding": 6},
    "lstm normalised": {"cell": "lstm", "layer_norm": True, "tied": True, "layers": 1},
    "gru normalised": {"cell": "gru", "layer_norm": True},
}


def build(spec: Spec, **fields) -> tuple[Any, Variables]:
    """A small network whose weights are large enough that its predictions differ."""
    fields = {"layers": 2, "width": 10, "condition_dropout": 0.0, **fields}
    model = rnn.build(rnn.Config(**fields), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(2), {}))(jax.random.key(0))
    return model, variables.replace(params=shaken(variables.params, 0.3))


def text(rows: int = B, seed: int = 0, length: int = T) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, (rows, length + 1)).astype(np.int32)


def batch_of(tokens: np.ndarray, **more) -> dict:
    return {"tokens": jnp.asarray(tokens), "mask": jnp.ones(len(tokens)), **more}


def nats(model, variables, batch) -> tuple[jax.Array, Any]:
    batch = {"carry": model.carry(batch), **batch}
    mean, carry = jax.jit(model.likelihood)(variables, batch, None)
    return mean.total, carry


def draw(n: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(n).normal(size=shape), jnp.float32)


def cell_of(form: str) -> tuple[Cell, dict]:
    """A form's cell with vectors for width 5, all away from their starting values."""
    cell, small = CELLS[FORMS[form]["cell"]], {}
    if "normalised" in form:
        cell = cell._replace(summed=False)
        names = {"elman": ("bias",), "lstm": ("cell_scale", "cell_bias"), "gru": ()}[form.split()[0]]
        small = {"scale": draw(60, 5 * cell.gates), **{k: draw(61 + n, 5) for n, k in enumerate(names)}}
    if "gru" in form:
        small["candidate_bias"] = draw(65, 5)
    return cell, small


def looped(cell, kernel, small, inputs, state, keep, mask):
    """`unroll` as a plain loop, whose derivative is the derived one."""
    after = []
    for x, k in zip(inputs, keep, strict=True):
        state = tuple(s * k[:, None] for s in state)
        r = (state[0] * mask) @ kernel
        state = cell.step(small, x + r, None, state) if cell.summed else cell.step(small, x, r, state)
        after.append(state)
    return jax.tree.map(lambda *a: jnp.stack(a), *after)


@pytest.mark.parametrize("form", FORMS)
def test_the_scan_s_own_derivative_is_the_derived_one(form):
    """Also where states are zeroed, masked and used from outside, and for one step as for many."""
    cell, small = cell_of(form)
    G, state = 5 * cell.gates, tuple(draw(n, 3, 5) for n in range(cell.states))
    mask = 2.0 * (draw(12, 3, 5) > 0)
    for steps in (1, 8):
        keep = (draw(13, steps, 3) > -0.5).astype(jnp.float32)
        assert 0 < float(keep.mean()) < 1
        weights = [draw(20 + n, steps, 3, 5) for n in range(cell.states)]

        def total(run, kernel, small, inputs, state, keep=keep, weights=weights):
            after = run(cell, kernel, small, inputs, state, keep, mask)
            return sum((a * w).sum() for a, w in zip(after, weights, strict=True))

        arguments = (draw(30, 5, G), small, draw(31, steps, 3, G), state)
        take = jax.jit(jax.value_and_grad(total, (1, 2, 3, 4)), static_argnums=0)
        ours, theirs = take(unroll, *arguments), take(looped, *arguments)
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert np.abs(x - y).max() <= 1e-5 * max(1.0, float(jnp.abs(y).max()))
            assert float(jnp.abs(y).max()) > 1e-3


def test_normalised_cells_are_the_paper_s():
    """Ba et al. 2016, the supplement, for one step of each cell from numpy."""

    def norm(x, scale):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for kind, parts in (("elman", 1), ("lstm", 2), ("gru", 1)):
        layer = Layer(kind, 5, True)  # type: ignore[arg-type]
        x, state = draw(1, 1, 3, 4), tuple(draw(2 + n, 3, 5) for n in range(parts))
        params = jax.jit(layer.init)(jax.random.key(0), x, state)["params"]
        params = jax.tree.map(lambda p: p + 0.3 * draw(p.size, *p.shape), params)
        got = layer.apply({"params": params}, x, state)
        p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
        x, state = (jax.tree.map(lambda a: np.asarray(a, np.float64), a) for a in (x[0], state))
        W, U, b, s = x @ p["input"]["kernel"], state[0] @ p["recurrent"]["kernel"], p["bias"], None
        u = p["recurrent_scale"]
        if kind == "elman":
            expected = (np.tanh(norm(W + U, u) + b),)
        elif kind == "lstm":
            i, f, g, o = np.split(norm(U, u) + norm(W, p["input_scale"]) + b, 4, axis=-1)
            c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
            expected = (sigmoid(o) * np.tanh(norm(c, p["cell_scale"]) + p["cell_bias"]), c)
        else:
            s = p["input_scale"]
            gates = norm(W[:, :10], s[:10]) + norm(U[:, :10], u[:10]) + b[:10]
            reset, update = np.split(sigmoid(gates), 2, axis=-1)
            n = norm(W[:, 10:], s[10:]) + b[10:] + reset * (norm(U[:, 10:], u[10:]) + p["candidate_bias"])
            expected = ((1 - update) * np.tanh(n) + update * state[0],)
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours[0], theirs, rtol=1e-4, atol=1e-5)


def test_states_are_kept_at_first():
    """Recurrent kernels begin orthogonal, gate by gate, and an LSTM's forget gate open."""
    params = Layer("lstm", 6).init(jax.random.key(0), draw(0, 1, 1, 4), (draw(1, 1, 6), draw(2, 1, 6)))[
        "params"
    ]
    for square in jnp.split(params["recurrent"]["kernel"], 4, axis=1):
        np.testing.assert_allclose(square.T @ square, np.eye(6), atol=1e-5)
    assert params["bias"].tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_a_lane_are_one_long_sequence(form):
    long = text(length=3 * T)
    model, variables = build(TEXT, **FORMS[form])
    whole_model, _ = build(
        Spec({"tokens": Element((3 * T + 1,), "int32", V, "tokens", "target")}), **FORMS[form]
    )
    whole, _ = nats(whole_model, variables, batch_of(long))
    carry, parts = model.carry(batch_of(long)), []
    for n in range(3):
        total, carry = nats(model, variables, batch_of(long[:, n * T : (n + 1) * T + 1], carry=carry))
        parts.append(total)
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-5)
    alone = [nats(model, variables, batch_of(long[:, n * T : (n + 1) * T + 1]))[0] for n in range(3)]
    assert float(jnp.abs(sum(alone) - whole).min()) > 1e-3


@pytest.mark.parametrize("cell", CELLS)
def test_a_reset_begins_anew_and_only_there(cell):
    model, variables = build(TEXT, cell=cell)
    first, second = text(seed=1), text(seed=2)
    _, carry = nats(model, variables, batch_of(first))
    reset = jnp.array([0.0, 1.0, 0.0, 1.0])
    got, _ = nats(model, variables, batch_of(second, carry=carry, reset=reset))
    fresh, _ = nats(model, variables, batch_of(second))
    on, _ = nats(model, variables, batch_of(second, carry=carry))
    np.testing.assert_allclose(got, jnp.where(reset > 0, fresh, on), rtol=1e-6)
    assert float(jnp.abs(fresh - on).min()) > 1e-4


def test_training_carries_over_lanes_alone():
    """Rows that are shuffled do not continue each other: without `reset` the carry is not read."""
    model, variables = build(TEXT)
    objective, keys = model.phases["nll"].objective, row_keys(jax.random.key(0), 0, jnp.arange(B))
    take = jax.jit(lambda b: objective(variables, b, keys, step=jnp.int32(0)))
    zero = model.carry(batch_of(text()))
    _, aux = take(batch_of(text(seed=1), carry=zero))
    assert jax.tree.structure(aux.carry) == jax.tree.structure(zero)
    rows = batch_of(text(seed=2))
    losses = {
        "shuffled": take({**rows, "carry": aux.carry})[0].total,
        "new": take({**rows, "carry": zero, "reset": jnp.ones(B)})[0].total,
        "lanes": take({**rows, "carry": aux.carry, "reset": jnp.zeros(B)})[0].total,
    }
    np.testing.assert_allclose(losses["shuffled"], losses["new"], rtol=1e-6)
    assert abs(float(losses["lanes"] - losses["new"])) > 1e-4
    gradient = jax.jit(
        jax.grad(
            lambda c: (
                objective(
                    variables,
                    {**rows, "carry": {**aux.carry, "state": c}, "reset": jnp.zeros(B)},
                    keys,
                    step=jnp.int32(0),
                )[1]
                .carry["state"][0][0]
                .sum()
            )
        )
    )(aux.carry["state"])
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(gradient)), "not truncated"


@pytest.mark.parametrize("form", FORMS)
def test_documents_never_see_each_other(form):
    """Packed rows, and documents that end within and between the rows of a lane, equal documents alone."""
    model, variables = build(DOCUMENTS, **FORMS[form])
    sizes = (4, 2, 5, 3, 4)  # 18 tokens, as 3 rows of 6 (and the first of the next row)
    documents = [text(1, seed=n, length=size - 1)[0] for n, size in enumerate(sizes)]
    padded = np.stack([np.pad(d, (0, T + 1 - len(d))) for d in documents])
    counted = (np.arange(T)[None] < np.array(sizes)[:, None] - 1).astype(np.float32)
    alone = float(nats(model, variables, batch_of(padded, token_mask=jnp.asarray(counted)))[0].sum())
    tokens = np.concatenate([*documents, [0]]).astype(np.int32)
    segment = np.repeat(np.arange(6), (*sizes, 1))[None] + 1
    carry, total, count = model.carry(batch_of(text(1))), 0.0, 0.0
    for n in range(3):
        at = slice(n * T, (n + 1) * T + 1)
        rows = batch_of(tokens[None, at], segment=jnp.asarray(segment[:, at]), carry=carry)
        mean, carry = jax.jit(model.likelihood)(variables, rows, None)
        total, count = total + float(mean.total[0]), count + float(mean.count[0])
    assert count == sum(sizes) - len(sizes)
    np.testing.assert_allclose(total, alone, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_cache_equals_no_cache_at_ragged_counts_too(form):
    model, variables = build(Spec({"tokens": Element((13,), "int32", V, "tokens", "target")}), **FORMS[form])
    tokens = jnp.asarray(text(3, length=11))
    decoder, step = model.decoder, jax.jit(model.decoder.step)
    fresh = decoder.start(variables, {}, 3, 12)
    whole, trail = step(variables, fresh, tokens)
    tolerance = 1e-5 * float(jnp.abs(whole).max())
    cache, parts = fresh, []
    for part in jnp.split(tokens, (1, 2, 7), axis=1):
        # Two more tokens are read and refused: they must leave no trace.
        logits, refused = step(variables, cache, jnp.pad(part, ((0, 0), (0, 2)), constant_values=6))
        parts.append(logits[:, : part.shape[1]])
        cache = decoder.commit(refused, jnp.full((3,), part.shape[1]))
    assert float(jnp.abs(jnp.concatenate(parts, axis=1) - whole).max()) <= tolerance
    counts = (0, 4, 9)
    following = jnp.stack([tokens[i, n : n + 3] for i, n in enumerate(counts)])
    logits, _ = step(variables, decoder.commit(trail, jnp.array(counts)), following)
    expected = jnp.stack([whole[i, n : n + 3] for i, n in enumerate(counts)])
    assert float(jnp.abs(logits - expected).max()) <= tolerance
    for leaf in jax.tree.leaves((fresh, trail)):
        assert leaf.shape[0] == 3, "batch-first"


@pytest.mark.parametrize("cell", CELLS)
def test_it_is_causal_and_remembers(cell):
    model, variables = build(TEXT, cell=cell, layers=1)
    cache = model.decoder.start(variables, {}, 1, T)

    def logits(table):
        params = {**variables.params["model"], "token_embedding": table}
        v = variables.replace(params={"model": params})
        return model.decoder.step(v, cache, jnp.arange(T)[None])[0][0]

    # Token t is read at step t alone: the gradient of logits t' with respect to its embedding.
    jacobian = jax.jit(jax.jacobian(logits))(variables.params["model"]["token_embedding"])
    reach = np.abs(np.asarray(jacobian)).sum((1, 3))[:, :T]
    assert np.all(reach[np.triu_indices(T, 1)] == 0)
    assert np.all(reach[np.tril_indices(T)] > 1e-7)


def everything(spec: Spec) -> dict:
    """Every image of the spec, with label 0."""
    shape, levels = spec["image"].shape, spec["image"].levels
    rows = np.array(list(itertools.product(range(levels), repeat=int(np.prod(shape)))), np.uint8)
    ones = jnp.ones(len(rows))
    return {
        "image": jnp.asarray(rows.reshape(-1, *shape)),
        "label": jnp.zeros(len(rows), jnp.int32),
        "mask": ones,
    }


def test_images_are_pixels_behind_their_label():
    model, variables = build(IMAGES, condition_dropout=0.5)
    rows = everything(IMAGES)
    assert model.carry(rows) == {}
    totals = [
        np.asarray(model.likelihood(variables, rows, None, label=given)[0].total) for given in (True, False)
    ]
    for total in totals:
        np.testing.assert_allclose(np.exp(-total.astype(np.float64)).sum(), 1, rtol=1e-4)
    assert np.abs(totals[0] - totals[1]).max() > 1e-3
    drawn = model.sample(
        variables, jax.random.split(jax.random.key(0), 5), {"label": jnp.zeros(5, jnp.int32)}
    )
    assert drawn["image"].shape == (5, 2, 3, 1)
    assert drawn["image"].dtype == jnp.uint8


@pytest.mark.parametrize("tied", [False, True])
def test_rolls_are_scored_and_drawn_frame_by_frame(tied):
    model, variables = build(ROLLS, tied=tied, cell="gru")
    r = np.random.default_rng(0)
    roll = r.integers(0, 2, (4, T + 1, 5)).astype(np.uint8)
    mask = (np.arange(T)[None] < np.array([T, 3, 1, T])[:, None]).astype(np.float32)
    rows = {"roll": jnp.asarray(roll), "token_mask": jnp.asarray(mask), "mask": jnp.ones(4)}
    assert model.carry(rows) == {}
    mean, _ = jax.jit(model.likelihood)(variables, rows, None)
    assert mean.count.tolist() == [T, 3, 1, T]
    logits, _ = model.decoder.step(
        variables, model.decoder.start(variables, {}, 4, T), rows["roll"][:, :-1].astype(jnp.int32)
    )
    p = np.asarray(jax.nn.sigmoid(logits), np.float64)
    expected = -np.log(np.where(roll[:, 1:] == 1, p, 1 - p)).sum(-1)
    np.testing.assert_allclose(mean.total, (expected * mask).sum(1), rtol=1e-4)
    # Draws given the first frame have the likelihood's frequencies: the second frame, key by key.
    num = 4000
    prompt = {"roll": jnp.broadcast_to(rows["roll"][:1, :1], (num, 1, 5))}
    drawn = model.sample(variables, jax.random.split(jax.random.key(1), num), prompt)["roll"]
    assert drawn.shape == (num, T + 1, 5)
    assert drawn.dtype == jnp.uint8
    assert bool((drawn[:, 0] == rows["roll"][0, 0][None]).all())
    seen = np.asarray(drawn[:, 1], np.float64).mean(0)
    assert (np.abs(seen - p[0, 0]) < 5 * np.sqrt(p[0, 0] * (1 - p[0, 0]) / num) + 1e-3).all()
    assert np.abs(p[0, 0] - 0.5).max() > 0.1


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_is_of_rows_and_over_time_as_asked(variational):
    stack = Recurrent("elman", 1, 64, dropout=0.5, variational=variational)
    x, zero = jnp.ones((2, 5, 64)), Recurrent.zeros("elman", 1, 64, 2)
    params = stack.init(jax.random.key(0), x, zero)["params"]
    keys = row_keys(jax.random.key(1), 0, jnp.arange(2))
    y, _ = stack.apply({"params": params}, x, zero, None, keys)
    dropped = np.asarray(y == 0)
    assert 0.35 < dropped.mean() < 0.65
    same = (dropped == dropped[:, :1]).all()
    assert same == variational
    assert (dropped[0] != dropped[1]).any()
    alone, _ = stack.apply({"params": params}, x[1:], tuple((s[1:],) for (s,) in zero), None, keys[1:])
    np.testing.assert_allclose(alone[0], y[1], rtol=1e-5, atol=1e-6)
    again, _ = stack.apply({"params": params}, x, zero)
    assert not bool((again == 0).any())


def test_padded_rows_do_not_continue_each_other():
    """Pieces of their own, with `token_mask`: evaluation must not carry one's state into the next."""
    padded = Spec({**TEXT.elements, "token_mask": Element((T,), "float32")})
    assert build(padded)[0].carry(batch_of(text())) == {}
    assert build(TEXT, carry=False)[0].carry(batch_of(text())) == {}
    assert build(TEXT)[0].carry(batch_of(text())) != {}


def test_a_network_drafted_for_by_a_gru_writes_what_it_would_alone():
    """States are taken back to what was accepted, ragged from row to row."""
    target, draft = build(TEXT, cell="elman"), build(TEXT, cell="gru", layers=1)
    target = target[0], jax.tree.map(lambda x: 2 * x, target[1])  # so that it does not repeat one token
    keys, prompts = row_keys(jax.random.key(0), 0, jnp.arange(B)), jnp.asarray(text()[:, :3])
    lengths = jnp.array([1, 3, 2, 3])
    how = {"length": 12, "lengths": lengths, "temperature": 0.0}
    alone = generate(target[0].decoder, target[1], keys, prompts, **how)
    both = speculative.generate(
        target[0].decoder, target[1], draft[0].decoder, draft[1], keys, prompts, **how
    )
    np.testing.assert_array_equal(both.tokens, alone.tokens)
    assert len(np.unique(alone.tokens)) > 4
