"""Read any discrete target as a sequence of tokens: n-grams, RNNs and GPTs then model images like text.

A grid (an image, or the codes of a VQ codec) becomes one start token, then its values in raster order. The
start token carries the condition: `levels + label` for a labelled row, `levels + classes` without a label.
A row of running text is a window of a longer text; its first token is read and not predicted. Behind the
start token (`drop`) the first token is predicted too, so that a model can begin a text by itself.
Predicted tokens lie in [0, levels); start tokens are only read.

A row of running text may hold several documents: the column `columns.SEGMENT` (B x T+1) then numbers them
from 1, and 0 marks padding. No target is predicted from a token of another document.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from genjax import kinds
from genjax.core import Batch, Element, Keys, Mean, Spec
from genjax.errors import ConfigError
from genjax.functional import noise
from genjax.functional.losses import token_hits, token_nats
from genjax.views.columns import LENGTH, SEGMENT, TOKEN_MASK


@dataclasses.dataclass(frozen=True)
class Sequence:
    """Convert the rows of a spec to sequences of T tokens and back.

    Attributes:
      element: name of the target that is read.
      shape: of that element in the data.
      levels: the output vocabulary V.
      classes: labels that a start token can carry; 0 for data without a label.
      text: rows are windows of running text, whose first token is data and not a start token.
      dtype: of the element in the data.
      label: name of the condition that holds the class label; None without one.
    """

    element: str
    shape: tuple[int, ...]
    levels: int
    classes: int
    text: bool
    dtype: str = "int32"
    label: str | None = None

    @classmethod
    def of(cls, spec: Spec) -> Sequence:
        """Return the sequence view of the first target with levels.

        Raises:
          ConfigError: the spec has no such target, or its rows run along several dimensions (piano rolls).
        """
        name = discrete_target(spec)
        element = spec[name]
        text = is_running(element)
        if text and len(element.shape) != 1:
            raise ConfigError(
                f"{name!r} of shape {element.shape} is a sequence of frames, not of tokens",
                "use a model that reads frames, such as rnn or gpt",
            )
        label = label_condition(spec)
        classes = spec.classes(label) if label else 0
        return cls(name, element.shape, element.levels or 0, classes, text, element.dtype, label)

    @property
    def length(self) -> int:
        """T: the tokens that are predicted for one row."""
        size = math.prod(self.shape)
        return size - 1 if self.text else size

    @property
    def outputs(self) -> int:
        """V: the logits of one token."""
        return self.levels

    @property
    def vocabulary(self) -> int:
        """The different tokens that can be read: the levels, a start token per class, and the null one."""
        return self.levels + self.classes + 1

    @property
    def null(self) -> int:
        """The start token without a condition."""
        return self.levels + self.classes

    def start(self, prompt: Batch, num: int) -> Int[Array, "num 1"]:
        """Return the start tokens of `num` rows; they carry the labels of the prompt where it has any."""
        if self.label is not None and self.label in prompt:
            return (self.levels + prompt[self.label].astype(jnp.int32))[:, None]
        return jnp.full((num, 1), self.null, jnp.int32)

    def unconditional(self, tokens: Int[Array, "B T"]) -> Int[Array, "B T"]:
        """Replace every start token by the one without a condition."""
        return jnp.where(tokens >= self.levels, self.null, tokens)

    def condition(self, prompt: Batch) -> Batch:
        """Return the conditions of a prompt that this view uses; samples repeat them."""
        return {name: prompt[name] for name in (self.label,) if name is not None and name in prompt}

    def encode(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"], Float[Array, "B T"]]:
        """Return (inputs, targets, mask): inputs[:, t] precedes targets[:, t]; the mask is 0 on padding.

        The mask combines the row mask with the columns TOKEN_MASK and SEGMENT of running text: a target does
        not count if it is padding or the first token of another document.

        Args:
          drop: rows with 1 begin with the start token without a condition: grids lose their label
            (classifier-free training), text is predicted from its first token on.
        """
        values = batch[self.element].astype(jnp.int32)
        values = values.reshape(values.shape[0], -1)
        mask = targets_mask(batch, self.length, drop) if self.text else _row_mask(batch, self.length)
        dropped = None if drop is None else drop[:, None] > 0
        if not self.text:
            start = self.start(batch, values.shape[0])
            if dropped is not None:
                start = jnp.where(dropped, self.null, start)
            return jnp.concatenate([start, values[:, :-1]], axis=1), values, mask
        inputs = values[:, :-1]
        targets = values[:, 1:]
        if dropped is not None:
            shifted = jnp.concatenate([self.start({}, values.shape[0]), values[:, :-2]], axis=1)
            inputs = jnp.where(dropped, shifted, inputs)
            targets = jnp.where(dropped, values[:, :-1], targets)
        return inputs, targets, mask

    def segments(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"]] | None:
        """Return (segment, position) of the inputs of `encode`: their document and their place within it.

        None if the batch has no column SEGMENT: each row is then one document.
        """
        return inputs_segments(batch, drop) if self.text and SEGMENT in batch else None

    def prefix(self, prompt: Batch, num: int) -> tuple[Int[Array, "num P"], Int[Array, " num"], int]:
        """Return the tokens that a decoder reads first: (tokens, tokens per row, start tokens among them).

        Args:
          prompt: may hold the label (num), and a beginning to continue under the element's own name
            (num x P, in raster order for grids), of which row i has LENGTH[i] tokens (all P without LENGTH).
        """
        if self.element not in prompt:
            return self.start(prompt, num), jnp.ones((num,), jnp.int32), 1
        tokens = prompt[self.element].astype(jnp.int32)
        tokens = tokens.reshape(tokens.shape[0], -1)
        lengths = given_lengths(prompt, tokens)
        if self.text:
            return tokens, lengths, 0
        return jnp.concatenate([self.start(prompt, num), tokens], axis=1), lengths + 1, 1

    def decode(self, tokens: Int[Array, "B T"]) -> Batch:
        """Return rows of tokens in the form and dtype of the data; text may have any length."""
        values = tokens if self.text else tokens.reshape(-1, *self.shape)
        return {self.element: values.astype(self.dtype)}

    def nats(self, logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
        """Compute the nats of every token."""
        return token_nats(logits, targets)

    def metrics(
        self, logits: Float[Array, "B T V"], targets: Int[Array, "B T"], mask: Float[Array, "B T"]
    ) -> dict[str, Mean]:
        """Return `accuracy`: the share of targets than which no token is more probable."""
        return {"accuracy": Mean.of(token_hits(logits, targets), mask)}


def discrete_target(spec: Spec) -> str:
    """Return the name of the first target with levels.

    Raises:
      ConfigError: the spec has no target, or none with levels.
    """
    if not spec.targets:
        raise ConfigError(
            f"none of {sorted(spec.elements)} is a target", 'give one element of the data role="target"'
        )
    found = [name for name in spec.targets if spec[name].levels]
    if not found:
        raise ConfigError(
            f"no target has discrete values to read as a sequence: {', '.join(spec.targets)}",
            "choose a dataset with tokens or quantised images, or a model of real-valued data",
        )
    return found[0]


def is_running(element: Element) -> bool:
    """Return whether rows are windows of a longer sequence, whose first item is given and not predicted.

    The element's kind decides. Without a kind, one-dimensional elements are running and grids are not.
    """
    kind = kinds.of(element)
    return len(element.shape) == 1 if kind is None else kind.RUNNING


def label_condition(spec: Spec) -> str | None:
    """Return the name of the class label if a sampler is given it, else None."""
    return spec.label if spec.label in spec.conditions else None


def dropped(keys: Keys, rate: float) -> Float[Array, " B"] | None:
    """Draw 1 for the rows that lose their condition, with probability `rate`; None if it is 0."""
    return noise.bernoulli(noise.fold(keys, 0), rate).astype(jnp.float32) if rate else None


def positions(tokens: Int[Array, "B T *K"]) -> Int[Array, "B T"]:
    """Return 0 .. T-1 for every row."""
    count = jnp.arange(tokens.shape[1], dtype=jnp.int32)
    return jnp.broadcast_to(count[None], tokens.shape[:2])


def restarting_positions(segment: Int[Array, "B T"]) -> Int[Array, "B T"]:
    """Return positions that count from 0 in each document of a row."""
    place = positions(segment)
    first = jnp.pad(segment[:, 1:] != segment[:, :-1], ((0, 0), (1, 0)))
    # The running maximum carries the position of the last document's first token along the row.
    return place - jax.lax.cummax(jnp.where(first, place, 0), axis=1)


def given_lengths(prompt: Batch, items: Shaped[Array, "B P ..."]) -> Int[Array, " B"]:
    """Return how many of the P items of each row are given: LENGTH of the prompt, or all of them."""
    if LENGTH in prompt:
        return prompt[LENGTH].astype(jnp.int32)
    return jnp.full(items.shape[:1], items.shape[1], jnp.int32)


def given_tokens(
    prompt: Batch, name: str, num: int, total: int
) -> tuple[Int[Array, "num P"], Int[Array, " num"]]:
    """Return the beginning that a prompt gives, and how many of its P tokens each row has; P may be 0.

    Args:
      name: of the element, under which the prompt holds the beginning (num x P).
      total: tokens of a whole row.

    Raises:
      ConfigError: the beginning is longer than a row.
    """
    tokens = prompt[name].astype(jnp.int32) if name in prompt else jnp.zeros((num, 0), jnp.int32)
    tokens = tokens.reshape(num, -1)
    check_prompt(tokens.shape[1], total)
    return tokens, given_lengths(prompt, tokens)


def check_prompt(given: int, total: int) -> None:
    """Raise ConfigError if a prompt of `given` tokens does not fit a row of `total`."""
    if given > total:
        raise ConfigError(f"a prompt of {given} tokens for rows of {total}", "shorten the prompt")


def targets_mask(
    batch: Batch, length: int, drop: Float[Array, " B"] | None = None
) -> Float[Array, "B {length}"]:
    """Return 1 on the targets of running rows that count: see `Sequence.encode`.

    Args:
      drop: rows with 1 begin with a start token: their targets begin one item earlier.
    """
    mask = _row_mask(batch, length)
    counts = []
    if TOKEN_MASK in batch:
        counts.append(batch[TOKEN_MASK])
    if SEGMENT in batch:
        segment = batch[SEGMENT]
        same = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] > 0)
        counts.append(same.astype(mask.dtype))
    for count in counts:
        mask = mask * (count if drop is None else _shifted(count, drop))
    return mask


def inputs_segments(
    batch: Batch, drop: Float[Array, " B"] | None = None
) -> tuple[Int[Array, "B T"], Int[Array, "B T"]]:
    """Return (segment, position) of the inputs of running rows; positions restart with each document."""
    segment = batch[SEGMENT].astype(jnp.int32)[:, :-1]
    if drop is not None:
        segment = _shifted(segment, drop)
    return segment, restarting_positions(segment)


def _row_mask(batch: Batch, length: int) -> Float[Array, "B {length}"]:
    return jnp.broadcast_to(batch["mask"][:, None], (batch["mask"].shape[0], length))


def _shifted(x: Shaped[Array, "B T"], drop: Float[Array, " B"]) -> Shaped[Array, "B T"]:
    """Shift dropped rows right by one place, for the start token; it takes the value of the first item."""
    return jnp.where(drop[:, None] > 0, jnp.concatenate([x[:, :1], x[:, :-1]], axis=1), x)
