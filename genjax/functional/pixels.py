"""Images between the data's integers and what networks read: every family converts here.

The data's images are integers in [0, levels) (uint8). Level k stands for the value 2k/(levels-1) - 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer


def to_signed(image: Integer[Array, "*shape"], levels: int) -> Float[Array, "*shape"]:
    """[0, levels) -> [-1, 1], float32."""
    return image.astype(jnp.float32) * (2.0 / (levels - 1)) - 1.0


def to_unit(image: Integer[Array, "*shape"], levels: int) -> Float[Array, "*shape"]:
    """[0, levels) -> [0, 1], float32."""
    return image.astype(jnp.float32) / (levels - 1)


def from_signed(x: Float[Array, "*shape"], levels: int) -> Integer[Array, "*shape"]:
    """[-1, 1] -> the nearest of [0, levels), uint8; values outside are clipped."""
    return jnp.clip(jnp.round((x + 1.0) * ((levels - 1) / 2.0)), 0, levels - 1).astype(jnp.uint8)


def from_unit(x: Float[Array, "*shape"], levels: int) -> Integer[Array, "*shape"]:
    """[0, 1] -> the nearest of [0, levels), uint8; values outside are clipped."""
    return jnp.clip(jnp.round(x * (levels - 1)), 0, levels - 1).astype(jnp.uint8)


def dequantise(keys: jax.Array, image: Integer[Array, "B *shape"], levels: int) -> Float[Array, "B *shape"]:
    """Uniform dequantisation to [-1, 1): (image + u) / levels * 2 - 1 (Theis et al. 2016, sec. 3.1)."""
    noise = jax.vmap(lambda key: jax.random.uniform(key, image.shape[1:]))(keys)
    return (image.astype(jnp.float32) + noise) * (2.0 / levels) - 1.0
