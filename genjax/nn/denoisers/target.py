"""Read and write what a diffusion models: a quantised image, or real values of any shape."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from genjax.core import Batch, Element, Spec
from genjax.errors import ConfigError
from genjax.functional import pixels


@dataclasses.dataclass(frozen=True)
class Target:
    """Hold the element that is modelled."""

    name: str
    element: Element

    @classmethod
    def of(cls, spec: Spec) -> Target:
        """Return the first target that is an image (H, W, C), of whole levels or real, or a real vector (D,).

        Raises:
          ConfigError: there is none.
        """
        for name in spec.targets:
            element = spec[name]
            if len(element.shape) == 3 or (len(element.shape) == 1 and not element.levels):
                return cls(name, element)
        raise ConfigError(
            "diffusion needs an image or a real-valued vector as the target; "
            f"the data has {', '.join(sorted(spec.elements))}",
            "choose data with such a target, or another model",
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.element.shape  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Return the number of values of a row."""
        return math.prod(self.shape)

    def read(self, batch: Batch) -> Float[Array, "B *shape"]:
        """Return x_0: grey levels mapped to [-1, 1], real values as they are."""
        x = batch[self.name]
        return pixels.to_signed(x, self.element.levels) if self.element.levels else x.astype(jnp.float32)

    def expected(self, x_0: Float[Array, "B *shape"]) -> Float[Array, "B *shape"]:
        """Return x_0 in the units of the data, neither rounded nor clipped."""
        levels = self.element.levels
        return (x_0 + 1.0) * ((levels - 1) / 2.0) if levels else x_0

    def written(self, x_0: Float[Array, "B *shape"]) -> Shaped[Array, "B *shape"]:
        """Return x_0 in the form of the data."""
        if self.element.levels:
            return pixels.from_signed(x_0, self.element.levels)
        return x_0.astype(self.element.dtype)
