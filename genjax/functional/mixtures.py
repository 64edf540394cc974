"""Compute a mixture of discretised logistics per pixel (PixelCNN++, Salimans et al. 2017, arXiv:1701.05517).

A pixel has one of K components for all of its channels (sec. 2.1). Within a component, the location of a
channel depends linearly on the values of the channels before it (sec. 2.2). The first axis of a decoder's
output holds, for every value, K locations, K log scales, K logits (summed over the channels of a pixel) and,
if there are several channels, K coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from genjax.functional import likelihoods, pixels

PAIRS = ((1, 0), (2, 0), (2, 1))
"""(channel, earlier channel) of each coefficient: up to three channels, as many coefficients as channels."""
CHANNELS = 3


class Mixture(NamedTuple):
    """Hold the parameters of each pixel's mixture."""

    location: Float[Array, "K *shape C"]
    log_scale: Float[Array, "K *shape C"]
    log_weight: Float[Array, "K *shape"]
    coefficients: Float[Array, "K *shape C"]


def extra(components: int, channels: int) -> int:
    """Return how many numbers a decoder computes for each value beside locations and log scales."""
    return components if channels == 1 else 2 * components


def of_output(out: Float[Array, "O *shape C"], components: int) -> Mixture:
    """Read a decoder's output."""
    K = components
    log_weight = jax.nn.log_softmax(out[2 * K : 3 * K].sum(-1), axis=0)
    return Mixture(out[:K], out[K : 2 * K], log_weight, jnp.tanh(out[3 * K :]))


def log_prob(mixture: Mixture, image: Integer[Array, "*shape C"], levels: int) -> Float[Array, "*shape 1"]:
    """Compute the log-probability of every pixel, in nats."""
    value = pixels.to_signed(image, levels)[None]
    location, _ = _in_turn(mixture, lambda channel, location: value[..., channel])
    each = likelihoods.discretised_logistic(location, mixture.log_scale, image[None], levels)
    return jax.nn.logsumexp(mixture.log_weight + each.sum(-1), axis=0)[..., None]


def mean(mixture: Mixture) -> Float[Array, "*shape C"]:
    """Return the mean of every value in [-1, 1], as if values were neither rounded nor clipped."""
    # Locations are linear in the values before them, so that the mean of a value takes its place.
    location, _ = _in_turn(mixture, lambda channel, location: location)
    return (jnp.exp(mixture.log_weight)[..., None] * location).sum(0)


def draw(key: jax.Array, mixture: Mixture, levels: int) -> Integer[Array, "*shape C"]:
    """Draw the levels of one row."""
    choose, noise = jax.random.split(key)
    component = jax.random.categorical(choose, mixture.log_weight, axis=0)[None]
    pick = lambda x: jnp.take_along_axis(x, component[..., None], 0) if x.size else x[:1]
    chosen = mixture._replace(
        location=pick(mixture.location),
        log_scale=pick(mixture.log_scale),
        coefficients=pick(mixture.coefficients),
    )
    z = jnp.exp(chosen.log_scale) * jax.random.logistic(noise, chosen.log_scale.shape)

    def rounded(channel: int, location: jax.Array) -> jax.Array:
        # The next channel reads the level that was drawn, as in log_prob.
        return pixels.to_signed(pixels.from_signed(location + z[..., channel], levels), levels)

    _, value = _in_turn(chosen, rounded)
    return pixels.from_signed(value[0], levels)


def _in_turn(
    mixture: Mixture, choose: Callable[[int, jax.Array], jax.Array]
) -> tuple[Float[Array, "K *shape C"], Float[Array, "K *shape C"]]:
    """Return the locations of all channels, and the values that `choose(channel, location)` gives them."""
    locations: list[jax.Array] = []
    values: list[jax.Array] = []
    for channel in range(mixture.location.shape[-1]):
        location = mixture.location[..., channel]
        for number, (to, of) in enumerate(PAIRS):
            if to == channel:
                location = location + mixture.coefficients[..., number] * values[of]
        locations.append(location)
        values.append(choose(channel, location))
    return jnp.stack(locations, -1), jnp.stack(jnp.broadcast_arrays(*values), -1)
