"""Write a block of BigGAN and the synthesis of StyleGAN2 in PyTorch, with the weights of genjax's.

NCHW and torch.nn.functional, as a PyTorch user would write them. Each takes {path: array}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional as F

from experiments.benchmarks.latents_torch import Peer

TAPS = (1.0, 3.0, 3.0, 1.0)


class BigGANBlock(Peer):
    """Double an image by a residual block whose batch norms read the class and a part of z."""

    def norm(self, x: torch.Tensor, given: torch.Tensor, path: str) -> torch.Tensor:
        """Normalise over the batch, then scale and shift each channel."""
        h = F.batch_norm(x, None, None, weight=self.at(f"{path}/batch/scale"), training=True)
        scale = self.dense(given, f"{path}/scale")
        shift = F.linear(given, self.at(f"{path}/shift/kernel"), self.at(f"{path}/shift/bias"))
        return torch.relu(h * (1 + scale)[:, :, None, None] + shift[:, :, None, None])

    def forward(self, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) and (B, G) to (B, D, 2 H, 2 W)."""
        wide = lambda h: F.interpolate(h, scale_factor=2, mode="nearest")
        h = self.conv(wide(self.norm(x, given, "norm_0")), "conv_0")
        h = self.conv(self.norm(h, given, "norm_1"), "conv_1")
        return h + self.conv(wide(x), "skip")


class Synthesis(Peer):
    """Turn styles (B, L, W) into images (B, C, H, W), without noise.

    Activations are scaled by the style and divided by the norm of the scaled kernel, as the authors' code
    does in training.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        # `bias` is a method of Peer.
        super().__init__({"offset" if path == "bias" else path: x for path, x in arrays.items()})
        self.depth = 1 + sum(path.endswith("/conv/kernel") for path in arrays)
        taps = torch.tensor(TAPS) / sum(TAPS)
        self.register_buffer("filter", torch.outer(taps, taps))

    def filtered(self, x: torch.Tensor, padding: int) -> torch.Tensor:
        """Filter each channel, with the gain that makes up for inserted zeros."""
        kernel = (4 * self.filter).expand(x.shape[1], 1, 4, 4)  # type: ignore[operator]
        return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])

    def doubled(self, x: torch.Tensor) -> torch.Tensor:
        """Double an image: zeros between the pixels, then the filter."""
        kernel = (4 * self.filter).expand(x.shape[1], 1, 4, 4)  # type: ignore[operator]
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])

    def modulated(self, x: torch.Tensor, w: torch.Tensor, path: str, *, double: bool, demodulate: bool):
        """Apply a modulated convolution."""
        kernel = self.at(f"{path}/kernel")
        kernel = kernel / math.sqrt(kernel[0].numel())
        scale = self.at(f"{path}/affine/kernel") / math.sqrt(w.shape[-1])
        style = F.linear(w, scale, self.at(f"{path}/affine/bias"))
        h = x * style[:, :, None, None]
        if double:
            # torch's transposed convolution mirrors its kernel.
            h = F.conv_transpose2d(h, kernel.flip(2, 3).transpose(0, 1), stride=2)
            h = self.filtered(h, 1)
        else:
            h = F.conv2d(h, kernel, padding=kernel.shape[-1] // 2)
        if demodulate:
            norm = style.square() @ kernel.square().sum((2, 3)).T
            h = h * (norm + 1e-8).rsqrt()[:, :, None, None]
        return h

    def forward(self, styles: torch.Tensor) -> torch.Tensor:
        """Return the images."""
        start = self.at("start").permute(0, 3, 1, 2)
        x = start.expand(styles.shape[0], -1, -1, -1)
        image = None
        for i in range(self.depth - 1):
            path = f"layers_{i}"
            double = i % 2 == 1
            x = self.modulated(x, styles[:, i], f"{path}/conv", double=double, demodulate=True)
            x = F.leaky_relu(x + self.at(f"{path}/bias")[None, :, None, None], 0.2) * math.sqrt(2.0)
            if i % 2 == 0:
                read = {"double": False, "demodulate": False}
                part = self.modulated(x, styles[:, i + 1], f"images_{i // 2}", **read)
                image = part if image is None else self.doubled(image) + part
        assert image is not None
        return image + self.at("offset")[None, :, None, None]
