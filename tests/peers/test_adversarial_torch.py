"""Parts of adversarial networks against PyTorch: a BigGAN block, StyleGAN2's synthesis, translators."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from experiments.benchmarks import adversarial
from genjax.nn.adversary import PatchDiscriminator
from genjax.nn.translators import Enlarger, ResidualGenerator, UNetGenerator, bicubic
from genjax.training.trees import named

NAMES = ("BigGAN block 128 to 64 channels, 16x16 to 32x32", "StyleGAN2 synthesis, 32x32")


@pytest.mark.peers
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_torch(name: str):
    output, slope = adversarial.difference(adversarial.cases(4)[name])
    assert output < 1e-4
    assert slope < 1e-4


class Peer:
    """Apply torch's layers with the weights of a flax module."""

    def __init__(self, tree: Any):
        self.arrays = named(tree)

    def _tensor(self, x: np.ndarray) -> Any:
        import torch

        return torch.tensor(np.ascontiguousarray(x))

    def bias(self, name: str) -> Any:
        path = f"{name}/bias"
        return self._tensor(np.asarray(self.arrays[path])) if path in self.arrays else None

    def conv(self, x: Any, name: str, stride: int = 1) -> Any:
        from torch.nn import functional as F

        kernel = np.asarray(self.arrays[f"{name}/kernel"]).transpose(3, 2, 0, 1)
        return F.conv2d(x, self._tensor(kernel), self.bias(name), stride, (kernel.shape[-1] - 1) // 2)

    def up(self, x: Any, name: str) -> Any:
        from torch.nn import functional as F

        # torch's transposed convolution mirrors its kernel.
        kernel = np.asarray(self.arrays[f"{name}/kernel"])[::-1, ::-1].transpose(2, 3, 0, 1)
        return F.conv_transpose2d(x, self._tensor(kernel), self.bias(name), 2, 1)

    def norm(self, x: Any, name: str, groups: int | None = None) -> Any:
        """Apply instance normalisation, or group normalisation."""
        from torch.nn import functional as F

        scale, bias = (self._tensor(np.asarray(self.arrays[f"{name}/{n}"])) for n in ("scale", "bias"))
        if groups is None:
            return F.instance_norm(x, weight=scale, bias=bias, eps=1e-5)
        return F.group_norm(x, groups, scale, bias, 1e-6)


def compared(module: Any, theirs: Any, shape: tuple[int, ...]) -> float:
    """The largest difference of a module's output and torch's, at shaken weights."""
    import torch

    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    tree = jax.jit(module.init)(jax.random.key(0), x)["params"]
    leaves, form = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    shaken = [a + 0.05 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    tree = jax.tree.unflatten(form, shaken)
    found = np.asarray(jax.jit(module.apply)({"params": tree}, x))
    other = theirs(Peer(tree), torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    return float(np.abs(found - other.numpy().transpose(0, 2, 3, 1)).max())


@pytest.mark.peers
def test_the_residual_generator_is_that_of_torch():
    def theirs(p: Peer, x: Any) -> Any:
        h = p.norm(p.conv(x, "in"), "norm_in").relu()
        for i in range(2):
            h = p.norm(p.conv(h, f"down_{i}", 2), f"norm_down_{i}").relu()
        for i in range(3):
            inner = p.norm(p.conv(h, f"block_{i}_in"), f"block_{i}_norm_in").relu()
            h = h + p.norm(p.conv(inner, f"block_{i}_out"), f"block_{i}_norm_out")
        for i in (1, 0):
            h = p.norm(p.up(h, f"up_{i}"), f"norm_up_{i}").relu()
        return p.conv(h, "out").tanh()

    assert compared(ResidualGenerator(3, 8, 2, 3), theirs, (2, 16, 16, 3)) < 1e-4


@pytest.mark.peers
def test_the_unet_generator_is_that_of_torch():
    import torch
    from torch.nn.functional import leaky_relu

    def theirs(p: Peer, x: Any) -> Any:
        first = leaky_relu(p.conv(x, "down_0", 2), 0.2)
        second = leaky_relu(p.norm(p.conv(first, "down_1", 2), "norm_down_1"), 0.2)
        third = leaky_relu(p.conv(second, "down_2", 2), 0.2)
        h = torch.cat([p.norm(p.up(third, "up_2"), "norm_up_2").relu(), second], 1)
        h = torch.cat([p.norm(p.up(h, "up_1"), "norm_up_1").relu(), first], 1)
        h = torch.cat([p.up(h, "up_0").relu(), x], 1)
        return p.conv(h, "out").tanh()

    assert compared(UNetGenerator(3, 8, 3), theirs, (2, 16, 16, 3)) < 1e-4


@pytest.mark.peers
def test_the_patch_critic_is_that_of_torch():
    from torch.nn.functional import leaky_relu

    def theirs(p: Peer, x: Any) -> Any:
        h = leaky_relu(p.conv(x, "in", 2), 0.2)
        h = leaky_relu(p.norm(p.conv(h, "down_1", 2), "norm_1", 1), 0.2)
        h = leaky_relu(p.norm(p.conv(h, "body"), "norm", 1), 0.2)
        return p.conv(h, "out")

    assert compared(PatchDiscriminator(8, 2), theirs, (2, 16, 16, 3)) < 1e-4


@pytest.mark.peers
def test_the_enlarger_is_that_of_torch():
    """torch's pixel_shuffle has channels outermost in a block, genjax innermost; its bicubic has a = -3/4."""
    import torch
    from torch.nn.functional import pixel_shuffle

    def theirs(p: Peer, x: Any) -> Any:
        h = first = p.conv(x, "in")
        for i in range(2):
            h = h + p.conv(p.conv(h, f"block_{i}_in").relu(), f"block_{i}_out")
        h = first + p.conv(h, "body")
        wide = p.conv(h, "up")
        B, K, H, W = wide.shape
        wide = wide.reshape(B, 4, K // 4, H, W).transpose(1, 2).reshape(B, K, H, W)
        large = bicubic(x.numpy().transpose(0, 2, 3, 1), 2)
        large = torch.tensor(np.array(large).transpose(0, 3, 1, 2))
        return large + p.conv(pixel_shuffle(wide, 2).relu(), "out")

    assert compared(Enlarger(3, 2, 8, 2), theirs, (2, 8, 8, 3)) < 1e-4
