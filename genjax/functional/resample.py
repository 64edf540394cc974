"""Filter images, and double or halve them, with short symmetric filters and zeros outside of the image.

The filters of StyleGAN (Karras et al. 2019, arXiv:1812.04948, appendix C) against aliasing (Zhang 2019,
arXiv:1904.11486): what the operation "upfirdn" of its code does. Filters are separable and written as a few
shifted sums per axis: for four taps that is faster than a convolution with one kernel per channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TAPS = (1.0, 3.0, 3.0, 1.0)
Taps = Sequence[float]


def upsample(x: Float[Array, "B H W C"], taps: Taps = TAPS) -> Float[Array, "B H2 W2 C"]:
    """Double the image: zeros between the pixels, then the filter, which keeps the mean."""
    for axis in (1, 2):
        x = _doubled(x, taps, axis)
    return x


def downsample(x: Float[Array, "B H W C"], taps: Taps = TAPS) -> Float[Array, "B H2 W2 C"]:
    """Halve the image: the filter, then every second pixel."""
    n = len(taps)
    before = (n - 1) // 2
    for axis in (1, 2):
        x = _correlated(x, _unit(taps), axis, (before, n - 2 - before), 2)
    return x


def blur(
    x: Float[Array, "B H W C"], padding: tuple[int, int], taps: Taps = TAPS, gain: float = 1.0
) -> Float[Array, "B H2 W2 C"]:
    """Filter the image; H2 = H + sum(padding) - taps + 1.

    Args:
      padding: zeros before and after the image, on both axes.
      gain: of the filter, on both axes together.
    """
    scaled = [tap * gain**0.5 for tap in _unit(taps)]
    for axis in (1, 2):
        x = _correlated(x, scaled, axis, padding, 1)
    return x


def _unit(taps: Taps) -> list[float]:
    return [tap / sum(taps) for tap in taps]


def _doubled(x: jax.Array, taps: Taps, axis: int) -> jax.Array:
    """Return the even and the odd pixels of the doubled axis, each a filter of half the taps."""
    n = len(taps)
    before = (n - 1) // 2 + 1
    phases = []
    for phase in (0, 1):
        # Tap k of pixel 2 i + phase meets the old pixel i + (phase + k - before) / 2, or a zero between two.
        terms = [(k, (phase + k - before) // 2) for k in range(n) if (phase + k - before) % 2 == 0]
        phases.append(sum(2.0 * _unit(taps)[k] * _moved(x, offset, axis) for k, offset in terms))
    stacked = jnp.stack(phases, axis + 1)
    shape = list(x.shape)
    shape[axis] *= 2
    return stacked.reshape(shape)


def _moved(x: jax.Array, offset: int, axis: int) -> jax.Array:
    """Return y[i] = x[i + offset], with zeros outside."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (max(-offset, 0), max(offset, 0))
    padded = jnp.pad(x, pads)
    return jax.lax.slice_in_dim(padded, max(offset, 0), max(offset, 0) + x.shape[axis], axis=axis)


def _correlated(x: jax.Array, taps: Taps, axis: int, padding: tuple[int, int], stride: int) -> jax.Array:
    pads = [(0, 0)] * x.ndim
    pads[axis] = padding
    padded = jnp.pad(x, pads)
    last = padded.shape[axis] - len(taps) + 1
    parts = [tap * jax.lax.slice_in_dim(padded, k, k + last, stride, axis=axis) for k, tap in enumerate(taps)]
    return sum(parts[1:], parts[0])
