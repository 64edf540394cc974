"""Group normalisation against linen's and a float64 definition, its folded condition, and its derivatives."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.groupnorm import GroupNorm, group_norm


def draw(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def linen(x, groups, scale, shift):
    """Linen's norm, then a row's scale and shift, then SiLU: each a step of its own."""
    y = nn.GroupNorm(num_groups=groups, use_scale=False, use_bias=False).apply({}, x)
    return nn.silu(y * scale[:, None, None] + shift[:, None, None])


@pytest.mark.parametrize(("shape", "groups"), [((3, 5, 4, 8), 4), ((2, 7, 7, 6), 6), ((2, 3, 3, 6), 1)])
@pytest.mark.parametrize("rows", [1, None])
def test_values_and_gradients_are_linens(shape, groups, rows):
    rows = rows or shape[0]
    x, scale, shift = 2 * draw(0, *shape) + 1, draw(1, rows, shape[-1]), draw(2, rows, shape[-1])
    weight = draw(3, *shape)
    ours = lambda *a: (weight * group_norm(a[0], groups, a[1], a[2], silu=True)).sum()
    theirs = lambda *a: (weight * linen(a[0], groups, a[1], a[2])).sum()
    value = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(x, scale, shift)
    expected = jax.jit(jax.value_and_grad(theirs, (0, 1, 2)))(x, scale, shift)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), value, expected)


def test_the_definition_in_double_precision():
    x = 3 * draw(0, 2, 4, 6, 8) - 2
    y = np.asarray(x, np.float64).reshape(2, 24, 2, 4)
    y = (y - y.mean((1, 3), keepdims=True)) / np.sqrt(y.var((1, 3), keepdims=True) + 1e-6)
    np.testing.assert_allclose(group_norm(x, 2), y.reshape(x.shape), atol=1e-5)


def test_forward_mode_and_second_order_agree_with_linen():
    x, dx = draw(0, 2, 4, 4, 8), draw(1, 2, 4, 4, 8)
    scale, shift = draw(2, 2, 8), draw(3, 2, 8)

    def penalty(f):
        gradient = jax.grad(lambda x: jnp.sin(f(x, 4, scale, shift)).sum())
        return jax.jit(lambda x: jax.jvp(jax.grad(lambda x: jnp.square(gradient(x)).sum()), (x,), (dx,)))

    ours = penalty(lambda *a: group_norm(*a, silu=True))(x)
    for a, b in zip(ours, penalty(linen)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(b).max()))


def test_module_parameters_dtype_and_groups_that_do_not_divide():
    module = GroupNorm(8, dtype=jnp.bfloat16)
    x = draw(0, 2, 4, 4, 12)  # 8 groups do not divide 12 channels: 4 do
    variables = module.init(jax.random.key(0), x)
    assert {k: v.dtype for k, v in variables["params"].items()} == {"scale": "float32", "bias": "float32"}
    y = module.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), group_norm(x, 4), atol=0.03)
    assert GroupNorm(8, affine=False).init(jax.random.key(0), x) == {}
    with pytest.raises(ValueError, match="do not divide"):
        group_norm(x, 8)
