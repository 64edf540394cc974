"""Augment images differentiably before a critic sees them, so that it cannot memorise the training images.

"ada" is the pipeline of Karras et al. 2020 (arXiv:2006.06676, appendix B; "bgc": pixel blitting, geometry and
colour), in which every transformation is applied with probability p. "diff" is DiffAugment (Zhao et al. 2020,
arXiv:2006.10738, appendix A), which always applies all of its own. Images have values in [-1, 1].
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.core import Keys
from genjax.functional import noise

Kind = Literal["none", "ada", "diff"]
SPREAD = 0.2
"""Standard deviation of the logarithm (to base 2) of scales, and of brightness."""
SHIFT = 0.125
"""Of translations, relative to the size of the image."""
LUMA = np.ones(3, np.float32) / np.float32(math.sqrt(3.0))
"""The axis of grey colours."""


def augmented(
    kind: Kind, keys: Keys, x: Float[Array, "B H W C"], p: Float[Array, ""] | float
) -> Float[Array, "B H W C"]:
    """Return augmented images.

    Args:
      p: probability of each transformation of "ada".
    """
    if kind == "none":
        return x
    if kind == "diff":
        return cut_out(keys, translated(keys, recoloured(keys, x)))
    placed = warped(x, geometry(keys, (x.shape[1], x.shape[2]), p))
    return coloured(placed, colours(keys, x.shape[-1], p))


# --- adaptive discriminator augmentation -----------------------------------------------------------------


class _Draws:
    """Draw one number per row for each transformation, from keys of its own."""

    def __init__(self, keys: Keys, p: jax.Array | float):
        self.keys = keys
        self.p = p
        self.site = 100

    def _next(self) -> Keys:
        self.site += 1
        return noise.fold(self.keys, self.site)

    def uniform(self) -> Float[Array, " B"]:
        return noise.uniform(self._next())

    def normal(self) -> Float[Array, " B"]:
        return noise.normal(self._next(), ())

    def chosen(
        self, value: Float[Array, " B"], neutral: float, p: jax.Array | float | None = None
    ) -> Float[Array, " B"]:
        """Return `value` with probability p, else the value that changes nothing."""
        return jnp.where(self.uniform() < (self.p if p is None else p), value, neutral)


def geometry(keys: Keys, size: tuple[int, int], p: jax.Array | float) -> Float[Array, "B 3 3"]:
    """Draw the maps from pixels of the result to pixels of the image, about the centre: (column, row, 1)."""
    draw = _Draws(keys, p)
    H, W = size
    # Two rotations are applied, each with a probability that makes at least one of them as likely as p.
    turn = 1.0 - jnp.sqrt(1.0 - jnp.asarray(p, jnp.float32))
    flip = draw.chosen(1.0 - 2.0 * jnp.floor(2.0 * draw.uniform()), 1.0)
    quarter = draw.chosen(jnp.floor(4.0 * draw.uniform()), 0.0)
    whole = [jnp.round(draw.chosen((2 * draw.uniform() - 1) * SHIFT, 0.0) * side) for side in (W, H)]
    scale = draw.chosen(2.0 ** (SPREAD * draw.normal()), 1.0)
    first = draw.chosen((2 * draw.uniform() - 1) * math.pi, 0.0, turn)
    stretch = draw.chosen(2.0 ** (SPREAD * draw.normal()), 1.0)
    second = draw.chosen((2 * draw.uniform() - 1) * math.pi, 0.0, turn)
    part = [draw.chosen(SHIFT * draw.normal(), 0.0) * side for side in (W, H)]
    maps = (
        _scaling(flip, jnp.ones_like(flip)),
        _rotation(quarter * (math.pi / 2)),
        _translation(*whole),
        _scaling(1.0 / scale, 1.0 / scale),
        _rotation(first),
        _scaling(1.0 / stretch, stretch),
        _rotation(second),
        _translation(*part),
    )
    total = maps[0]
    for one in maps[1:]:
        total = total @ one
    return total


def warped(x: Float[Array, "B H W C"], maps: Float[Array, "B 3 3"]) -> Float[Array, "B H W C"]:
    """Return the images at the mapped places: bilinear, mirrored at the borders."""
    B, H, W, C = x.shape
    columns, rows = jnp.meshgrid(jnp.arange(W) - (W - 1) / 2, jnp.arange(H) - (H - 1) / 2)
    places = jnp.stack([columns, rows, jnp.ones_like(rows)]).reshape(3, -1)
    at = jnp.einsum("bij,jn->bin", maps[:, :2], places)
    column = at[:, 0] + (W - 1) / 2
    row = at[:, 1] + (H - 1) / 2
    left = jnp.floor(column)
    top = jnp.floor(row)
    flat = x.reshape(B, H * W, C)
    out = jnp.zeros_like(flat)
    for down in (0, 1):
        for right in (0, 1):
            weight = jnp.abs(1 - down - (row - top)) * jnp.abs(1 - right - (column - left))
            index = _mirrored(top + down, H) * W + _mirrored(left + right, W)
            out = out + weight[..., None] * jnp.take_along_axis(flat, index[..., None], axis=1)
    return out.reshape(x.shape)


def _mirrored(i: Float[Array, "B N"], size: int) -> jax.Array:
    """Return the pixels that places outside of the image show: ... 2 1 [0 1 2 ... size - 1] size - 2 ..."""
    period = max(2 * (size - 1), 1)
    i = jnp.mod(i, period).astype(jnp.int32)
    return jnp.where(i < size, i, period - i)


def colours(keys: Keys, channels: int, p: jax.Array | float) -> Float[Array, "B 4 4"]:
    """Draw the maps from colours to colours, (red, green, blue, 1); of grey images without hue."""
    draw = _Draws(noise.fold(keys, 1), p)
    axis = jnp.asarray(np.outer(LUMA, LUMA))[None]
    eye = jnp.eye(3)[None]
    wide = lambda v: v[:, None, None]
    bright = draw.chosen(SPREAD * draw.normal(), 0.0)
    contrast = draw.chosen(2.0 ** (0.5 * draw.normal()), 1.0)
    flip = draw.chosen(jnp.floor(2.0 * draw.uniform()), 0.0)
    linear = eye - 2.0 * wide(flip) * axis
    if channels > 1:
        hue = draw.chosen((2 * draw.uniform() - 1) * math.pi, 0.0)
        saturation = draw.chosen(2.0 ** draw.normal(), 1.0)
        linear = _about_luma(hue) @ linear
        linear = (axis + wide(saturation) * (eye - axis)) @ linear
    shift = jnp.einsum("bij,bj->bi", linear, (contrast * bright)[:, None] * jnp.ones((1, 3)))
    top = jnp.concatenate([linear * wide(contrast), shift[..., None]], -1)
    last = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0])[None, None], (top.shape[0], 1, 4))
    return jnp.concatenate([top, last], 1)


def coloured(x: Float[Array, "B H W C"], maps: Float[Array, "B 4 4"]) -> Float[Array, "B H W C"]:
    """Apply the colour maps; a grey image is one whose three colours are equal."""
    grey = x.shape[-1] == 1
    rgb = jnp.broadcast_to(x, (*x.shape[:-1], 3)) if grey else x
    y = jnp.einsum("bij,bhwj->bhwi", maps[:, :3, :3], rgb) + maps[:, None, None, :3, 3]
    return y.mean(-1, keepdims=True) if grey else y


def _about_luma(angle: Float[Array, " B"]) -> Float[Array, "B 3 3"]:
    """Return the rotations of colours about the axis of grey (Rodrigues' formula)."""
    a, b, c = LUMA
    cross = jnp.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]])[None]
    wide = lambda v: v[:, None, None]
    return (
        wide(jnp.cos(angle)) * jnp.eye(3)[None]
        + wide(jnp.sin(angle)) * cross
        + wide(1.0 - jnp.cos(angle)) * jnp.asarray(np.outer(LUMA, LUMA))[None]
    )


