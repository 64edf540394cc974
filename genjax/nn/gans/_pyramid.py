"""Share what networks that halve an image have in common: their channels, and the shapes that they refuse."""

from __future__ import annotations

from genjax.errors import ConfigError
from genjax.nn.conv import halvings


def channels(width: int, widest: int, halved: int) -> int:
    """Return the channels of a map that is halved so often: doubled each time, at most `widest`."""
    return min(width * 2**halved, widest)


def check(name: str, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless rows of this shape are images (H, W, C) that can be halved."""
    if len(shape) != 3 or not halvings(*shape[:2]):
        raise ConfigError(
            f"{name}: rows of shape {shape} cannot be halved", "crop or resize the data, or use mlp"
        )
