"""Pixels that are not finite are noted before they become integers, in every family of images."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import checkify

from genjax.core import Element, Spec
from genjax.functional import finite, pixels
from genjax.models import diffusion, gan, vae

SPEC = Spec({"image": Element((8, 8, 1), "uint8", 4, "image", "target")})
FAMILIES: dict[str, tuple[Any, Any, dict]] = {
    "vae": (vae, vae.Config(latent=2, network="mlp", hidden=(8,)), {}),
    "vae, noisy": (vae, vae.Config(latent=2, network="mlp", hidden=(8,)), {"noise": True}),
    "vae, binary": (vae, vae.Config(latent=2, network="mlp", hidden=(8,), likelihood="bernoulli"), {}),
    "vae, binary and noisy": (
        vae,
        vae.Config(latent=2, network="mlp", hidden=(8,), likelihood="bernoulli"),
        {"noise": True},
    ),
    "gan": (gan, gan.Config(network={"name": "dcgan", "width": 8}, latent=2), {}),
    "diffusion": (diffusion, diffusion.Config(network="mlp", width=8, blocks=1), {"steps": 2}),
}


def noted(function: Any, *arguments: Any) -> str | None:
    """What a compiled program noted."""
    error, _ = jax.jit(checkify.checkify(function, errors=checkify.user_checks))(*arguments)
    return finite.noted(error)


@pytest.mark.parametrize("convert", [pixels.from_signed, pixels.from_unit])
def test_values_outside_are_clipped_and_values_that_are_none_are_noted(convert: Any):
    def rounded(x: jax.Array) -> jax.Array:
        return convert(x, 4)

    assert noted(rounded, jnp.array([-9.0, 0.2, 9.0])) is None
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert noted(rounded, jnp.array([0.2, bad])) == "pixels"
        assert noted(jax.vmap(rounded), jnp.array([[0.2], [bad]])) == "pixels"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_notes_pixels_that_are_not_finite(name: str):
    module, config, options = FAMILIES[name]
    model = module.build(config, SPEC, {})
    variables = jax.jit(lambda key: model.init(key, SPEC.example(1), {}))(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)

    def draw(v: Any) -> Any:
        return model.sample(v, keys, {}, **options)

    program = jax.jit(checkify.checkify(draw, errors=checkify.user_checks))
    assert finite.noted(program(variables)[0]) is None
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), variables)
    assert finite.noted(program(broken)[0]) == "pixels"


def test_only_what_has_infinities_is_looked_at():
    assert noted(lambda x: finite.note_values(x, "weights"), {"a": jnp.arange(3), "b": jnp.ones(2)}) is None
    assert noted(lambda x: finite.note_values(x, "weights"), {"b": jnp.array([1.0, jnp.inf])}) == "weights"
