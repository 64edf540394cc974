"""Any dataset as sequences of tokens, so that n-grams, RNNs and GPTs draw images as they write text.

A sequence is one start token, then the row's values in raster order. The start token carries the
condition: `levels + label` where the data has labels, `levels + classes` where none is asked for.
Tokens that can be predicted are [0, levels); the start tokens are read only.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Batch, Spec


@dataclasses.dataclass(frozen=True)
class Sequence:
    """How the rows of a spec become sequences of T tokens and back.

    Attributes:
      element: which element is read: "tokens" where the data has it, else "image".
      shape: that element's shape in the data.
      levels: the output vocabulary V.
      classes: labels that a start token can carry; 0 for data without labels.
      text: True where rows are windows of running text, whose first token is data, not a start token.
    """

    element: str
    shape: tuple[int, ...]
    levels: int
    classes: int
    text: bool

    @classmethod
    def of(cls, spec: Spec) -> Sequence:
        """The sequence view of a spec.

        Raises:
          ValueError: where it has neither tokens nor a quantised image.
        """
        for name in ("tokens", "image"):
            if name in spec and spec[name].levels:
                e = spec[name]
                return cls(name, e.shape, e.levels or 0, spec.classes(), name == "tokens")
        raise ValueError(f"no discrete element to read as a sequence among {sorted(spec.elements)}")

    @property
    def length(self) -> int:
        """T: how many tokens are predicted for one row."""
        size = 1
        for n in self.shape:
            size *= n
        return size - 1 if self.text else size

    @property
    def vocabulary(self) -> int:
        """How many different tokens can be read: the levels, a start token per class, and one without."""
        return self.levels + self.classes + 1

    def start(self, prompt: Batch, num: int) -> Int[Array, "num 1"]:
        """The start tokens of `num` rows: of prompt["label"] where it is given."""
        if self.classes and "label" in prompt:
            return (self.levels + prompt["label"].astype(jnp.int32))[:, None]
        return jnp.full((num, 1), self.levels + self.classes, jnp.int32)

    def encode(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"], Float[Array, "B T"]]:
        """(inputs, targets, mask): inputs[:, t] precedes targets[:, t]; the mask is 0 on padding rows.

        Args:
          drop: rows where it is 1 are shown without their label (classifier-free training).
        """
        if self.text:
            tokens = batch["tokens"].astype(jnp.int32)
            inputs, targets = tokens[:, :-1], tokens[:, 1:]
        else:
            targets = batch[self.element].astype(jnp.int32).reshape(batch[self.element].shape[0], -1)
            start = self.start(batch, targets.shape[0])
            if drop is not None:
                start = jnp.where(drop[:, None] > 0, self.levels + self.classes, start)
            inputs = jnp.concatenate([start, targets[:, :-1]], axis=1)
        mask = jnp.broadcast_to(batch["mask"][:, None], targets.shape)
        if "token_mask" in batch:
            mask = mask * batch["token_mask"]
        return inputs, targets, mask

    def decode(self, tokens: Int[Array, "B T"]) -> Batch:
        """Predicted tokens as a batch of the data's form."""
        if self.text:
            return {"tokens": tokens}
        return {self.element: tokens.reshape(-1, *self.shape).astype(jnp.uint8)}
