"""Define the layers of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): equalised and modulated.

An equalised layer keeps parameters of unit variance and scales them at run time, so that Adam moves all
layers at one relative speed (Karras et al. 2018, arXiv:1710.10196, sec. 4.1).
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.functional import resample
from genjax.nn.conv import conv, conv_transpose

EPSILON = 1e-8


def activate(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Compute the leaky ReLU of slope 0.2, times sqrt(2) to keep the variance."""
    return nn.leaky_relu(x, 0.2) * math.sqrt(2.0)


class EqualDense(nn.Module):
    """Apply an equalised linear layer.

    Attributes:
      features: width of the output.
      rate: learning rate of the parameters, relative to other layers.
      bias: its initial value.
    """

    features: int
    rate: float = 1.0
    bias: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        start = nn.initializers.normal(1.0 / self.rate)
        kernel = self.param("kernel", start, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias / self.rate), (self.features,))
        scale = self.rate / math.sqrt(x.shape[-1])
        return x @ (kernel * scale) + (bias * self.rate)[None]


class EqualConv(nn.Module):
    """Apply an equalised convolution that keeps the size, or halves it behind a filter.

    Attributes:
      features: D, channels of the output.
      size: side of the kernel.
      halve: filter, then take every second pixel.
      bias: add one.
    """

    features: int
    size: int = 3
    halve: bool = False
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 D"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape) / math.sqrt(math.prod(shape[:3]))
        if self.halve:
            # The image keeps its size but for the border that the kernel needs: H + size - 2.
            margin = self.size + 1
            x = resample.blur(x, (margin // 2, margin - margin // 2))
            y = conv(x, kernel, (2, 2), "VALID")
        else:
            y = conv(x, kernel)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).reshape(1, 1, 1, -1)
        return y


class ModulatedConv(nn.Module):
    """Apply a convolution whose input channels are scaled by a style, and normalise its output (sec. 2.2).

    Scaling activations instead of weights serves a whole batch with one kernel: w' = s w, eq. 1, and the
    factor 1 / sqrt(sum w'^2) of eq. 3 is one number per row and output channel.

    Attributes:
      features: D, channels of the output.
      size: side of the kernel.
      double: double the size, and filter behind it.
      demodulate: normalise.
    """

    features: int
    size: int = 3
    double: bool = False
    demodulate: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], w: Float[Array, "B W"]) -> Float[Array, "B H2 W2 D"]:
        style = EqualDense(x.shape[-1], bias=1.0, name="affine")(w)
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape) / math.sqrt(math.prod(shape[:3]))
        return modulated(x, kernel, style, self.double, self.demodulate)


def modulated(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "k k C D"],
    style: Float[Array, "B C"],
    double: bool = False,
    demodulate: bool = True,
) -> Float[Array, "B H2 W2 D"]:
    """Compute the modulated convolution; see ModulatedConv."""
    y = x * style[:, None, None]
    if double:
        # 2 H + k - 2 pixels; the filter, whose gain makes up for the zeros, leaves 2 H.
        y = conv_transpose(y, kernel, (2, 2), "VALID")
        extra = 5 - kernel.shape[0]
        y = resample.blur(y, (extra // 2, extra - extra // 2), gain=4.0)
    else:
        y = conv(y, kernel)
    if demodulate:
        norm = jnp.square(style) @ jnp.square(kernel).sum((0, 1))
        y = y * jax.lax.rsqrt(norm + EPSILON)[:, None, None]
    return y
