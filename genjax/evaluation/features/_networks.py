"""Turn a pretrained convolutional network into a feature extractor.

A network is a function of (Convolutions, images) that names each of its convolutions as the torch state dict
does. Running it abstractly lists the leaves that it needs; running it with weights computes features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from genjax.errors import ConfigError
from genjax.evaluation.batches import mapped
from genjax.evaluation.features import Features, Request, _weights

LAYOUT = ("NHWC", "HWIO", "NHWC")
"""lax's dimension numbers of input, kernel and output."""
NORM = ("weight", "bias", "running_mean", "running_var")
"""Leaves of torch's batch normalisation."""
EPSILON = 1e-3
"""Added to the variance by the batch normalisation of both networks."""
ROWS = 32
"""Images embedded at once. Activations of one image take tens of megabytes."""

Padding = str | Sequence[tuple[int, int]]
"""As lax.conv_general_dilated takes it: "SAME", "VALID" or (before, after) per axis."""
Folded = Mapping[str, tuple[Any, Any]]
"""Name of a convolution -> (kernel (h, w, C, D), bias (D,)), batch normalisation included."""


class Convolutions:
    """Apply the convolutions of a network by name, each followed by batch normalisation.

    Args:
      folded: the weights; None to record the leaves only.

    Attributes:
      leaves: name -> shape of every leaf that was used, as in the torch state dict.
      norms: name of a convolution -> name of its batch normalisation.
    """

    def __init__(self, folded: Folded | None = None):
        self.folded = folded
        self.leaves: dict[str, tuple[int, ...]] = {}
        self.norms: dict[str, str] = {}

    def __call__(
        self,
        x: Float[Array, "B H W C"],
        name: str,
        norm: str,
        kernel: tuple[int, int, int],
        stride: int = 1,
        padding: Padding = "SAME",
        depthwise: bool = False,
    ) -> Float[Array, "B H2 W2 D"]:
        """Return the normalised convolution of x.

        Args:
          x: images.
          name: of the convolution.
          norm: of its batch normalisation.
          kernel: (height, width, D), D the number of output channels.
          stride: in both directions.
          padding: as lax.conv_general_dilated takes it.
          depthwise: convolve every channel with a kernel of its own; D = C.
        """
        h, w, D = kernel
        inputs = 1 if depthwise else x.shape[-1]
        self.leaves[f"{name}.weight"] = (D, inputs, h, w)
        self.leaves |= {f"{norm}.{leaf}": (D,) for leaf in NORM}
        self.norms[name] = norm
        if self.folded is None:
            weights = jnp.zeros((h, w, inputs, D))
            bias = jnp.zeros((D,))
        else:
            weights, bias = self.folded[name]
        if depthwise:
            y = _depthwise(x, weights, stride, padding)
        else:
            # Accelerators would round the factors to fewer bits, and features would depend on the device.
            precision = lax.Precision.HIGHEST
            y = lax.conv_general_dilated(
                x, weights, (stride, stride), padding, dimension_numbers=LAYOUT, precision=precision
            )
        return y + bias.reshape(1, 1, 1, D)


def _depthwise(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w 1 C"], stride: int, padding: Padding
) -> Float[Array, "B H2 W2 C"]:
    """Convolve every channel with a kernel of its own."""
    h, w = kernel.shape[:2]
    sides = padding
    if isinstance(sides, str):
        sides = lax.padtype_to_pads(x.shape[1:3], (h, w), (stride, stride), sides)
    x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    # One scaled copy of the image per entry of the kernel: XLA fuses the sum into one loop over pixels, while
    # its own convolution with feature_group_count = C runs without vector instructions on a CPU.
    H = x.shape[1] - h + 1
    W = x.shape[2] - w + 1
    shifted = [
        kernel[i, j].reshape(1, 1, 1, -1) * x[:, i : i + H : stride, j : j + W : stride]
        for i in range(h)
        for j in range(w)
    ]
    return functools.reduce(jnp.add, shifted)


