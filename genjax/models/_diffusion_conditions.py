"""Read what a diffusion is conditioned on: the class label, and the text."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from genjax.core import Batch, Keys, Spec
from genjax.functional.noise import fold
from genjax.nn import conditions, text_states
from genjax.nn.conditions import ClassLabel
from genjax.nn.text_states import Text

Read = tuple[Int[Array, " B"], Any]
"""The label of each row (negative for none), and the text: (tokens or states, mask), or None."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Hold the conditions of a model.

    Attributes:
      label: of the class.
      text: None if the model reads none.
      shape: of a row of text.
    """

    label: ClassLabel
    text: Text | None = None
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: Spec, text: bool) -> Conditions:
        """Return the conditions of a spec.

        Raises:
          ConfigError: the text is asked for, and there is none.
        """
        if not text:
            return cls(ClassLabel.of(spec))
        found = Text.of(spec)
        return cls(ClassLabel.of(spec), found, spec[found.name].shape)  # type: ignore[arg-type]

    @property
    def vocabulary(self) -> int:
        return 0 if self.text is None else self.text.vocabulary

    def given(self, batch: Batch) -> Batch:
        """Return the conditions among the columns of a batch or a prompt."""
        text = {} if self.text is None else self.text.given(batch)
        return {**self.label.given(batch), **text}

    def whole(self, given: Batch, rows: int) -> Batch:
        """Return the given conditions with every column that `read` looks for: labels as int32, a mask."""
        out = dict(given)
        if self.label.name in out:
            out[self.label.name] = self.label.index(given, rows)
        if self.text is not None and self.text.name in out:
            out[self.text.mask] = self.text.read(given, rows, 0)[1]
        return out

    def read(self, batch: Batch, rows: int) -> Read:
        """Return the label of each row, and the text."""
        label = self.label.index(batch, rows)
        if self.text is None:
            return label, None
        x, mask = self.text.read(batch, rows, self.shape[0])
        if self.text.name not in batch and not self.vocabulary:
            x = jnp.zeros((rows, *self.shape))
        return label, (x, mask)

    def dropped(self, keys: Keys, given: Read, rate: float) -> Read:
        """Hide the label and the text of a share of the rows, those of one row together."""
        if rate <= 0:
            return given
        label, text = given
        label = conditions.hidden(fold(keys, 2), label, rate)
        if text is not None:
            text = (text[0], text_states.hidden(fold(keys, 2), text[1], rate))
        return label, text

    def hidden(self, given: Batch) -> Batch:
        """Return the conditions without their content: no label, and a text of padding alone."""
        out = {}
        for name, x in given.items():
            if name == self.label.name:
                out[name] = jnp.full_like(x, conditions.NULL)
            elif self.text is not None and name == self.text.mask:
                out[name] = jnp.zeros_like(x)
            else:
                out[name] = x
        return out
