"""Write a convolutional VAE, a VQ-VAE and RealNVP in PyTorch, with the weights and the loss of genjax's.

Each class takes the parameters of the genjax model as {path: array} and images (B, 1, 28, 28), int64. `loss`
takes the noise of the step. They are the programs that a PyTorch user would write: NCHW, torch.nn.functional.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LEVELS = 256
LOG_2PI = math.log(2 * math.pi)


class Peer(nn.Module):
    """Hold parameters under genjax's paths, in torch's layouts.

    Args:
      arrays: {path: array}; kernels are HWIO or (in, out).
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        super().__init__()
        self.names = {path: path.replace("/", "__") for path in arrays}
        for path, x in arrays.items():
            self.register_parameter(self.names[path], nn.Parameter(torch.tensor(_layout(path, x).copy())))

    def at(self, path: str) -> torch.Tensor:
        """Return the parameter of a path."""
        return getattr(self, self.names[path])

    def bias(self, path: str) -> torch.Tensor | None:
        """Return the bias of a layer; None if it has none."""
        return self.at(f"{path}/bias") if f"{path}/bias" in self.names else None

    def conv(self, x: torch.Tensor, path: str, stride: int = 1) -> torch.Tensor:
        """Apply a convolution with the padding that keeps the size, or halves it with stride 2."""
        kernel = self.at(f"{path}/kernel")
        return F.conv2d(x, kernel, self.bias(path), stride, (kernel.shape[-1] - 1) // 2)

    def up(self, x: torch.Tensor, path: str) -> torch.Tensor:
        """Double the size by a transposed 4x4 convolution."""
        return F.conv_transpose2d(x, self.at(f"{path}/kernel"), self.bias(path), 2, 1)

    def learn(self) -> None:
        """Update what is not learned by gradient."""

    def dense(self, x: torch.Tensor, path: str) -> torch.Tensor:
        """Apply a linear layer."""
        return F.linear(x, self.at(f"{path}/kernel"), self.bias(path))


def _layout(path: str, x: np.ndarray) -> np.ndarray:
    if not path.endswith("kernel"):
        return x
    if x.ndim == 2:
        return x.T
    if "/up_" in path:
        return x[::-1, ::-1].transpose(2, 3, 0, 1)
    return x.transpose(3, 2, 0, 1)


class VAE(Peer):
    """Two halvings, a hidden layer of 256, SiLU, Bernoulli likelihood of grey values."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        arrays = dict(arrays)
        # genjax flattens H W C, torch C H W.
        first = arrays["encoder/body/dense_0/kernel"]
        grid = (7, 7, first.shape[0] // 49)
        wide = first.reshape(*grid, -1).transpose(2, 0, 1, 3)
        arrays["encoder/body/dense_0/kernel"] = wide.reshape(first.shape)
        last = arrays["decoder/body/dense_1/kernel"]
        wide = last.reshape(-1, *grid).transpose(0, 3, 1, 2)
        arrays["decoder/body/dense_1/kernel"] = wide.reshape(last.shape)
        bias = arrays["decoder/body/dense_1/bias"]
        arrays["decoder/body/dense_1/bias"] = bias.reshape(grid).transpose(2, 0, 1).reshape(-1)
        super().__init__(arrays)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = F.silu(self.conv(x, "encoder/in"))
        for i in range(2):
            h = F.silu(self.conv(h, f"encoder/down_{i}", 2))
        h = F.silu(self.dense(h.flatten(1), "encoder/body/dense_0"))
        mean, log_std = self.dense(h, "encoder/posterior").chunk(2, -1)
        return mean, log_std

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.dense(z, "decoder/body/dense_0"))
        h = F.silu(self.dense(h, "decoder/body/dense_1")).unflatten(1, (-1, 7, 7))
        for i in (1, 0):
            h = F.silu(self.up(h, f"decoder/up_{i}"))
        return self.conv(h, "decoder/out")

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        unit = image / (LEVELS - 1)
        mean, log_std = self.encode(unit)
        logits = self.decode(mean + log_std.exp() * noise)
        distortion = F.binary_cross_entropy_with_logits(logits, unit, reduction="sum")
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum()
        return (distortion + kl) / len(image)


class VQVAE(Peer):
    """Two halvings, two residual blocks, a codebook of moving averages, a normal with one learned scale."""

    codes: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor

    def __init__(self, arrays: Mapping[str, np.ndarray], book: Mapping[str, np.ndarray], smallest: float):
        super().__init__(arrays)
        for name in ("codes", "count", "total"):
            self.register_buffer(name, torch.tensor(np.array(book[name])))
        self.smallest = smallest

    def blocks(self, h: torch.Tensor, half: str) -> torch.Tensor:
        for i in range(2):
            inner = self.conv(F.relu(h), f"network/{half}/block_{i}/in")
            h = h + self.conv(F.relu(inner), f"network/{half}/block_{i}/out")
        return F.relu(h)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        h = x
        for i in range(2):
            h = F.relu(self.conv(h, f"network/encoder/down_{i}", 2))
        h = self.blocks(self.conv(h, "network/encoder/body"), "encoder")
        return self.conv(h, "network/encoder/out")

    def decode(self, q: torch.Tensor) -> torch.Tensor:
        h = self.blocks(self.conv(q, "network/decoder/body"), "decoder")
        for i in (1, 0):
            h = F.relu(self.up(h, f"network/decoder/up_{i}"))
        return self.conv(h, "network/decoder/out")

    def forward(self, image: torch.Tensor, noise: None = None) -> torch.Tensor:
        x = 2 * image / (LEVELS - 1) - 1
        z = self.encode(x)
        rows = z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        index = (self.codes.square().sum(-1) - 2 * rows @ self.codes.T).argmin(-1)
        q = self.codes[index].view(z.shape[0], *z.shape[2:], -1).permute(0, 3, 1, 2)
        location = self.decode(z + (q - z).detach())
        log_std = (F.softplus(self.at("network/spread") - 1.5) + self.smallest).log()
        nats = 0.5 * ((x - location) * (-log_std).exp()).square() + log_std + 0.5 * LOG_2PI
        penalty = 0.25 * (z - q.detach()).square().mean()
        self.assigned = rows, index
        return nats.mean() + penalty

    @torch.no_grad()
    def learn(self) -> None:
        """Update the averages of the codebook with the last batch."""
        rows, index = self.assigned
        one_hot = F.one_hot(index, len(self.codes)).float()
        self.count.mul_(0.99).add_(one_hot.sum(0), alpha=0.01)
        self.total.mul_(0.99).add_(one_hot.T @ rows, alpha=0.01)
        sum_ = self.count.sum()
        smooth = (self.count + 1e-5) / (sum_ + 1e-5 * len(self.count)) * sum_
        self.codes.copy_(self.total / smooth[:, None])


class RealNVP(Peer):
    """Checkerboard couplings, squeeze, channel couplings, and half of the channels leaves after a level."""

    def __init__(self, arrays: Mapping[str, np.ndarray], checkerboard: int, steps: int):
        super().__init__(arrays)
        self.checkerboard = checkerboard
        self.steps = steps

    def network(self, x: torch.Tensor, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        h = F.relu(self.conv(x, f"{path}/network/in"))
        h = F.relu(self.conv(h, f"{path}/network/hidden_0"))
        raw, shift = self.conv(h, f"{path}/network/out").chunk(2, 1)
        return 2 * torch.tanh(raw / 2), shift

    def actnorm(self, x: torch.Tensor, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        log_scale = self.at(f"{path}/log_scale")
        y = x * log_scale.exp()[:, None, None] + self.at(f"{path}/shift")[:, None, None]
        return y, log_scale.sum() * x.shape[2] * x.shape[3]

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        p = 0.05 + 0.9 * (image + noise) / LEVELS
        x = p.log() - torch.log1p(-p)
        total = (math.log(0.9 / LEVELS) - p.log() - torch.log1p(-p)).sum((1, 2, 3))
        z = []
        for level in range(2):
            x, total = self.board(x, total, level)
            B, C, H, W = x.shape
            x = x.view(B, C, H // 2, 2, W // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(B, 4 * C, H // 2, W // 2)
            x, total = self.channels(x, total, level)
            if level == 0:
                x, leaves = x.chunk(2, 1)
                mean, raw = self.conv(x, "heads_0/out").chunk(2, 1)
                log_std = 2 * torch.tanh(raw / 2)
                total = total - log_std.sum((1, 2, 3))
                z.append(((leaves - mean) * (-log_std).exp()).flatten(1))
        noise_z = torch.cat([*z, x.flatten(1)], 1)
        log_p = -0.5 * (noise_z.square() + LOG_2PI).sum(1) + total
        return -log_p.mean() / image[0].numel()

    def board(self, x: torch.Tensor, total: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        parity = (torch.arange(x.shape[2])[:, None] + torch.arange(x.shape[3])[None]) % 2
        for i in range(self.checkerboard):
            fixed = (parity if i % 2 else 1 - parity).to(x.dtype)
            x, log_det = self.actnorm(x, f"before_{level}_{2 * i}")
            log_scale, shift = self.network(x * fixed, f"before_{level}_{2 * i + 1}")
            log_scale = log_scale * (1 - fixed)
            x = x * fixed + x * (1 - fixed) * log_scale.exp() + shift * (1 - fixed)
            total = total + log_det + log_scale.sum((1, 2, 3))
        return x, total

    def channels(self, x: torch.Tensor, total: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        for i in range(self.steps):
            x, log_det = self.actnorm(x, f"after_{level}_{3 * i}")
            fixed, free = x.flip(1).chunk(2, 1)
            log_scale, shift = self.network(fixed, f"after_{level}_{3 * i + 2}")
            x = torch.cat([fixed, free * log_scale.exp() + shift], 1)
            total = total + log_det + log_scale.sum((1, 2, 3))
        return x, total
