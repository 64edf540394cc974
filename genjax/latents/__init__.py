"""Explore the latent space of a codec: paths, traversals, edits, searches and maps, as functions of codes.

Codes are real-valued, float32 (B, *Z): one per row. Integer codes have no directions and are refused.
"""

from __future__ import annotations

from genjax.latents.edits import Moments, edited, moments
from genjax.latents.paths import Path, along, interpolate
from genjax.latents.projection import principal
from genjax.latents.search import Objective, matching, maximising, search
from genjax.latents.space import Space
from genjax.latents.traversal import traverse, widest

__all__ = [
    "Moments",
    "Objective",
    "Path",
    "Space",
    "along",
    "edited",
    "interpolate",
    "matching",
    "maximising",
    "moments",
    "principal",
    "search",
    "traverse",
    "widest",
]
