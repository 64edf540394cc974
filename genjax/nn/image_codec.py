"""Define the convolutional encoder and decoder of image codecs (van den Oord et al. 2017, sec. 4.1).

Strided convolutions halve the image, residual blocks follow, and the decoder mirrors them.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from genjax.nn.conv import Conv


class ResidualBlock(nn.Module):
    """Add ReLU, 3x3, ReLU, 1x1 of the input: B H W C -> B H W C."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        channels = x.shape[-1]
        h = Conv(channels, use_bias=False, name="in")(nn.relu(x))
        return x + Conv(channels, 1, use_bias=False, name="out")(nn.relu(h))


class ImageEncoder(nn.Module):
    """Map images to features of a grid that is 2^halvings smaller on each side.

    Attributes:
      features: D, channels of the output.
      width: channels of the first convolution; doubled once the image is halved twice.
      halvings: strided convolutions.
      blocks: residual blocks on the grid.
    """

    features: int
    width: int
    halvings: int
    blocks: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        h = x
        for i in range(self.halvings):
            h = nn.relu(Conv(self.width * min(i + 1, 2), (4, 4), (2, 2), name=f"down_{i}")(h))
        h = Conv(self.width * 2, name="body")(h)
        for i in range(self.blocks):
            h = ResidualBlock(name=f"block_{i}")(h)
        return Conv(self.features, 1, name="out")(nn.relu(h))


class ImageDecoder(nn.Module):
    """Map features of a grid to an image that is 2^halvings larger on each side.

    Attributes:
      channels: of the output.
      width, halvings, blocks: as of ImageEncoder.
    """

    channels: int
    width: int
    halvings: int
    blocks: int = 2

    @nn.compact
    def __call__(self, z: Float[Array, "B h w D"]) -> Float[Array, "B H W C"]:
        h = Conv(self.width * 2, name="body")(z)
        for i in range(self.blocks):
            h = ResidualBlock(name=f"block_{i}")(h)
        h = nn.relu(h)
        for i in reversed(range(self.halvings)):
            h = nn.relu(Conv(self.width * min(i + 1, 2), (4, 4), (2, 2), transpose=True, name=f"up_{i}")(h))
        return Conv(self.channels, name="out")(h)
