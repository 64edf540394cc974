"""Explore a latent space as functions of codes.

Of a codec: paths, traversals, edits, searches and maps. Its codes are real-valued, float32 (B, *Z): one per
row. Integer codes have no directions and are refused. Of a generator without an encoder, such as that of a
GAN: inversion, style mixing and directions without labels. Its codes are (B, L, W): one for each layer.
"""

from __future__ import annotations

from genjax.latents.edits import Moments, edited, moments
from genjax.latents.factors import directions, moved
from genjax.latents.inversion import inverted, nearest, squared_error
from genjax.latents.mixing import mixed
from genjax.latents.paths import Path, along, interpolate
from genjax.latents.projection import principal
from genjax.latents.search import Objective, matching, maximising, search
from genjax.latents.space import Space
from genjax.latents.synthesis import Synthesis
from genjax.latents.traversal import traverse, widest

__all__ = [
    "Moments",
    "Objective",
    "Path",
    "Space",
    "Synthesis",
    "along",
    "directions",
    "edited",
    "interpolate",
    "inverted",
    "matching",
    "maximising",
    "mixed",
    "moments",
    "moved",
    "nearest",
    "principal",
    "search",
    "squared_error",
    "traverse",
    "widest",
]
