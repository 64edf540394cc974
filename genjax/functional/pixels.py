"""Convert images between the data's integers and the values that networks read.

Integers lie in [0, levels), as uint8. Level k corresponds to the value 2k / (levels - 1) - 1 in [-1, 1].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from genjax.core import Spec
from genjax.errors import ConfigError
from genjax.functional import finite


def quantised_image(spec: Spec, model: str) -> str:
    """Return the name of the first target that is an image (H, W, C) of whole levels.

    Args:
      model: the name of the model that needs it, for the error message.

    Raises:
      ConfigError: the data has no such target.
    """
    for name in spec.targets:
        if len(spec[name].shape) == 3 and spec[name].levels:
            return name
    raise ConfigError(
        f"{model} needs images of whole levels as the target; the data has {sorted(spec.elements)}",
        "choose data with quantised images, or another model",
    )


def to_signed(image: Integer[Array, "*shape"], levels: int) -> Float[Array, "*shape"]:
    """Map [0, levels) to [-1, 1], float32."""
    return image.astype(jnp.float32) * (2.0 / (levels - 1)) - 1.0


def to_unit(image: Integer[Array, "*shape"], levels: int) -> Float[Array, "*shape"]:
    """Map [0, levels) to [0, 1], float32."""
    return image.astype(jnp.float32) / (levels - 1)


def from_signed(x: Float[Array, "*shape"], levels: int) -> Integer[Array, "*shape"]:
    """Round [-1, 1] to the nearest of [0, levels), uint8; values outside are clipped.

    NaN and infinity are noted (`finite.note_values`): as integers they would look valid.
    """
    finite.note_values(x, "pixels")
    return jnp.clip(jnp.round((x + 1.0) * ((levels - 1) / 2.0)), 0, levels - 1).astype(jnp.uint8)


def from_unit(x: Float[Array, "*shape"], levels: int) -> Integer[Array, "*shape"]:
    """Round [0, 1] to the nearest of [0, levels), uint8; see `from_signed`."""
    finite.note_values(x, "pixels")
    return jnp.clip(jnp.round(x * (levels - 1)), 0, levels - 1).astype(jnp.uint8)


def dequantise(keys: jax.Array, image: Integer[Array, "B *shape"], levels: int) -> Float[Array, "B *shape"]:
    """Dequantise uniformly to [-1, 1): 2 (image + u) / levels - 1 (Theis et al. 2016, sec. 3.1)."""
    noise = jax.vmap(lambda key: jax.random.uniform(key, image.shape[1:]))(keys)
    return (image.astype(jnp.float32) + noise) * (2.0 / levels) - 1.0
