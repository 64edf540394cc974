"""Any dataset as sequences of tokens, so that n-grams, RNNs and GPTs draw images as they write text.

A sequence of an image is one start token, then the row's values in raster order. The start token carries
the condition: `levels + label` where the data has labels, `levels + classes` where none is asked for.
A sequence of text is a window of it, whose first token is read and not predicted; put behind the start
token (`drop`) it is predicted too, so that a model can begin by itself.
Tokens that can be predicted are [0, levels); the start tokens are read only.

Rows of text may hold several documents: `segment` (B x T+1) then numbers them, 0 for padding. Documents never
see each other: no target is predicted from another document's token.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from genjax.core import Batch, Mean, Spec
from genjax.errors import ConfigError
from genjax.functional.losses import token_hits, token_nats


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
          ConfigError: where it has neither tokens nor a quantised image.
        """
        for name in ("tokens", "image"):
            if name in spec and spec[name].levels:
                e = spec[name]
                return cls(name, e.shape, e.levels or 0, spec.classes(), name == "tokens")
        raise ConfigError(
            f"no discrete element to read as a sequence among {sorted(spec.elements)}",
            "choose a dataset with tokens or quantised images, or a model of real-valued data",
        )

    @property
    def length(self) -> int:
        """T: how many tokens are predicted for one row."""
        size = math.prod(self.shape)
        return size - 1 if self.text else size

    @property
    def outputs(self) -> int:
        """V: the logits of one token."""
        return self.levels

    @property
    def vocabulary(self) -> int:
        """How many different tokens can be read: the levels, a start token per class, and one without."""
        return self.levels + self.classes + 1

    @property
    def null(self) -> int:
        """The start token without a condition."""
        return self.levels + self.classes

    def start(self, prompt: Batch, num: int) -> Int[Array, "num 1"]:
        """The start tokens of `num` rows: of prompt["label"] where it is given."""
        if self.classes and "label" in prompt:
            return (self.levels + prompt["label"].astype(jnp.int32))[:, None]
        return jnp.full((num, 1), self.null, jnp.int32)

    def unconditional(self, tokens: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """The same inputs with every start token replaced by the one without a condition."""
        return jnp.where(tokens >= self.levels, self.null, tokens)

    def encode(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"], Float[Array, "B T"]]:
        """(inputs, targets, mask): inputs[:, t] precedes targets[:, t]; the mask is 0 on padding.

        Beside the row mask, `token_mask` (B x T) in the batch masks a row's targets, and where there are
        `segment`s so does a target's being padding or the first token of another document.

        Args:
          drop: rows where it is 1 begin with the start token without a condition: images lose their
            label (classifier-free training), text is read from its first token on.
        """
        values = batch[self.element].astype(jnp.int32).reshape(batch[self.element].shape[0], -1)
        mask = targets_mask(batch, self.length, drop if self.text else None)
        dropped = None if drop is None else drop[:, None] > 0
        if not self.text:
            start = self.start(batch, values.shape[0])
            if dropped is not None:
                start = jnp.where(dropped, self.null, start)
            return jnp.concatenate([start, values[:, :-1]], axis=1), values, mask
        inputs, targets = values[:, :-1], values[:, 1:]
        if dropped is not None:
            begun = jnp.concatenate([self.start({}, values.shape[0]), values[:, :-2]], axis=1)
            inputs = jnp.where(dropped, begun, inputs)
            targets = jnp.where(dropped, values[:, :-1], targets)
        return inputs, targets, mask

    def segments(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"]] | None:
        """(segment, position) of `encode`'s inputs: the document of each, and its place within it.

        None where the batch has no `segment`: a row is then one document.
        """
        return inputs_segments(batch, drop) if self.text and "segment" in batch else None

    def prefix(self, prompt: Batch, num: int) -> tuple[Int[Array, "num P"], Int[Array, " num"], int]:
        """What a decoder reads before it draws: (tokens, how many of them per row, start tokens among them).

        Args:
          prompt: `label` (num); `tokens` (num x P): a beginning to go on from (raster order for images),
            of which row i has `length`[i] tokens where that is given.
        """
        tokens = prompt.get("tokens")
        if tokens is None:
            return self.start(prompt, num), jnp.ones((num,), jnp.int32), 1
        tokens = tokens.astype(jnp.int32)
        lengths = prompt.get("length", jnp.full((num,), tokens.shape[1], jnp.int32)).astype(jnp.int32)
        if self.text:
            return tokens, lengths, 0
        return jnp.concatenate([self.start(prompt, num), tokens], axis=1), lengths + 1, 1

    def decode(self, tokens: Int[Array, "B T"]) -> Batch:
        """A row's values in order as a batch of the data's form."""
        if self.text:
            return {"tokens": tokens}
        return {self.element: tokens.reshape(-1, *self.shape).astype(jnp.uint8)}

    def nats(self, logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
        """Nats of every token."""
        return token_nats(logits, targets)

    def metrics(
        self, logits: Float[Array, "B T V"], targets: Int[Array, "B T"], mask: Float[Array, "B T"]
    ) -> dict[str, Mean]:
        """`accuracy`: how often no token is likelier than the target."""
        return {"accuracy": Mean.of(token_hits(logits, targets), mask)}


def targets_mask(
    batch: Batch, length: int, drop: Float[Array, " B"] | None = None
) -> Float[Array, "B {length}"]:
    """1 on the targets of running rows that count: see `Sequence.encode`.

    Args:
      drop: rows where it is 1 are put behind a start token: their targets begin one earlier.
    """
    mask = jnp.broadcast_to(batch["mask"][:, None], (batch["mask"].shape[0], length))
    counts = []
    if "token_mask" in batch:
        counts.append(batch["token_mask"])
    if "segment" in batch:
        segment = batch["segment"]
        same = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] > 0)
        counts.append(same.astype(mask.dtype))
    for count in counts:
        mask = mask * (count if drop is None else _behind_start(count, drop))
    return mask


def inputs_segments(
    batch: Batch, drop: Float[Array, " B"] | None = None
) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
    """(segment, position) of the inputs of running rows. Positions count from 0 in each document of a row."""
    segment = batch["segment"].astype(jnp.int32)[:, :-1]
    if drop is not None:
        segment = _behind_start(segment, drop)
    place = jnp.broadcast_to(jnp.arange(segment.shape[1], dtype=jnp.int32)[None, :], segment.shape)
    first = jnp.pad(segment[:, 1:] != segment[:, :-1], ((0, 0), (1, 0)))
    return segment, place - jax.lax.cummax(jnp.where(first, place, 0), axis=1)


def _behind_start(x: Shaped[Array, "B T"], drop: Float[Array, " B"]) -> Shaped[Array, "B T"]:
    """Dropped rows moved on by one place; what comes first is as what came first."""
    return jnp.where(drop[:, None] > 0, jnp.concatenate([x[:, :1], x[:, :-1]], axis=1), x)
