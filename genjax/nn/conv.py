"""Compute two-dimensional convolutions (NHWC) in the form that is fastest on the backend.

On accelerators every convolution is lax's own. On a CPU three of them may be matrix products, because XLA
leaves its fast path for them (experiments/benchmarks/conv.py has the times):

- transposed convolutions, which take lax about ten times as long;
- convolutions with a 1x1 kernel;
- the gradient of the kernel of large convolutions, if that was faster when it was measured on this machine
  (nn/measured.py): lax's form took 290 ms at 64x28x28x32 on one machine and 12 ms on another.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genjax.core import across
from genjax.nn import conv_forms
from genjax.nn.conv_forms import LAYOUT

Padding = str | Sequence[tuple[int, int]]


def conv(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    groups: int = 1,
) -> Float[Array, "B H2 W2 D"]:
    """Cross-correlate images with a kernel, as lax.conv_general_dilated does in NHWC, HWIO.

    Args:
      groups: of channels that are convolved apart; the kernel then has C / groups input channels.
    """
    if groups > 1:
        how: Any = {"dimension_numbers": LAYOUT, "feature_group_count": groups}
        return lax.conv_general_dilated(x, kernel, strides, padding, **how)
    unpadded = padding in ("SAME", "VALID") or not any(n for side in padding for n in side)
    if kernel.shape[:2] == (1, 1) and unpadded and _on_cpu():
        # A 1x1 kernel mixes channels only: drop the pixels that the strides skip, then multiply.
        return x[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    if not _on_cpu():
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    return conv_forms.conv(x, kernel, (strides[0], strides[1]), ((top, bottom), (left, right)))


def conv_transpose(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: tuple[int, int] = (2, 2),
    padding: Literal["SAME", "VALID"] = "SAME",
) -> Float[Array, "B H2 W2 D"]:
    """Compute the fractionally strided correlation, as lax.conv_transpose does.

    The output has H2 = H * strides[0] and W2 = W * strides[1] ("SAME"), or all pixels that an input pixel
    contributes to, H2 = (H - 1) * strides[0] + h ("VALID").

    Raises:
      ValueError: if a side of the kernel is shorter than its stride: some output pixels would get no input.
    """
    if kernel.shape[0] < strides[0] or kernel.shape[1] < strides[1]:
        raise ValueError(f"kernel {kernel.shape[:2]} is shorter than the strides {tuple(strides)}")
    if _on_cpu():
        return overlap_add(x, kernel, strides, padding)
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def overlap_add(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: tuple[int, int],
    padding: Literal["SAME", "VALID"] = "SAME",
) -> Float[Array, "B H2 W2 D"]:
    """Compute conv_transpose as one matrix product and a sum of overlapping blocks.

    The product gives every input pixel its h x w block of the output. Blocks are cut into tiles of the size
    of the stride. Tile (i, j) of all blocks lies on a grid without overlaps, so that the output is the sum of
    mh * mw shifted images, mh = ceil(h / strides[0]) and mw = ceil(w / strides[1]).
    """
    h, w, C, D = kernel.shape
    B, H, W, _ = x.shape
    sh, sw = strides
    mh = -(-h // sh)
    mw = -(-w // sw)
    # lax correlates the kernel with the dilated input: offsets within a block run against the kernel's, so
    # the kernel is mirrored. It is padded to whole tiles.
    weights = jnp.pad(kernel[::-1, ::-1], ((0, mh * sh - h), (0, mw * sw - w), (0, 0), (0, 0)))
    # Columns in the order (tile row, tile column, row in the tile, column in the tile, output channel).
    weights = weights.reshape(mh, sh, mw, sw, C, D).transpose(4, 0, 2, 1, 3, 5).reshape(C, -1)
    # split, not slices: the transpose of a split is one concatenation, that of slices a sum of padded arrays.
    tiles = jnp.split((x.reshape(-1, C) @ weights).reshape(B, H, W, -1), mh * mw, axis=-1)
    at = [(i, j) for i in range(mh) for j in range(mw)]
    # Tile (i, j) of input pixel (y, x) belongs to tile (y + i, x + j) of the output.
    spread = [
        jnp.pad(tile, ((0, 0), (i, mh - 1 - i), (j, mw - 1 - j), (0, 0)))
        for tile, (i, j) in zip(tiles, at, strict=True)
    ]
    out = functools.reduce(jnp.add, spread).reshape(B, H + mh - 1, W + mw - 1, sh, sw, D)
    # Tiles back to pixels, then the crop that lax's "SAME" makes.
    out = out.transpose(0, 1, 3, 2, 4, 5).reshape(B, (H + mh - 1) * sh, (W + mw - 1) * sw, D)
    if padding == "VALID":
        return out[:, : (H - 1) * sh + h, : (W - 1) * sw + w]
    top = _offset(h, sh)
    left = _offset(w, sw)
    return out[:, top : top + H * sh, left : left + W * sw]


def _offset(size: int, stride: int) -> int:
    """Return the first row of the full result that the padding "SAME" of lax.conv_transpose keeps."""
    # The full result has size - 1 rows of padding before the dilated input. lax pads by half of
    # size + stride - 2, rounded up, or by size - 1 if the stride is larger than that.
    padding = size - 1 if stride > size - 1 else -(-(size + stride - 2) // 2)
    return size - 1 - padding


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


class Conv(nn.Module):
    """Apply a convolution with linen.Conv's parameter names: B H W C -> B H/stride W/stride features.

    Attributes:
      features: D, the number of output channels.
      kernel_size, strides: (height, width), or one number for both.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      use_bias: add a bias. Use none before a norm: its true gradient is zero there, and Adam lets it drift.
      dtype: dtype of the computation; parameters are float32.
      transpose: upsample by the strides instead (fractionally strided; padding "SAME").
      groups: of channels that are convolved apart.
    """

    features: int
    kernel_size: int | tuple[int, int] = (3, 3)
    strides: int | tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Any = jnp.float32
    transpose: bool = False
    groups: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 D"]:
        size = _pair(self.kernel_size)
        strides = _pair(self.strides)
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1] // self.groups, self.features))
        x = x.astype(self.dtype)
        kernel = kernel.astype(self.dtype)
        if self.transpose:
            y = conv_transpose(x, kernel, strides)
        else:
            y = conv(x, kernel, strides, self.padding, self.groups)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,))
            y = y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


def _pair(n: int | tuple[int, int]) -> tuple[int, int]:
    return (n, n) if isinstance(n, int) else n


class BatchNorm(nn.Module):
    """Normalise over all axes but the last (Ioffe & Szegedy 2015, arXiv:1502.03167, alg. 1).

    The statistics are those of the global batch on every engine. Running averages are kept in the
    collection "batch_stats"; with train=False they replace the batch's statistics.

    Attributes:
      momentum: weight of the old running average.
      epsilon: added to the variance.
      center: learn a shift.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    center: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"], train: bool) -> Float[Array, "*B C"]:
        C = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (C,))
        var = self.variable("batch_stats", "var", jnp.ones, (C,))
        mu = mean.value
        sigma2 = var.value
        if train:
            rows = x.reshape(-1, C).astype(jnp.float32)
            n = across(jnp.float32(rows.shape[0]))
            # Sums, not means, over the devices, and the variance around the global mean.
            mu = across(rows.sum(0)) / n
            sigma2 = across(jnp.square(rows - mu[None]).sum(0)) / n
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                m = self.momentum
                mean.value = m * mean.value + (1 - m) * lax.stop_gradient(mu)
                var.value = m * var.value + (1 - m) * lax.stop_gradient(sigma2)
        # y = x * scale + shift: one multiplication and one addition over the feature map.
        scale = self.param("scale", nn.initializers.ones, (C,)) * lax.rsqrt(sigma2 + self.epsilon)
        shift = -mu * scale
        if self.center:
            shift = shift + self.param("bias", nn.initializers.zeros, (C,))
        ones = (1,) * (x.ndim - 1)
        return x * scale.reshape(*ones, C).astype(x.dtype) + shift.reshape(*ones, C).astype(x.dtype)


