"""Hold a generator without an encoder, such as that of a GAN, with its learned variables."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch, Generator, Keys, Model, Spec, Variables
from genjax.errors import ConfigError
from genjax.latents.space import clipped


@dataclasses.dataclass(frozen=True, eq=False)
class Synthesis:
    """Draw codes and decode them.

    Attributes:
      generator: of the model.
      variables: finished (`Model.finish`).
      spec: of the data.
    """

    generator: Generator
    variables: Variables
    spec: Spec

    @classmethod
    def of(cls, model: Model, variables: Variables, spec: Spec) -> Synthesis:
        """Return the generator of a model.

        Raises:
          ConfigError: the model has none.
        """
        if model.generator is None:
            raise ConfigError("the model has no generator of codes", "use a run of a GAN")
        return cls(model.generator, variables, spec)

    def draw(self, keys: Keys, prompt: Batch) -> tuple[Float[Array, "B L W"], Batch]:
        """Return random codes, the same one for all layers, and the labels that go with them."""
        return _draw(self.generator, self.variables, keys, prompt)

    def expected(self, codes: Float[Array, "B L W"], given: Batch) -> Batch:
        """Return the targets of codes in the units of the data, clipped to the levels but not rounded.

        The gradient passes the clipping.
        """
        found = self.generator.expected(self.variables, codes, given)
        return {name: clipped(x, self.spec[name].levels) for name, x in found.items()}

    def decode(self, codes: Float[Array, "B L W"], given: Batch) -> Batch:
        """Return the targets of codes, as the data has them."""
        found = _decode(self.generator, self.variables, codes, given)
        out = {}
        for name, x in found.items():
            element = self.spec[name]
            x = jnp.round(clipped(x, element.levels)) if element.levels else x
            out[name] = x.astype(element.dtype)
        return out

    def towards_mean(self, codes: Float[Array, "B L W"], psi: float) -> Float[Array, "B L W"]:
        """Return mean + psi (codes - mean): truncation (Karras et al. 2019, arXiv:1812.04948, sec. B)."""
        mean = self.generator.mean(self.variables)[None, None]
        return mean + psi * (codes - mean)

    @property
    def layers(self) -> int:
        """Return L, how many codes a row is made of."""
        return len(self.generator.kernels(self.variables))


def _draw_rows(generator: Generator, variables: Variables, keys: Keys, prompt: Batch) -> Any:
    return generator.draw(variables, keys, prompt)


def _decode_rows(generator: Generator, variables: Variables, codes: jax.Array, given: Batch) -> Batch:
    return generator.expected(variables, codes, given)


_draw: Any = jax.jit(_draw_rows, static_argnums=0)
_decode: Any = jax.jit(_decode_rows, static_argnums=0)
