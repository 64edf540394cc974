"""Define fully connected networks and one-hot conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class MLP(nn.Module):
    """Apply dense layers with an activation between them: (..., N) -> (..., features[-1]).

    Attributes:
      features: width of each layer; the last is the output's width.
      activation: applied after every layer but the last.
      final: apply the activation after the last layer too.
      dtype: dtype of the computation; parameters are float32.
    """

    features: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array] = nn.silu
    final: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B N"]) -> Float[Array, "*B M"]:
        for i, width in enumerate(self.features):
            x = nn.Dense(width, dtype=self.dtype, name=f"dense_{i}")(x)
            if self.final or i + 1 < len(self.features):
                x = self.activation(x)
        return x


def one_hot(label: jax.Array, classes: int) -> Float[Array, "B classes"]:
    """Return rows of the identity matrix; a row of zeros for a label outside [0, classes)."""
    return jax.nn.one_hot(label, classes, dtype=jnp.float32)
