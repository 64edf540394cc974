"""Attention and linear layers: every form computes the same function and the same gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import ConfigError
from genjax.nn import attention
from genjax.nn.embedding import lookup, rotary
from genjax.nn.linear import linear, linears


def _inputs(T: int, heads: int, kv: int, D: int = 8, B: int = 2) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = ((B, T, heads, D), (B, T, kv, D), (B, T, kv, D), (B, T, heads, D))
    return tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))


def _check(found, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert float(jnp.abs(a - b).max()) <= tolerance * max(1.0, float(jnp.abs(b).max()))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv", [4, 2, 1])
def test_attend_equals_jax(causal, kv):
    q, k, v, g = _inputs(11, 4, kv)
    reference = lambda *x: jax.nn.dot_product_attention(*x, is_causal=causal, implementation="xla")
    ours = lambda *x: attention.attend(*x, causal=causal)
    (a, back), (b, expected) = jax.vjp(ours, q, k, v), jax.vjp(reference, q, k, v)
    _check((a, back(g)), (b, expected(g)))


def test_chunked_equals_dense_and_keeps_nothing_quadratic(monkeypatch):
    monkeypatch.setattr(attention, "CHUNK", 16)
    q, k, v, g = _inputs(200, 2, 1)
    for causal in (True, False):
        forms = [
            jax.vjp(lambda *x, c=causal, f=form: attention.attend(*x, causal=c, implementation=f), q, k, v)
            for form in ("dense", "chunked")
        ]
        (a, back), (b, expected) = forms
        _check((b, expected(g)), (a, back(g)))
        kept = [max(x.size for x in jax.tree.leaves(f[1])) for f in forms]
        assert kept[0] >= 200 * 200
        assert kept[1] < 200 * 200


@pytest.mark.parametrize(("T", "kv", "cap"), [(24, 4, None), (29, 2, 5.0)])
def test_banded_equals_dense(T: int, kv: int, cap: float | None):
    """Whole blocks of 8 and a rest; segments that begin and end inside of blocks, and padding."""
    q, k, v, g = _inputs(T, 4, kv)
    segment = jnp.stack([jnp.full((T,), 1), jnp.where(jnp.arange(T) < 11, 1, 2) * (jnp.arange(T) < T - 3)])
    for segments in (None, segment):
        rule = attention.Rule(causal=True, window=8, cap=cap, query_segment=segments, key_segment=segments)
        forms = [
            jax.vjp(lambda *x, f=form, r=rule: attention.attend(*x, r, implementation=f), q, k, v)
            for form in ("banded", "dense")
        ]
        (a, back), (b, expected) = forms
        real = jnp.ones((2, T)) if segments is None else (segments > 0).astype(jnp.float32)
        # A query without keys averages what its form happens to read; no one uses it.
        g = g * real[:, :, None, None]
        _check((a * real[:, :, None, None], back(g)), (b * real[:, :, None, None], expected(g)))


def test_banded_is_chosen_for_short_windows_and_keeps_nothing_quadratic():
    q, k, v, _ = _inputs(400, 2, 1)
    rule = attention.Rule(causal=True, window=20)
    assert attention._fastest(q, 400, rule) == "banded"
    assert attention._fastest(q, 400, rule.replace(window=200)) == "dense"
    assert attention._fastest(q, 400, rule.replace(causal=False)) == "dense"
    _, back = jax.vjp(lambda *x: attention.attend(*x, rule), q, k, v)
    assert max(x.size for x in jax.tree.leaves(back)) <= 2 * 2 * 400 * 40
    for wrong in (rule.replace(causal=False), rule.replace(window=0)):
        with pytest.raises(ConfigError, match="causal attention with a window"):
            attention.attend(q, k, v, wrong, implementation="banded")


def test_positions_hide_slots_that_are_not_filled():
    q, k, v, _ = _inputs(6, 2, 2)
    positions = jnp.array([[0, 1, 2, 3, 4, 5], [2, 2, 2, 2, 2, 2]])
    empty = attention.KV.empty(2, 2, 9, 8, "float32")
    out = empty.write(k, v, jnp.zeros(2, jnp.int32)).attend(q, positions)
    _check(out[0], attention.attend(q, k, v, causal=True)[0])
    _check(out[1], attention.attend(q, k[:, :3], v[:, :3])[1])
    cache = empty.write(k.at[1, 3:].set(1e3), v.at[1, 3:].set(1e3), jnp.zeros(2, jnp.int32))
    poisoned = cache.attend(q, positions)
    assert np.array_equal(poisoned[1], out[1])


def test_write_is_by_row():
    new = jnp.arange(1.0, 5).reshape(2, 2, 1, 1)
    cache = attention.KV.empty(2, 1, 6, 1, "float32").write(new, -new, jnp.array([0, 3]))
    assert cache.key[:, 0, :, 0].tolist() == [[1, 2, 0, 0, 0, 0], [0, 0, 0, 3, 4, 0]]
    assert np.array_equal(cache.value, -cache.key)


def test_linear_forms_have_the_product_s_gradient():
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))
    kernels = tuple(jax.random.normal(jax.random.key(i), (8, n)) for i, n in enumerate((8, 4, 6)))
    (a, back), (b, expected) = (
        jax.vjp(f, x, kernels)
        for f in (linears, lambda x, ks: tuple(jnp.einsum("bti,io->bto", x, k) for k in ks))
    )
    g = jax.tree.map(jnp.cos, b)
    _check((a, back(g)), (b, expected(g)))
    a, back = jax.vjp(linear, x, kernels[0])
    assert float(jnp.abs(a - b[0]).max()) < 1e-5
    _check(back(g[0])[1], expected((g[0], 0 * g[1], 0 * g[2]))[1][0])
    half = linear(x.astype(jnp.bfloat16), kernels[0].astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("rows", [7, 3000])
def test_lookup_has_the_gather_s_gradient(rows):
    table = jax.random.normal(jax.random.key(0), (rows, 4))
    tokens = jax.random.randint(jax.random.key(1), (3, 9), 0, rows)
    (a, back), (b, expected) = (
        jax.vjp(lambda t, f=f: f(t, tokens), table) for f in (lookup, lambda t, i: t[i])
    )
    _check((a, back(jnp.sin(b))), (b, expected(jnp.sin(b))))


def test_rotary_depends_on_distances_alone():
    q, k, _, _ = _inputs(1, 1, 1)
    at = lambda x, p: rotary(x, jnp.full((2, 1), p))
    near, far = (jnp.sum(at(q, a) * at(k, b)) for a, b in ((5, 2), (105, 102)))
    assert abs(float(near - far)) < 1e-4
    assert abs(float(near - jnp.sum(at(q, 5) * at(k, 4)))) > 1e-3
    assert float(jnp.abs(at(q, 0) - q).max()) == 0
