"""Augmentations: identities, inverses, references, distributions, and the probability that adapts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from test_gan_networks import keys, rows, spec

from genjax.config import build as made_config
from genjax.core import Element, Spec
from genjax.errors import ConfigError
from genjax.functional import augment
from genjax.models import gan

N = 64


def images(n: int = N, side: int = 12, channels: int = 3) -> jax.Array:
    return jax.random.uniform(jax.random.key(0), (n, side, side, channels), minval=-1.0)


def test_without_probability_nothing_changes():
    x = images()
    np.testing.assert_allclose(augment.augmented("ada", keys(N), x, 0.0), x, atol=1e-5)
    np.testing.assert_array_equal(augment.augmented("none", keys(N), x, 1.0), x)


@pytest.mark.parametrize("kind", ["ada", "diff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_row_is_changed_by_its_own_key(kind, channels):
    x = images(8, channels=channels)
    one = np.asarray(augment.augmented(kind, keys(8), x, 1.0))
    assert one.shape == x.shape
    assert (np.abs(one - x).max((1, 2, 3)) > 0.05).all()
    other = np.asarray(augment.augmented(kind, keys(8, 1).at[3].set(keys(8)[3]), x, 1.0))
    np.testing.assert_allclose(one[3], other[3], atol=1e-6)
    assert (np.abs(one - other).max((1, 2, 3)) > 0.05).sum() == 7


def test_half_of_the_probability_changes_about_half_as_much():
    maps = [np.asarray(augment.geometry(keys(2000), (12, 12), p)) for p in (0.0, 0.05, 1.0)]
    changed = [(np.abs(m - np.eye(3)) > 1e-4).any((1, 2)).mean() for m in maps]
    assert changed[0] == 0
    # A row stays as it is if none of eight draws says otherwise; some draws change nothing.
    assert 0.15 < changed[1] < 1 - 0.95**9 + 0.03
    assert changed[2] == 1


def test_warps_are_bilinear_and_mirrored():
    x = images(16)
    maps = np.asarray(augment.geometry(keys(16), (12, 12), 1.0), np.float64)
    got = np.asarray(augment.warped(x, jnp.asarray(maps, jnp.float32)))
    column, row = np.meshgrid(np.arange(12) - 5.5, np.arange(12) - 5.5)
    places = np.stack([column, row, np.ones_like(row)]).reshape(3, -1)
    for i in range(16):
        at = (maps[i] @ places)[:2] + 5.5
        for c in range(3):
            want = scipy.ndimage.map_coordinates(
                np.asarray(x[i, ..., c], np.float64), at[::-1], order=1, mode="mirror"
            )
            np.testing.assert_allclose(got[i, ..., c].reshape(-1), want, atol=1e-3)


def test_flips_turns_and_whole_shifts_invert_exactly():
    x = images(4)
    turn = jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    flip = jnp.diag(jnp.array([-1.0, 1, 1]))
    shift = jnp.array([[1.0, 0, 3], [0, 1, -2], [0, 0, 1]])
    for m in (turn, flip, shift @ turn):
        there = augment.warped(x, jnp.broadcast_to(m, (4, 3, 3)))
        back = augment.warped(there, jnp.broadcast_to(jnp.linalg.inv(m), (4, 3, 3)))
        # What was shifted out is lost.
        np.testing.assert_allclose(back[:, 4:-4, 4:-4], x[:, 4:-4, 4:-4], atol=1e-4)
    np.testing.assert_allclose(augment.warped(x, jnp.broadcast_to(flip, (4, 3, 3))), x[:, :, ::-1], atol=1e-5)
    quarter = augment.warped(x, jnp.broadcast_to(turn, (4, 3, 3)))
    assert any(np.allclose(quarter, np.rot90(x, k, (1, 2)), atol=1e-4) for k in (1, 3))


def test_colour_maps_invert_and_are_the_operations_in_their_order():
    maps = np.asarray(augment.colours(keys(N), 3, 1.0), np.float64)
    x = images()
    there = augment.coloured(x, jnp.asarray(maps, jnp.float32))
    back = augment.coloured(there, jnp.asarray(np.linalg.inv(maps), jnp.float32))
    np.testing.assert_allclose(back, x, atol=2e-2)
    # Greys stay grey: every operation leaves the axis of luma alone.
    grey = jnp.broadcast_to(images(channels=1), x.shape)
    found = np.asarray(augment.coloured(grey, jnp.asarray(maps, jnp.float32)))
    np.testing.assert_allclose(found, found.mean(-1, keepdims=True).repeat(3, -1), atol=1e-4)


def test_hue_keeps_lengths_and_luma():
    turn = np.asarray(augment._about_luma(jnp.linspace(-3.0, 3.0, 7)))
    np.testing.assert_allclose(turn @ turn.swapaxes(1, 2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-5)
    np.testing.assert_allclose(turn @ np.ones(3), np.ones((7, 3)), atol=1e-5)


def test_shifts_of_diffaugment_are_whole_pixels_and_its_cut_is_a_square():
    x = images(N) + 3.0
    moved = np.asarray(augment.translated(keys(N), x))
    for a, b in zip(moved, np.asarray(x), strict=True):
        padded = np.pad(b, ((2, 2), (2, 2), (0, 0)))
        every = [padded[i : i + 12, j : j + 12] for i in range(5) for j in range(5)]
        assert any(np.array_equal(a, e) for e in every)
    zeros = (np.asarray(augment.cut_out(keys(N), x)) == 0).all(-1)
    assert zeros.any((1, 2)).all()
    assert zeros.sum((1, 2)).max() == 36
    assert all(z.any(0).sum() * z.any(1).sum() == z.sum() for z in zeros)


def test_gradients_pass_the_augmentations():
    x = images(4)
    for kind in ("ada", "diff"):
        slope = jax.grad(lambda x, k=kind: jnp.square(augment.augmented(k, keys(4), x, 0.8)).sum())(x)
        assert jnp.isfinite(slope).all()
        assert (jnp.abs(slope).max((1, 2, 3)) > 0).all()


def ada(**fields) -> gan.Config:
    given = {"kind": "ada", **fields}
    network = {"name": "dcgan", "width": 4, "generator_norm": "none"}
    return made_config(gan.Config, {"network": network, "latent": 5, "augment": given}, "model")


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_probability_follows_the_signs_of_real_logits(sign):
    model = gan.build(ada(examples=100.0), spec())
    variables = jax.jit(lambda key: model.init(key, rows(4), {}))(jax.random.key(1))
    head = {
        "kernel": jnp.zeros_like(variables.params["discriminator"]["out"]["kernel"]),
        "bias": jnp.array([9.0 * sign]),
    }
    critic = {**variables.params["discriminator"], "out": head}
    critic["class"] = jax.tree.map(jnp.zeros_like, critic["class"])
    variables = variables.replace(params={**variables.params, "discriminator": critic})
    variables = variables.replace(
        state={**variables.state, "augment": {"p": jnp.float32(0.5), "sign": jnp.float32(sign)}}
    )
    run = jax.jit(
        lambda v: model.phases["discriminator"].objective(v, rows(4), keys(4), step=jnp.int32(0))[1]
    )
    aux = run(variables)
    assert aux.metrics["overfitting"].value == sign
    np.testing.assert_allclose(aux.state["augment"]["p"], 0.5 + sign * 4 / 100, rtol=1e-5)
    ends = {**variables.state, "augment": {"p": jnp.float32(sign > 0), "sign": jnp.float32(sign)}}
    np.testing.assert_array_equal(run(variables.replace(state=ends)).state["augment"]["p"], float(sign > 0))


def test_evaluations_see_rows_as_they_are():
    model = gan.build(ada(p=1.0), spec())
    plain = gan.build(made_config(gan.Config, {"network": ada().network, "latent": 5}, "model"), spec())
    variables = jax.jit(lambda key: plain.init(key, rows(4), {}))(jax.random.key(1))
    value = lambda m, step: jax.jit(
        lambda v: m.phases["discriminator"].objective(v, rows(4), keys(4), step=step)[0].value
    )(variables)
    assert value(model, None) == value(plain, None)
    assert value(model, jnp.int32(0)) != value(plain, jnp.int32(0))


def test_what_does_not_fit_is_refused():
    points = Spec({"x": Element((2,), "float32", role="target")}, rows=100)
    config = {"network": {"name": "mlp"}, "augment": {"kind": "diff"}}
    with pytest.raises(ConfigError, match="only images"):
        gan.build(made_config(gan.Config, config, "model"), points)
    with pytest.raises(ConfigError, match="target has no effect"):
        ada(p=0.5, target=0.3)
