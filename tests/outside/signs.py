"""Step by the sign of the gradient (Bernstein et al. 2018, arXiv:1802.04434)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genjax.training import optimizers


def build(
    config: optimizers.Config, learning_rate: optax.Schedule, decayed: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """Return signSGD with decoupled weight decay; `options.scale` scales the sign."""
    scale = config.options.get("scale", 1.0)
    return optax.chain(
        optax.stateless(lambda g, _: jax.tree.map(lambda x: scale * jnp.sign(x), g)),
        optax.add_decayed_weights(config.weight_decay, mask=decayed),
        optax.scale_by_learning_rate(learning_rate),
    )
