"""Hierarchical VAEs: shapes, bounds, rows alone, and free bits."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import shaken

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.functional.bounds import Bound
from genjax.functional.noise import fold
from genjax.models.hvae import Config, build

LEVELS, CLASSES = 17, 10
COARSE = {"sigma": 0.3, "smallest": 0.2}
VARIANTS = {
    "conv": {"latents": (2, 3), "width": 8, **COARSE},
    "mlp": {**COARSE, "network": "mlp", "latents": (4, 3), "hidden": (16, 8)},
    "bottom_up": {**COARSE, "inference": "bottom_up", "network": "mlp", "latents": (4, 3), "hidden": (16, 8)},
}
every = pytest.mark.parametrize("variant", VARIANTS)


def spec(side: int = 8) -> Spec:
    image = Element((side, side, 1), "uint8", LEVELS, "image", "target")
    return Spec({"image": image, "label": Element((), "int32", CLASSES, "label", "condition")}, rows=100)


def rows(n: int, side: int = 8, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, LEVELS, (n, side, side, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, n), jnp.int32),
        "mask": jnp.ones(n),
    }


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


@functools.cache
def made(variant: str, **fields) -> tuple[Model, Variables]:
    model = build(Config(**{**VARIANTS[variant], **fields}), spec())
    variables = jax.jit(lambda key: model.init(key, rows(2), {}))(jax.random.key(1))
    # Heads start at zero: make every level matter.
    return model, variables.replace(params=shaken(variables.params, 0.1))


def loss(model: Model, variables: Variables, batch, keys, step=0):
    step = None if step is None else jnp.int32(step)
    return model.phases["hvae"].objective(variables, batch, keys, step=step)


@pytest.mark.parametrize("side", [8, 28, 32])
@every
def test_every_size_has_the_datas_form(side, variant):
    model = build(Config(**VARIANTS[variant]), spec(side))
    batch = rows(2, side)
    variables = jax.eval_shape(lambda key: model.init(key, batch, {}), jax.random.key(0))
    out = jax.eval_shape(lambda v: model.sample(v, keys(2), {}), variables)
    assert out["image"].shape == batch["image"].shape
    assert out["image"].dtype == jnp.uint8


@every
def test_every_parameter_has_a_gradient(variant):
    model, variables = made(variant)
    total = lambda p: loss(model, variables.replace(params=p), rows(4), keys(4))[0].total
    slopes = jax.device_get(jax.jit(jax.grad(total))(variables.params))
    dead = [p for p, x in jax.tree_util.tree_leaves_with_path(slopes) if not np.abs(x).max() > 0]
    assert not dead


@every
def test_no_row_sees_another(variant):
    model, variables = made(variant)
    batch = rows(4)
    score = jax.jit(lambda b: model.likelihood(variables, b, keys(4))[0].total)
    other = {**batch, "image": batch["image"].at[1:].set(0)}
    np.testing.assert_allclose(score(batch)[0], score(other)[0], rtol=1e-6)


@every
def test_the_bound_is_the_mean_log_weight_and_many_draws_tighten_it(variant):
    model, variables = made(variant)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 256, axis=0), rows(4))
    nats = lambda k, seed: model.likelihood(variables, batch, keys(1024, seed), samples=k)[0].total
    one, many = jax.device_get(jax.jit(lambda: (nats(1, 3), nats(16, 4)))())
    weighted = build(Config(**VARIANTS[variant], bound=Bound("iwae")), spec())
    single = jax.device_get(
        jax.jit(lambda: loss(weighted, variables, batch, keys(1024, 5))[1].metrics["nats"].value)()
    )
    assert abs(one.mean() - single) < 5 * one.std() / 1024**0.5
    assert one.mean() - many.mean() > 3 * one.std() / 1024**0.5


def test_free_bits_cost_the_same_and_have_no_gradient():
    free, variables = made("conv", free_bits=1e4)
    plain, _ = made("conv")
    total = lambda m, p, step: loss(m, variables.replace(params=p), rows(4), keys(4), step)[0].value
    paid, distortion = jax.jit(
        lambda p: (total(free, p, 0), loss(plain, variables.replace(params=p), rows(4), keys(4))[1])
    )(variables.params)
    np.testing.assert_allclose(paid, distortion.metrics["distortion"].value + 2e4, rtol=1e-5)
    evaluated = [jax.jit(lambda p, m=m: total(m, p, None))(variables.params) for m in (free, plain)]
    np.testing.assert_allclose(*evaluated, rtol=1e-6)
    slopes = jax.jit(jax.grad(lambda p: total(free, p, 0)))(variables.params)
    # Only the distortion is left: it does not see the distributions' log ratio.
    alone = jax.jit(
        jax.grad(
            lambda p: (
                loss(plain, variables.replace(params=p), rows(4), keys(4))[1].metrics["distortion"].value
            )
        )
    )(variables.params)
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@every
def test_the_nats_of_codes_and_of_their_normal_prior_are_the_bound_of_the_same_draws(variant):
    model, variables = made(variant)
    weighted = build(Config(**VARIANTS[variant], bound=Bound("iwae")), spec())
    batch, k = rows(4), keys(4)

    def both() -> tuple[jax.Array, jax.Array]:
        codes = model.codec.encode(variables, batch, fold(k, 0))
        e = codes["latent"]
        log_p = (-0.5 * jnp.square(e) - 0.5 * jnp.log(2 * jnp.pi)).sum(1)
        parts = model.codec.nats(variables, batch, codes, k) - log_p
        return parts.sum(), loss(weighted, variables, batch, k)[0].total

    np.testing.assert_allclose(*jax.device_get(jax.jit(both)()), rtol=1e-5)


@every
def test_codes_are_decoded_as_the_images_of_their_draws(variant):
    model, variables = made(variant)
    batch, k = rows(4), keys(4)
    codes = jax.jit(model.codec.encode)(variables, batch, k)
    assert codes["latent"].shape == (4, *model.codec.spec(spec())["latent"].shape)
    again = jax.jit(model.codec.decode)(variables, codes)
    assert again["image"].shape == batch["image"].shape
    found = jax.jit(lambda: model.codec.expected(variables, codes)["image"])()
    np.testing.assert_allclose(np.round(found.clip(0, LEVELS - 1)), again["image"], atol=1e-5)
    other = jax.jit(model.codec.decode)(variables, {**codes, "latent": codes["latent"] + 1})
    assert (other["image"] != again["image"]).any()


@every
def test_rate_and_distortion_are_the_bound_of_one_draw(variant):
    model, variables = made(variant)
    batch, k = rows(4), keys(4)
    (rate, distortion), (total, _) = jax.jit(
        lambda: (model.rate_distortion(variables, batch, k), model.likelihood(variables, batch, k))
    )()
    np.testing.assert_allclose(rate.total + distortion.total, total.total, rtol=1e-6)


def test_samples_follow_key_and_label():
    model, variables = made("conv")
    sample = jax.jit(lambda k, label: model.sample(variables, k, {"label": label}, noise=True)["image"])
    a = np.asarray(sample(keys(4), jnp.arange(4)))
    b = np.asarray(sample(keys(4, 7).at[2].set(keys(4)[2]), jnp.arange(4)))
    np.testing.assert_array_equal(a[2], b[2])
    assert (a[1] != b[1]).any()
    assert (a != np.asarray(sample(keys(4), jnp.arange(4) + 1))).any()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"network": "mlp"}, "a width for each of the 3 levels"),
        ({"hidden": (3, 3, 3)}, "hidden has no effect with network='conv'"),
        ({"inference": "bottom_up"}, "needs network='mlp'"),
        ({"bound": {"kind": "dreg", "samples": 2}}, "share their layers"),
        ({"latents": ()}, "latents is empty"),
        ({"bound": {"groups": 2}, "free_bits": 1.0}, "free_bits applies to"),
    ],
)
def test_what_does_not_fit_is_refused(fields, match):
    from genjax.config import build as made_config
    from genjax.errors import ConfigError

    with pytest.raises(ConfigError, match=match):
        made_config(Config, fields, "model")
