"""Training: one step, its engines, the loop that runs it and the checkpoints that keep it."""

from genjax.training.config import Average, Config, Mesh

__all__ = ["Average", "Config", "Mesh"]