def _matrix(rows: list[list[jax.Array | float]], like: jax.Array) -> Float[Array, "B 3 3"]:
    full = [[jnp.broadcast_to(jnp.asarray(v, like.dtype), like.shape) for v in row] for row in rows]
    return jnp.stack([jnp.stack(row, -1) for row in full], -2)


def _scaling(x: jax.Array, y: jax.Array) -> Float[Array, "B 3 3"]:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]], x)


def _rotation(angle: jax.Array) -> Float[Array, "B 3 3"]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], angle)


def _translation(x: jax.Array, y: jax.Array) -> Float[Array, "B 3 3"]:
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], x)


# --- DiffAugment -----------------------------------------------------------------------------------------


def recoloured(keys: Keys, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Change brightness by up to 0.5, saturation by up to a factor of 2 and contrast by 0.5 to 1.5."""
    draw = _Draws(noise.fold(keys, 2), 1.0)
    wide = lambda v: v[:, None, None, None]
    x = x + wide(draw.uniform() - 0.5)
    mean = x.mean(-1, keepdims=True)
    x = mean + wide(2.0 * draw.uniform()) * (x - mean)
    mean = x.mean((1, 2, 3), keepdims=True)
    return mean + wide(draw.uniform() + 0.5) * (x - mean)


def translated(keys: Keys, x: Float[Array, "B H W C"], repeat: bool = False) -> Float[Array, "B H W C"]:
    """Shift by up to an eighth of the size, in whole pixels.

    Args:
      repeat: the border's pixels outside; else zeros, as DiffAugment has them.
    """
    draw = _Draws(noise.fold(keys, 3), 1.0)
    H, W = x.shape[1:3]
    most = [max(round(SHIFT * side), 0) for side in (H, W)]
    by = [jnp.floor(draw.uniform() * (2 * m + 1)).astype(jnp.int32) for m in most]
    margins = ((0, 0), (most[0],) * 2, (most[1],) * 2, (0, 0))
    padded = jnp.pad(x, margins, mode="edge" if repeat else "constant")
    cut = lambda image, top, left: jax.lax.dynamic_slice(image, (top, left, 0), (H, W, image.shape[-1]))
    return jax.vmap(cut)(padded, *by)


def cut_out(keys: Keys, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Set a square of half the size, anywhere, to zero."""
    draw = _Draws(noise.fold(keys, 4), 1.0)
    inside = []
    for axis, side in ((1, x.shape[1]), (2, x.shape[2])):
        half = side // 2
        centre = jnp.floor(draw.uniform() * (side + 1 - half % 2))
        place = jnp.arange(side)[None]
        start = centre[:, None] - half // 2
        mask = (place >= start) & (place < start + half)
        inside.append(mask[:, :, None, None] if axis == 1 else mask[:, None, :, None])
    return jnp.where(inside[0] & inside[1], 0.0, x)
