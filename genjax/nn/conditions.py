"""Read class labels of batches and prompts, as every class-conditional model does."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Batch, Keys, Spec
from genjax.errors import ConfigError
from genjax.functional import noise
from genjax.nn.mlp import one_hot

NULL = -1
"""The label of a row without one."""


@dataclasses.dataclass(frozen=True)
class ClassLabel:
    """Read the class label that a generative model is conditioned on.

    Attributes:
      name: of the element; None if the model has no such condition.
      classes: K; 0 if the model has no such condition.
    """

    name: str | None = None
    classes: int = 0

    @classmethod
    def of(cls, spec: Spec, conditional: bool = True) -> ClassLabel:
        """Return the label of a spec if it is a condition. An auxiliary label is never read."""
        if not conditional or spec.label not in spec.conditions:
            return cls()
        return cls(spec.label, spec.classes())

    def given(self, prompt: Batch) -> Batch:
        """Return {name: labels} if the prompt has labels, else {}."""
        return {self.name: prompt[self.name]} if self.name is not None and self.name in prompt else {}

    def index(self, batch: Batch, rows: int) -> Int[Array, " B"]:
        """Return the label of each row; NULL where the batch has none."""
        for label in self.given(batch).values():
            return label.astype(jnp.int32)
        return jnp.full((rows,), NULL, jnp.int32)

    def one_hot(self, batch: Batch, rows: int) -> Float[Array, "B K"]:
        """Return the labels one-hot; K is 0 if the model has no such condition.

        Raises:
          ConfigError: the batch has no labels, and the model needs them.
        """
        if not self.classes:
            return jnp.zeros((rows, 0), jnp.float32)
        if self.name is None or not self.given(batch):
            raise ConfigError(
                f"this model is conditioned on {self.name!r}, and none is given",
                "give one per row, or train with model.conditional=False",
            )
        return one_hot(batch[self.name], self.classes)

    def drawn(self, prompt: Batch, keys: Keys) -> Batch:
        """Return {name: labels} of the prompt, or uniformly random ones from fold_in(key, 1); {} without."""
        if self.name is None:
            return {}
        if self.name in prompt:
            return {self.name: jnp.asarray(prompt[self.name], jnp.int32)}
        return {self.name: noise.integers(noise.fold(keys, 1), 0, self.classes)}


def hidden(keys: Keys, label: Int[Array, " B"], rate: float) -> Int[Array, " B"]:
    """Replace a share `rate` of the labels by NULL (Ho & Salimans 2022, arXiv:2207.12598, algorithm 1)."""
    return jnp.where(noise.bernoulli(keys, rate), NULL, label)


def slots(label: Int[Array, " B"], classes: int) -> Int[Array, " B"]:
    """Return the rows of an embedding table with classes + 1 rows; the last one is that of NULL."""
    return jnp.where(label < 0, classes, label)
