"""Time the convolutions of genjax's models against lax's and PyTorch's: values and both gradients.

    python -m experiments.benchmarks.conv [--rounds 5] [--batch 64]

One call is the forward pass and the gradients of input and kernel, in float32 and in each library's fastest
layout (torch: channels_last). Where genjax uses lax's own form, the first two rows differ only by noise.
Outputs are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from experiments.benchmarks import harness
from genjax.nn.conv import LAYOUT, conv, conv_transpose
from genjax.training import memory


class Case(NamedTuple):
    """Describe a square convolution; `transpose` marks a fractionally strided one."""

    what: str
    side: int
    channels: int
    features: int
    kernel: int
    stride: int = 1
    transpose: bool = False


CASES = (
    Case("U-Net, full resolution", 28, 32, 32, 3),
    Case("U-Net, skip connection", 28, 64, 32, 1),
    Case("U-Net, half resolution", 14, 64, 64, 3),
    Case("U-Net, down", 14, 64, 64, 3, 2),
    Case("DCGAN discriminator, down", 28, 32, 64, 4, 2),
    Case("DCGAN generator, first up", 7, 128, 64, 4, 2, True),
    Case("DCGAN generator, last up", 14, 64, 32, 4, 2, True),
)


def ours(case: Case) -> Callable:
    """Return genjax's convolution: (x, kernel) -> y."""
    strides = (case.stride, case.stride)
    if case.transpose:
        return lambda x, k: conv_transpose(x, k, strides)
    return lambda x, k: conv(x, k, strides, _padding(case))


def laxs(case: Case) -> Callable:
    """Return lax's form of the same convolution."""
    strides = (case.stride, case.stride)
    if case.transpose:
        return partial(lax.conv_transpose, strides=strides, padding="SAME", dimension_numbers=LAYOUT)
    return partial(
        lax.conv_general_dilated, window_strides=strides, padding=_padding(case), dimension_numbers=LAYOUT
    )


def torchs(case: Case) -> Callable:
    """Return torch's form: B C H W in channels_last, with its own kernel layout."""
    from torch.nn import functional as F

    pad = _padding(case)[0][0]
    if case.transpose:
        return lambda x, k: F.conv_transpose2d(x, k, stride=case.stride, padding=pad)
    return lambda x, k: F.conv2d(x, k, stride=case.stride, padding=pad)


def _padding(case: Case) -> tuple[tuple[int, int], tuple[int, int]]:
    # The same on both sides and in both libraries; an even kernel with stride 2 has 1 and 1.
    n = (case.kernel - 1) // 2
    return ((n, n), (n, n))


def thunks(case: Case, batch: int) -> dict[str, Callable]:
    """Return the call to time of each library.

    Raises:
      SystemExit: if their outputs differ.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, case.side, case.side, case.channels)).astype(np.float32)
    k = rng.normal(size=(case.kernel, case.kernel, case.channels, case.features)).astype(np.float32) / 10
    calls = {}
    outputs = {}
    for name, f in (("genjax", ours(case)), ("lax", laxs(case))):
        y = f(x, k)
        g = jax.device_put(np.ones(y.shape, np.float32))

        def both(x, k, g, f=f):
            y, back = jax.vjp(f, x, k)
            return y, back(g)

        calls[name] = partial(jax.jit(both), jax.device_put(x), jax.device_put(k), g)
        outputs[name] = np.asarray(y)
    calls["torch"], outputs["torch"] = torch_call(case, x, k)
    for name in ("lax", "torch"):
        if not np.allclose(outputs["genjax"], outputs[name], rtol=1e-4, atol=1e-4):
            raise SystemExit(f"{case.what}: the outputs of genjax and {name} differ")
    return calls


def torch_call(case: Case, x: np.ndarray, k: np.ndarray) -> tuple[Callable, np.ndarray]:
    """Return PyTorch's call on the same arrays, and its output as B H W C."""
    import torch

    # Kernels are h w C D here; D C h w in torch, or C D h w and mirrored if transposed.
    order = (2, 3, 0, 1) if case.transpose else (3, 2, 0, 1)
    mirrored = k[::-1, ::-1].copy() if case.transpose else k
    form = torch.channels_last
    xt = torch.tensor(x.transpose(0, 3, 1, 2)).contiguous(memory_format=form).requires_grad_()
    kt = torch.tensor(mirrored.transpose(order).copy()).contiguous(memory_format=form).requires_grad_()
    f = torchs(case)
    gt = torch.ones_like(f(xt, kt))

    def call():
        y = f(xt, kt)
        return y, torch.autograd.grad(y, (xt, kt), gt)

    return call, f(xt, kt).detach().numpy().transpose(0, 2, 3, 1)


def main() -> None:
    """Print a table for every case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    memory.keep()
    harness.torch_threads()
    for case in CASES:
        rows = harness.compare(thunks(case, args.batch), rounds=args.rounds, burst=2, reference="torch")
        up = ", transposed" if case.transpose else ""
        size = f"{case.side}x{case.side}, {case.channels} to {case.features}"
        print(harness.markdown(rows, f"{case.what}: {case.kernel}x{case.kernel}/{case.stride}{up}, {size}"))
        print(flush=True)


if __name__ == "__main__":
    main()
