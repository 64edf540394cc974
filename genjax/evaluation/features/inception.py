"""Measure in the 2048 features of the Inception network of the Fréchet Inception distance (FID).

The network is the TensorFlow graph "inception-2015-12-05" (Szegedy et al. 2015, arXiv:1512.00567). Its last
pooled layer defines the FID (Heusel et al. 2017, arXiv:1706.08500). It differs from torchvision's Inception
v3: average pooling leaves padded pixels out, and the last block pools by maximum. The user supplies the
weights, e.g. pt_inception-2015-12-05-6726825d.pth of pytorch-fid; they are converted once to safetensors.
"""

from __future__ import annotations

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from genjax.errors import DataError
from genjax.evaluation.features import Features, Request
from genjax.evaluation.features._networks import Convolutions, Network, colour, extractor

SIZE = 299
"""Height and width of the images that the network takes."""
CONVERT = "python -m genjax.evaluation.features._convert inception IN.pth OUT.safetensors"
Unit = tuple[str, int, int | tuple[int, int]]
"""A convolution: (name within its block, output channels, size of the kernel or (height, width))."""


def build(argument: str, request: Request) -> Features:
    """Return the extractor with the weights of the safetensors file `argument`.

    Raises:
      ConfigError: the data has no images with one or three channels.
      DataError: no file named, or one that is missing, pickled, damaged or of another network.
    """
    if not argument:
        raise DataError(
            "features 'inception' names no file of weights",
            f"use evaluate.features=inception:OUT.safetensors, written by: {CONVERT}",
        )
    return extractor(network(), Path(argument).expanduser(), request)


def network() -> Network:
    """Describe the network, its preprocessing and the leaves of its state dict."""
    return Network(
        name="inception",
        forward=forward,
        prepare=prepare,
        preprocessing=f"bilinear resize of TensorFlow 1 to {SIZE}x{SIZE}, (x - 128) / 128, pool3",
        unused={"fc.weight": (1008, 2048), "fc.bias": (1008,)},
        convert=CONVERT,
        description="the 2048 pooled features of the Inception network of 2015-12-05 (FID)",
    )


def prepare(x: Float[Array, "B H W C"]) -> Float[Array, "B 299 299 3"]:
    """Resize images with values in [0, 255] to 299x299 and scale them to [-1, 1)."""
    x = resize(resize(x, SIZE, axis=2), SIZE, axis=1)
    return colour((x - 128) / 128)


def resize(x: Float[Array, "B H W C"], size: int, axis: int) -> Float[Array, "B H2 W2 C"]:
    """Interpolate one axis linearly as TensorFlow 1 does (resize_bilinear with align_corners=False).

    Pixel i of the output lies at i * (old size / size) of the input: corners, not centres, coincide, and
    nothing is averaged when an image shrinks. The positions are float32, as TensorFlow computes them.
    """
    old = x.shape[axis]
    position = np.arange(size, dtype=np.float32) * np.float32(old / size)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    shape = [1, 1, 1, 1]
    shape[axis] = size
    fraction = (position - low.astype(np.float32)).reshape(shape)
    left = jnp.take(x, low, axis=axis)
    return left + (jnp.take(x, high, axis=axis) - left) * fraction


