"""What the parity tests with transformers share."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch


def randomise(model: torch.nn.Module, scale: float = 0.3) -> torch.nn.Module:
    """Every parameter away from its special starting value, norms and biases too; evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            base = p if p.ndim < 2 else 0 * p
            p.copy_(base + scale * torch.randn(p.shape, generator=generator))
    return model.eval()


def close(ours, theirs, tolerance: float = 1e-4) -> None:
    """Equal to `tolerance`, absolutely and relative to the largest value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    worst = np.abs(ours - theirs).max()
    assert worst <= tolerance * max(1.0, np.abs(theirs).max()), worst


def assert_same_files(a: Path, b: Path, but: Set[str] = frozenset()) -> None:
    """Both directories hold the same tensors, byte for byte, `but` some that are no weights."""
    x, y = (safetensors.numpy.load_file(d / "model.safetensors") for d in (a, b))
    assert set(x) - but == set(y)
    for name in y:
        assert (x[name].dtype, x[name].shape) == (y[name].dtype, y[name].shape), name
        assert x[name].tobytes() == y[name].tobytes(), name
