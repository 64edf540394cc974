"""Define networks from images to images: a residual generator, a U-Net, and one that enlarges.

Norms are over each image and channel (instance normalisation; Ulyanov et al. 2016, arXiv:1607.08022), so that
a row does not depend on other rows. Values are in [-1, 1].
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nn.conv import Conv
from genjax.nn.groupnorm import GroupNorm


def _norm(x: Float[Array, "B H W C"], name: str) -> Float[Array, "B H W C"]:
    return GroupNorm(x.shape[-1], name=name)(x)


class ResidualGenerator(nn.Module):
    """Halve the image, apply residual blocks, and double it again.

    Zhu et al. 2017 (arXiv:1703.10593, app. 7.2).

    Attributes:
      channels: of the output.
      width: channels at the full size, doubled at each halving.
      halvings: strided convolutions.
      blocks: residual blocks at the smallest size.
    """

    channels: int
    width: int
    halvings: int
    blocks: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        h = nn.relu(_norm(Conv(self.width, 7, use_bias=False, name="in")(x), "norm_in"))
        for i in range(self.halvings):
            h = Conv(self.width * 2 ** (i + 1), 4, 2, use_bias=False, name=f"down_{i}")(h)
            h = nn.relu(_norm(h, f"norm_down_{i}"))
        for i in range(self.blocks):
            inner = Conv(h.shape[-1], use_bias=False, name=f"block_{i}_in")(h)
            inner = nn.relu(_norm(inner, f"block_{i}_norm_in"))
            inner = Conv(h.shape[-1], use_bias=False, name=f"block_{i}_out")(inner)
            h = h + _norm(inner, f"block_{i}_norm_out")
        for i in reversed(range(self.halvings)):
            h = Conv(self.width * 2**i, 4, 2, use_bias=False, transpose=True, name=f"up_{i}")(h)
            h = nn.relu(_norm(h, f"norm_up_{i}"))
        return jnp.tanh(Conv(self.channels, 7, name="out")(h))


class UNetGenerator(nn.Module):
    """Halve the image several times and double it again, with skip connections at each size.

    Isola et al. 2017 (arXiv:1611.07004, app. 6.1), without dropout: the output is a function of the input.

    Attributes:
      channels: of the output.
      width: channels after the first halving, doubled at each further one up to 8 times as many.
      halvings: strided convolutions.
    """

    channels: int
    width: int
    halvings: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        widths = [self.width * min(2**i, 8) for i in range(self.halvings)]
        h = x
        skips = []
        for i, width in enumerate(widths):
            skips.append(h)
            # The smallest map may be one pixel, whose norm would be zero; the first layer has no norm either.
            plain = i in (0, self.halvings - 1)
            h = Conv(width, 4, 2, use_bias=plain, name=f"down_{i}")(h)
            h = nn.leaky_relu(h if plain else _norm(h, f"norm_down_{i}"), 0.2)
        for i in reversed(range(1, self.halvings)):
            h = Conv(widths[i - 1], 4, 2, use_bias=False, transpose=True, name=f"up_{i}")(h)
            h = nn.relu(_norm(h, f"norm_up_{i}"))
            h = jnp.concatenate([h, skips[i]], -1)
        h = nn.relu(Conv(self.width, 4, 2, transpose=True, name="up_0")(h))
        # The image itself is the last skip connection.
        return jnp.tanh(Conv(self.channels, 3, name="out")(jnp.concatenate([h, skips[0]], -1)))


class Enlarger(nn.Module):
    """Enlarge an image: residual blocks at the small size, then one shuffle of channels to pixels.

    The blocks of EDSR (Lim et al. 2017, arXiv:1707.02921, sec. 3.1: no norms) and the sub-pixel convolution
    of Shi et al. 2016 (arXiv:1609.05158, eq. 4). They compute what bicubic interpolation lacks: the last
    layer starts at zero, so that the output is the interpolated image before the first step.

    Attributes:
      channels: of the images.
      factor: of each side.
      width: channels.
      blocks: residual blocks.
    """

    channels: int
    factor: int
    width: int
    blocks: int

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B H W C"]:
        h = Conv(self.width, name="in")(x)
        first = h
        for i in range(self.blocks):
            inner = nn.relu(Conv(self.width, name=f"block_{i}_in")(h))
            h = h + Conv(self.width, name=f"block_{i}_out")(inner)
        h = first + Conv(self.width, name="body")(h)
        h = nn.relu(to_pixels(Conv(self.width * self.factor**2, name="up")(h), self.factor))
        detail = Conv(self.channels, kernel_init=nn.initializers.zeros, name="out")(h)
        return bicubic(x, self.factor) + detail


def to_pixels(x: Float[Array, "B h w K"], factor: int) -> Float[Array, "B H W C"]:
    """Arrange the channels of each pixel, factor x factor x C, as a block of pixels."""
    B, h, w, K = x.shape
    blocks = x.reshape(B, h, w, factor, factor, K // factor**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(B, h * factor, w * factor, K // factor**2)


def bicubic(x: Float[Array, "B h w C"], factor: int) -> Float[Array, "B H W C"]:
    """Enlarge by bicubic interpolation (Keys 1981, a = -1/2)."""
    B, h, w, C = x.shape
    return jax.image.resize(x, (B, h * factor, w * factor, C), "cubic")