class Network(NamedTuple):
    """Describe a pretrained network.

    Attributes:
      name: of the extractor.
      forward: (Convolutions, prepared images) -> features (B, D).
      prepare: images (B, H, W, 3 or 1) with values in [0, 255] -> images as `forward` takes them.
      preprocessing: describes `prepare` and the layer; part of the digest.
      unused: leaves of the state dict that the features do not depend on.
      convert: the command that writes the file of weights.
      description: one line for reports.
    """

    name: str
    forward: Callable[[Convolutions, Array], Array]
    prepare: Callable[[Array], Array]
    preprocessing: str
    unused: Mapping[str, tuple[int, ...]]
    convert: str
    description: str


def record(network: Network) -> Convolutions:
    """Return the convolutions of a network with their leaves, without computing anything."""
    convolutions = Convolutions()
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    jax.eval_shape(lambda x: network.forward(convolutions, network.prepare(x)), image)
    return convolutions


def fold(tensors: Mapping[str, np.ndarray], norms: Mapping[str, str]) -> dict[str, tuple[Array, Array]]:
    """Fold batch normalisation into the convolutions, in double precision.

    With s = gamma / sqrt(variance + epsilon), gamma (k * x - mean) / sqrt(variance + epsilon) + beta equals
    (s k) * x + (beta - s mean) (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.1).
    """
    out = {}
    for name, norm in norms.items():
        gamma, beta, mean, variance = (tensors[f"{norm}.{leaf}"].astype(np.float64) for leaf in NORM)
        scale = gamma / np.sqrt(variance + EPSILON)
        # torch keeps (D, C, h, w), lax takes (h, w, C, D).
        kernel = tensors[f"{name}.weight"].transpose(2, 3, 1, 0) * scale
        bias = beta - mean * scale
        out[name] = (jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32))
    return out


def extractor(network: Network, path: Any, request: Request) -> Features:
    """Return the extractor of a network with the weights of a file.

    Raises:
      ConfigError: the element is not an image with one or three channels.
      DataError: the file is missing, damaged or of another network.
    """
    levels = _levels(network.name, request)
    recorded = record(network)
    tensors = _weights.read(path, recorded.leaves, network.unused, network.convert)
    folded = fold(tensors, recorded.norms)
    # Integers in [0, levels) and real values in [0, 1] become real values in [0, 255].
    scale = 255 / (max(levels - 1, 1) if levels else 1)

    # The weights are an argument: as constants they would be copied into the program.
    @jax.jit
    def features(folded: Folded, images: Array) -> Array:
        x = network.prepare(images.astype(jnp.float32) * scale)
        return network.forward(Convolutions(folded), x)

    def embed(values: np.ndarray) -> np.ndarray:
        run = functools.partial(features, folded)
        return mapped(run, np.asarray(values), min(len(values), ROWS))

    preprocessing = f"{network.name}: {network.preprocessing}; levels {levels}"
    return Features(
        embed=embed,
        classify=None,
        digest=_weights.digest(tensors, preprocessing),
        description=network.description,
        element=request.element or "",
    )


def _levels(name: str, request: Request) -> int | None:
    """Return the number of levels of the images, None for real values."""
    spec = request.dataset.spec
    element = None if request.element is None else spec[request.element]
    if element is None or len(element.shape) != 3 or element.shape[-1] not in (1, 3):
        shape = None if element is None else element.shape
        raise ConfigError(
            f"features {name!r} need images (height, width, 1 or 3 channels); "
            f"the target of {request.dataset.name!r} has shape {shape}",
            "leave evaluate.features out for this dataset",
        )
    return element.levels


def colour(x: Float[Array, "B H W C"]) -> Float[Array, "B H W 3"]:
    """Return images with three channels; a single channel is repeated."""
    return jnp.broadcast_to(x, (*x.shape[:-1], 3))
