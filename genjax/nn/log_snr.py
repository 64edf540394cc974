"""Learn a noise schedule: a monotone network for -log SNR (Kingma et al. 2021, arXiv:2107.00630, app. H)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Tree
from genjax.functional.schedules import Path

LOW = -13.3
HIGH = 5.0
"""The first ends: nearly no noise, and little signal."""


class NegativeLogSNR(nn.Module):
    """Compute gamma(t) = -log SNR, which grows from `low` at t = 0 to `high` at t = 1; both are learned.

    Between them it is l_1(t) + l_3(sigmoid(l_2(l_1(t)))), scaled to these ends; all kernels are positive.

    Attributes:
      hidden: width of the hidden layer.
    """

    hidden: int = 64

    @nn.compact
    def __call__(self, t: Float[Array, "*t"]) -> Float[Array, "*t"]:
        low = self.param("low", nn.initializers.constant(LOW), ())
        high = self.param("high", nn.initializers.constant(HIGH), ())
        slope = self.param("slope", nn.initializers.constant(0.0), ())
        into = self.param("into", nn.initializers.normal(1.0), (self.hidden,))
        shift = self.param("shift", nn.initializers.normal(1.0), (self.hidden,))
        out = self.param("out", nn.initializers.constant(-4.0), (self.hidden,))

        def raw(t: jax.Array) -> jax.Array:
            first = jax.nn.softplus(slope) * t
            inner = first[..., None] * (4.0 * jax.nn.softplus(into)).reshape((1,) * t.ndim + (-1,))
            h = jax.nn.sigmoid(inner + shift.reshape((1,) * t.ndim + (-1,)))
            return first + (h * jax.nn.softplus(out).reshape((1,) * t.ndim + (-1,))).sum(-1)

        begin = raw(jnp.zeros_like(t))
        end = raw(jnp.ones_like(t))
        return low + (high - low) * (raw(t) - begin) / (end - begin)


def path_of(params: Tree, hidden: int = 64) -> Path:
    """Return the variance-preserving path with these parameters: alpha^2 = sigmoid(-gamma)."""
    net = NegativeLogSNR(hidden)

    def path(t: jax.Array) -> tuple[jax.Array, jax.Array]:
        gamma: jax.Array = net.apply({"params": params}, t)  # type: ignore[assignment]
        return jnp.exp(0.5 * jax.nn.log_sigmoid(-gamma)), jnp.exp(0.5 * jax.nn.log_sigmoid(gamma))

    return path


def only_inside(params: Tree) -> Tree:
    """Return the parameters with no gradient to the ends."""
    return {name: jax.lax.stop_gradient(x) if name in ("low", "high") else x for name, x in params.items()}


def only_ends(params: Tree) -> Tree:
    """Return the parameters with a gradient to the ends alone."""
    return {name: x if name in ("low", "high") else jax.lax.stop_gradient(x) for name, x in params.items()}
