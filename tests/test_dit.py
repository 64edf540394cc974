"""The diffusion transformer: patches, modulation, and its place in the diffusion model."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Spec, row_keys
from genjax.errors import ConfigError
from genjax.models import diffusion
from genjax.nn import dit
from genjax.nn.denoisers.target import Target
from genjax.nn.embedding import rotary_plane

SPEC = Spec({"image": Element((4, 8, 3), "uint8", 17, "image", "target")}, 100)
TINY = diffusion.Config(
    network="transformer",
    width=16,
    blocks=2,
    head=8,
    timesteps=20,
    schedule="straight",
    prediction="flow_velocity",
)


def built(**fields):
    model = diffusion.build(dataclasses.replace(TINY, **fields), SPEC, {})
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 17, (16, 4, 8, 3)), jnp.uint8)
    batch = {"image": images, "mask": jnp.ones(16)}
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch, {})
    variables = jax.tree.map(lambda x: 0.3 * jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    return model, variables, batch


def keys(rows: int = 16):
    return row_keys(jax.random.key(0), 0, jnp.arange(rows))


def test_patches_are_in_raster_order_and_join_to_the_image():
    x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    patches = dit.to_patches(x, 2)
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[1, 4], x[1, 2:4, 2:4].reshape(-1))
    np.testing.assert_array_equal(dit.from_patches(patches, (4, 6), 2), x)


def test_positions_tell_every_patch_from_every_other():
    table = dit.positions(3, 5, 16)
    assert table.shape == (15, 16)
    distance = np.square(table[:, None] - table[None]).sum(-1) + np.eye(15)
    assert distance.min() > 0.1


@pytest.mark.parametrize(
    "fields", [{}, {"position": "rotary", "activation": "swiglu"}, {"activation": "geglu"}], ids=str
)
def test_every_parameter_has_a_gradient_and_the_first_output_is_zero(fields: dict):
    model, variables, batch = built(**fields)
    objective = model.phases["denoise"].objective
    loss = lambda v: objective(v, batch, keys(), step=jnp.zeros((), int))[0].total
    for path, g in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables)):
        assert float(jnp.abs(g).max()) > 1e-6, path
    first = jax.jit(model.init)(jax.random.key(1), batch, {})
    x_t = jnp.ones((2, 4, 8, 3))
    # The prediction is the flow: where it is zero, E[x_0 | x_t] is x_t.
    np.testing.assert_allclose(model.denoiser.denoise(first, x_t, jnp.array([0.2, 0.9]), {}), x_t, atol=1e-6)


def test_rotary_positions_are_those_of_rows_and_columns():
    """Inner products of queries and keys depend on the differences of rows and of columns."""
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 2, 8))
    at = lambda row, column: jnp.array([[[row, column]]])
    product = lambda a, b: (rotary_plane(q, at(*a)) * rotary_plane(k, at(*b))).sum(-1)
    np.testing.assert_allclose(product((3, 5), (1, 9)), product((7, 2), (5, 6)), atol=1e-4)
    assert np.abs(product((3, 5), (1, 9)) - product((3, 5), (2, 9))).max() > 1e-3
    assert np.abs(product((3, 5), (1, 9)) - product((3, 5), (1, 8))).max() > 1e-3
    with pytest.raises(ConfigError, match="multiple of 4"):
        built(position="rotary", head=2)


def test_recomputed_activations_change_no_gradient():
    model, variables, batch = built(dropout=0.2)
    again, _, _ = built(dropout=0.2, remat=True)

    def gradient(m):
        loss = lambda v: m.phases["denoise"].objective(v, batch, keys(), step=jnp.zeros((), int))[0].total
        return jax.jit(jax.grad(loss))(variables)

    for a, b in zip(jax.tree.leaves(gradient(model)), jax.tree.leaves(gradient(again)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4)


def test_logit_normal_times_are_steps_of_the_chain():
    for times, middle in (("uniform", 0.5), ("logit_normal", 0.683)):
        config = dataclasses.replace(TINY, times=times, timesteps=1000)
        m = diffusion._Diffusion(config, Target("image", SPEC["image"]), *[None] * 2)
        i = np.asarray(m.learning.times(m.fixed, keys(4000)))
        assert i.min() >= 1
        assert i.max() <= 1000
        # One standard deviation of the logit on both sides: t in 0.269 .. 0.731.
        inside = np.mean((i > 268.9) & (i <= 731.1))
        assert abs(inside - (middle if times == "logit_normal" else 0.462)) < 0.03


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"patch": 3}, "patch"),
        ({"width": 18, "head": 6}, "width"),
        ({"width": 20, "head": 8}, "head"),
        ({"multipliers": (1, 2)}, "multipliers"),
        ({"network": "unet", "patch": 4}, "patch"),
        ({"network": "mlp", "head": 32, "remat": True}, "remat"),
        ({"prediction": "noise"}, "prediction"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(fields, named):
    with pytest.raises(ConfigError, match=rf"model\.{named}"):
        diffusion.build(dataclasses.replace(TINY, **fields), SPEC, {})
