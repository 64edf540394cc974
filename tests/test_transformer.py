"""The transformer's forms: chunked is dense, cached is whole, packed is apart, nothing sees later tokens."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import ConfigError
from genjax.evaluation import flops
from genjax.nn import attention
from genjax.nn.relative import Bias, RelativeBias
from genjax.nn.transformer import Stack, Transformer

B, T, S, W = 2, 12, 5, 16
MODERN = {"norm": "rmsnorm", "activation": "swiglu", "rope": True, "kv_heads": 2}
FORMS: dict[str, dict[str, Any]] = {
    "gpt2": {"bias": True},
    "modern": {**MODERN, "rope_base": 500.0, "qk_norm": True},
    "capped": {**MODERN, "logit_cap": 2.0, "windows": (3, 0), "activation": "relu2"},
    "windows": {"windows": (4,), "kv_heads": 1, "remat": True},
    "t5": {
        "norm": "rmsnorm",
        "activation": "geglu",
        "relative": RelativeBias(8, 10),
        "scale": 1.0,
        "head_features": 6,
    },
    "postnorm": {"prenorm": False, "bias": True, "activation": "gelu", "norm_epsilon": 1e-12},
    "memory": {"cross": True, "qk_norm": True, "relative": RelativeBias(8, 10)},
}


@functools.cache
def built(form: str, **fields) -> tuple[Transformer, dict, jax.Array, dict]:
    """(network, variables with large weights, input, what is called beside it)."""
    stack = Stack(2, 4, W, 24, init_std=0.3, relative_std=2.0, **{**FORMS[form], **fields})
    network, x = Transformer(stack), jax.random.normal(jax.random.key(1), (B, T, W))
    beside = {}
    if stack.cross:
        beside["memory"] = jax.random.normal(jax.random.key(2), (B, S, W))
        beside["memory_mask"] = jnp.arange(S)[None, :] < jnp.array([[S], [3]])
    variables = jax.jit(lambda: network.init(jax.random.key(0), x, places(x), **beside))()
    keys = iter(jax.random.split(jax.random.key(3), 200))
    moved = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), variables)
    return network, moved, x, beside


def places(x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(x.shape[1])[None], x.shape[:2])


def close(a: jax.Array, b: jax.Array) -> None:
    assert float(jnp.abs(a - b).max()) <= 1e-5 * float(jnp.abs(b).max())


@pytest.mark.parametrize("form", FORMS)
def test_causal(form):
    network, variables, x, beside = built(form)
    run = jax.jit(lambda x: network.apply(variables, x, places(x), **beside)[0])
    whole = run(x)
    changed = run(x.at[:, 7].set(x[:, 0]))
    assert bool((whole[:, :7] == changed[:, :7]).all())
    assert float(jnp.abs(whole - changed)[:, 7:8].max()) > 1e-2
    # Two layers of windows reach as far as they say, and no further.
    reach = {"windows": 2 * 3}.get(form, T)
    assert bool((whole[:, 8 + reach :] == changed[:, 8 + reach :]).all())
    assert float(jnp.abs(whole - changed)[:, 8 : 8 + reach].max(-1).min()) > 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_cached_is_whole(form):
    network, variables, x, beside = built(form)

    @jax.jit
    def apart(variables):
        caches = network.apply(variables, B, T + 3, beside.get("memory"), method="begin")
        mask = {k: v for k, v in beside.items() if k == "memory_mask"}
        parts, at = [], 0
        for size in (5, 1, 6):
            part = slice(at, at + size)
            y, caches = network.apply(variables, x[:, part], places(x)[:, part], caches, **mask)
            parts, at = [*parts, y], at + size
        return jnp.concatenate(parts, axis=1), caches

    whole = jax.jit(lambda x: network.apply(variables, x, places(x), **beside)[0])(x)
    y, caches = apart(variables)
    close(y, whole)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(caches))
    assert size == Transformer.cache_bytes(network.stack, B, T + 3, S)


@pytest.mark.parametrize("form", FORMS)
def test_packed_is_apart(form):
    network, variables, x, beside = built(form)
    half = T // 2
    segments = jnp.repeat(jnp.array([[1, 2], [3, 0]]), half, axis=1)
    positions = places(x) % half

    def packed(x):
        y = network.apply(variables, x, positions, **beside, segments=segments)[0]
        return y.reshape(4, half, W)[:3]

    def apart(x):
        rows = x.reshape(4, half, W)[:3]
        mine = {k: v[jnp.array([0, 0, 1])] for k, v in beside.items()}
        return network.apply(variables, rows, positions[:1, :half].repeat(3, 0), **mine)[0]

    def both(f):
        y, back = jax.vjp(f, x)
        return y, back(jnp.sin(y))[0]

    for a, b in zip(*jax.jit(lambda: (both(packed), both(apart)))(), strict=True):
        close(a, b)


@pytest.mark.parametrize("form", ["postnorm", "t5"])
def test_padding_is_not_seen(form):
    network, variables, x, _ = built(form, causal=False)
    mask = (places(x) < jnp.array([[12], [8]])).astype(jnp.float32)
    run = jax.jit(lambda x, mask: network.apply(variables, x, places(x), mask=mask)[0])
    y, other = run(x, mask), run(x.at[1, 8:].set(x[1, :4]), mask)
    assert bool((y[1, :8] == other[1, :8]).all())
    whole = jax.jit(lambda x: network.apply(variables, x, places(x))[0])
    close(y[1:, :8], whole(x[1:, :8]))
    close(y[:1], whole(x[:1]))
    # It sees both ways.
    later = run(x.at[0, 11].set(x[0, 0]), mask)
    assert float(jnp.abs(later - y)[0].max(-1).min()) > 1e-4


def rule(causal: bool, form: str) -> attention.Rule:
    segment = jnp.array([[1] * 9 + [2] * 8 + [5] * 5, [1] * 17 + [0] * 5])
    table = jax.random.normal(jax.random.key(7), (8, 4))
    return {
        "plain": attention.Rule(causal=causal),
        "window": attention.Rule(scale=0.3, causal=causal, window=7, cap=1.5),
        "padding": attention.Rule(causal=causal, key_segment=segment),
        "all": attention.Rule(
            1.0, causal, 5, 4.0, Bias(table, RelativeBias(8, 20), causal), segment, segment
        ),
    }[form]


def by_hand(q, k, v, r: attention.Rule) -> np.ndarray:
    """Query by query and key by key, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    r = jax.tree.map(np.asarray, r)
    out = np.zeros(q.shape)
    for b, t, h in np.ndindex(*q.shape[:3]):
        scores, seen = [], []
        for s in range(k.shape[1]):
            if (r.causal and s > t) or (r.window and abs(t - s) >= r.window):
                continue
            if r.key_segment is not None and r.key_segment[b, s] == 0:
                continue
            if r.query_segment is not None and r.query_segment[b, t] != r.key_segment[b, s]:
                continue
            score = q[b, t, h] @ k[b, s, h // 2] * (8**-0.5 if r.scale is None else r.scale)
            if r.bias is not None:
                score += float(r.bias.table[buckets(s - t, r.causal), h])
            scores.append(score if r.cap is None else r.cap * np.tanh(score / r.cap))
            seen.append(v[b, s, h // 2])
        if seen:
            w = np.exp(np.array(scores) - max(scores))
            out[b, t, h] = w @ np.array(seen) / w.sum()
    return out


def buckets(distance: int, causal: bool, number: int = 8, most: int = 20) -> int:
    """The text of Raffel et al.: half of the buckets exact, the others logarithmic up to `most`."""
    number, side = (number, 0) if causal else (number // 2, (distance > 0) * number // 2)
    far = max(-distance, 0) if causal else abs(distance)
    exact = number // 2
    if far < exact:
        return side + far
    wide = exact + int(np.log(far / exact) / np.log(most / exact) * (number - exact))
    return side + min(wide, number - 1)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("chunk", [5, 8])  # causal: in parts and whole
def test_attention_by_hand(causal, chunk, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK", chunk)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, g = (jax.random.normal(key, (2, 22, n, 8)) for key, n in zip(keys, (4, 2, 2, 4), strict=True))
    for form in ("plain", "window", "padding", "all"):
        r = rule(causal, form)
        g = g if r.query_segment is None else g * (r.query_segment > 0)[:, :, None, None]

        def both(q, k, v, table, r=r, g=g):
            used = r if r.bias is None else r.replace(bias=r.bias.replace(table=table))
            out = []
            for way in ("dense", "chunked"):
                run = lambda *x, way=way: attention.attend(*x, implementation=way) * (g != 0)
                y, back = jax.vjp(run, q, k, v, used)
                *grads, rest = back(g)
                out.append((y, *grads, rest.bias.table if r.bias is not None else y))
            return out

        table = jnp.zeros(()) if r.bias is None else r.bias.table
        dense, chunked = jax.jit(both)(q, k, v, table)
        expected = by_hand(q, k, v, r) * np.asarray(g != 0)
        assert np.abs(dense[0] - expected).max() <= 1e-5 * np.abs(expected).max(), form
        for a, b in zip(chunked, dense, strict=True):
            assert float(jnp.abs(a - b).max()) <= 2e-5 * float(jnp.abs(b).max()), form


def test_windows_cost_what_they_see(monkeypatch):
    monkeypatch.setattr(attention, "CHUNK", 64)

    def products(T: int, window: int) -> float:
        def total(q, k, v):
            r = attention.Rule(causal=True, window=window)
            return attention.attend(q, k, v, r, implementation="chunked").sum()

        return flops.count(
            jax.grad(total, (0, 1, 2)), *[jax.ShapeDtypeStruct((1, T, 1, 8), jnp.float32)] * 3
        ).matmul

    assert products(1024, 32) == 2 * products(512, 32)
    assert products(1024, 0) == 4 * products(512, 0)
    # Causal and unbounded: the n-th of four parts looks at n fourths of the keys.
    assert products(1024, 32) * 1024 * 5 / 8 == products(1024, 0) * (64 + 31)


def test_stacks_that_cannot_be():
    for fields, says in (
        ({"windows": ()}, "windows"),
        ({"rope": True, "head_features": 3}, "even"),
        ({"kv_heads": 3}, "kv_heads"),
        ({"width": 10}, "multiple of heads"),
    ):
        with pytest.raises(ConfigError, match=says):
            Stack(**{"layers": 1, "heads": 4, "width": 16, "hidden": 8, **fields})
    network, variables, x, _ = built("gpt2")
    with pytest.raises(ValueError, match="whole sequences"):
        network.apply(variables, x, places(x), Transformer.cache(network.stack, B, T), mask=places(x))
    network, variables, x, _ = built("memory")
    with pytest.raises(ValueError, match="memory"):
        network.apply(variables, x, places(x))
