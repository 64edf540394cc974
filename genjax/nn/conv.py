"""Two-dimensional convolutions, NHWC, whose form is chosen for the backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = str | Sequence[tuple[int, int]]


def conv(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
) -> Float[Array, "B H2 W2 D"]:
    """Cross-correlation of images with a kernel, as lax.conv_general_dilated in NHWC, HWIO."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


class Conv(nn.Module):
    """A convolution, B H W C -> B H/stride W/stride features, with float32 parameters.

    Attributes:
      features: D, output channels.
      kernel: (height, width), or one number for both.
      stride: in both directions.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      bias: leave it out before a norm: its true gradient is zero there and it drifts under Adam.
      dtype: of the computation.
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    padding: Padding = "SAME"
    bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 D"]:
        k = self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)
        kernel = self.param("kernel", self.kernel_init, (*k, x.shape[-1], self.features))
        y = conv(x.astype(self.dtype), kernel.astype(self.dtype), (self.stride, self.stride), self.padding)
        if self.bias:
            bias = self.param("bias", self.bias_init, (self.features,))
            y = y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


def upsample(x: Float[Array, "B H W C"], factor: int = 2) -> Float[Array, "B H2 W2 C"]:
    """Nearest neighbour: each pixel becomes factor x factor."""
    B, H, W, C = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (B, H, factor, W, factor, C))
    return x.reshape(B, H * factor, W * factor, C)


def downsample(x: Float[Array, "B H W C"], factor: int = 2) -> Float[Array, "B H2 W2 C"]:
    """The mean of each factor x factor block; height and width must be multiples of it."""
    B, H, W, C = x.shape
    return x.reshape(B, H // factor, factor, W // factor, factor, C).mean((2, 4))
