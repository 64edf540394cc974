"""Random weights and images for the pretrained feature extractors."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np

from genjax.evaluation.features import Request, _networks
from genjax.spec import Element, Spec


def request(shape: tuple[int, ...], cache: Path, levels: int | None = 256) -> Request:
    spec = Spec({"image": Element(shape, "uint8" if levels else "float32", levels, "image", "target")})
    return Request(types.SimpleNamespace(spec=spec, name="toy"), "image", cache)


def images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Two smooth images with noise: (2, H, W, C) uint8."""
    rng = np.random.default_rng(seed)
    H, W, C = shape
    y, x = np.mgrid[:H, :W]
    waves = [np.sin(2 * np.pi * (a * x / W + b * y / H)) for a, b in rng.uniform(-4, 4, (2 * C, 2))]
    smooth = np.stack(waves, -1).reshape(H, W, 2, C).transpose(2, 0, 1, 3)
    return np.clip(128 + 90 * smooth + 20 * rng.normal(size=(2, *shape)), 0, 255).astype(np.uint8)


def random_weights(network: _networks.Network) -> dict[str, np.ndarray]:
    """A state dict with signals of unit scale throughout and batch statistics away from 0 and 1."""
    rng = np.random.default_rng(7)
    leaves = {**_networks.record(network).leaves, **network.unused}
    draw = {
        "running_var": lambda shape: rng.uniform(0.5, 2, shape),
        "running_mean": lambda shape: rng.normal(0, 0.3, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
    }
    out = {}
    for name, shape in leaves.items():
        last = name.rpartition(".")[2]
        if last in draw:
            value = draw[last](shape)
        elif len(shape) == 1:
            value = rng.uniform(0.6, 1.6, shape)
        else:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        out[name] = value.astype(np.float32)
    return out