def upsample(x: Float[Array, "B H W C"], factor: int = 2) -> Float[Array, "B H2 W2 C"]:
    """Upsample by nearest neighbour: each pixel becomes a block of factor x factor."""
    B, H, W, C = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (B, H, factor, W, factor, C))
    return x.reshape(B, H * factor, W * factor, C)


def downsample(x: Float[Array, "B H W C"], factor: int = 2) -> Float[Array, "B H2 W2 C"]:
    """Average each block of factor x factor pixels; height and width must be multiples of `factor`."""
    B, H, W, C = x.shape
    return x.reshape(B, H // factor, factor, W // factor, factor, C).mean((2, 4))


def halvings(height: int, width: int, smallest: int = 4) -> int:
    """Count the even halvings of an image with no side below `smallest`: 28 -> 2 (to 7), 64 -> 4."""
    n = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= smallest:
        height //= 2
        width //= 2
        n += 1
    return n


def shift(
    keys: jax.Array, x: Float[Array, "B H W C"], most: int, fill: float = 0.0
) -> Float[Array, "B H W C"]:
    """Shift each image by a random whole number of pixels, at most `most` in each direction.

    Args:
      keys: one PRNG key per row.
      fill: value of the pixels that are shifted in.
    """
    size = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=fill)

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        top, left = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return lax.dynamic_slice(image, (top, left, 0), size)

    return jax.vmap(one)(keys, padded)