def forward(conv: Convolutions, x: Float[Array, "B 299 299 3"]) -> Float[Array, "B 2048"]:
    """Return the features before the classifier, averaged over the 8x8 pixels."""
    unit = functools.partial(_unit, conv)
    x = unit(x, "Conv2d_1a_3x3", 32, 3, stride=2, padding="VALID")
    x = unit(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
    x = unit(x, "Conv2d_2b_3x3", 64, 3)
    x = _max_pool(x, stride=2)
    x = unit(x, "Conv2d_3b_1x1", 80, 1)
    x = unit(x, "Conv2d_4a_3x3", 192, 3, padding="VALID")
    x = _max_pool(x, stride=2)
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _block_a(conv, x, name, pooled)
    x = _block_b(conv, x, "Mixed_6a")
    for name, inner in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _block_c(conv, x, name, inner)
    x = _block_d(conv, x, "Mixed_7a")
    x = _block_e(conv, x, "Mixed_7b", _average_pool(x))
    x = _block_e(conv, x, "Mixed_7c", _max_pool(x, stride=1))
    return x.mean((1, 2))


def _unit(
    conv: Convolutions,
    x: Array,
    name: str,
    features: int,
    size: int | tuple[int, int],
    stride: int = 1,
    padding: str = "SAME",
) -> Array:
    """Apply a convolution, its normalisation and ReLU."""
    h, w = (size, size) if isinstance(size, int) else size
    x = conv(x, f"{name}.conv", f"{name}.bn", (h, w, features), stride, padding)
    return jnp.maximum(x, 0)


def _chain(conv: Convolutions, x: Array, block: str, *units: Unit) -> Array:
    """Apply convolutions of a block one after the other."""
    for name, features, size in units:
        x = _unit(conv, x, f"{block}.{name}", features, size)
    return x


def _reduce(conv: Convolutions, x: Array, name: str, features: int) -> Array:
    """Halve the resolution with a 3x3 convolution without padding."""
    return _unit(conv, x, name, features, 3, stride=2, padding="VALID")


def _block_a(conv: Convolutions, x: Array, name: str, pooled: int) -> Array:
    chain = functools.partial(_chain, conv, x, name)
    branches = [
        chain(("branch1x1", 64, 1)),
        chain(("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        chain(("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        _chain(conv, _average_pool(x), name, ("branch_pool", pooled, 1)),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_b(conv: Convolutions, x: Array, name: str) -> Array:
    double = _chain(conv, x, name, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3))
    branches = [
        _reduce(conv, x, f"{name}.branch3x3", 384),
        _reduce(conv, double, f"{name}.branch3x3dbl_3", 96),
        _max_pool(x, stride=2),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_c(conv: Convolutions, x: Array, name: str, inner: int) -> Array:
    chain = functools.partial(_chain, conv, x, name)
    wide = (1, 7)
    tall = (7, 1)
    single = (("branch7x7_1", inner, 1), ("branch7x7_2", inner, wide), ("branch7x7_3", 192, tall))
    double = (
        ("branch7x7dbl_1", inner, 1),
        ("branch7x7dbl_2", inner, tall),
        ("branch7x7dbl_3", inner, wide),
        ("branch7x7dbl_4", inner, tall),
        ("branch7x7dbl_5", 192, wide),
    )
    branches = [
        chain(("branch1x1", 192, 1)),
        chain(*single),
        chain(*double),
        _chain(conv, _average_pool(x), name, ("branch_pool", 192, 1)),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_d(conv: Convolutions, x: Array, name: str) -> Array:
    chain = functools.partial(_chain, conv, x, name)
    small = chain(("branch3x3_1", 192, 1))
    large = chain(("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)))
    branches = [
        _reduce(conv, small, f"{name}.branch3x3_2", 320),
        _reduce(conv, large, f"{name}.branch7x7x3_4", 192),
        _max_pool(x, stride=2),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_e(conv: Convolutions, x: Array, name: str, pooled: Array) -> Array:
    """Apply a block of the last stage; `pooled` is x after the pooling of this block."""
    chain = functools.partial(_chain, conv, x, name)
    single = chain(("branch3x3_1", 384, 1))
    double = chain(("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3))
    branches = [
        chain(("branch1x1", 320, 1)),
        _chain(conv, single, name, ("branch3x3_2a", 384, (1, 3))),
        _chain(conv, single, name, ("branch3x3_2b", 384, (3, 1))),
        _chain(conv, double, name, ("branch3x3dbl_3a", 384, (1, 3))),
        _chain(conv, double, name, ("branch3x3dbl_3b", 384, (3, 1))),
        _chain(conv, pooled, name, ("branch_pool", 192, 1)),
    ]
    return jnp.concatenate(branches, axis=-1)


def _max_pool(x: Array, stride: int) -> Array:
    """Return the maximum over 3x3 pixels; without padding for stride 2, of the same size for stride 1."""
    padding = "VALID" if stride > 1 else "SAME"
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _average_pool(x: Array) -> Array:
    """Return the mean over 3x3 pixels; pixels outside the image are left out, not counted as zeros."""
    total = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    H, W = x.shape[1:3]
    # Pixels of each window inside the image, per axis: 2 at the border, 3 elsewhere.
    rows = np.convolve(np.ones(H, np.float32), np.ones(3, np.float32), "same")
    columns = np.convolve(np.ones(W, np.float32), np.ones(3, np.float32), "same")
    return total / np.outer(rows, columns).reshape(1, H, W, 1)
