"""Read piano rolls as sequences of frames: a frame is the set of keys that sound together.

A frame holds K binary values (88 keys). A model predicts the logit of every key; given the past, the keys are
independent:

    nats of a frame = sum over keys of -log Bernoulli(key; sigmoid(logit))

(Boulanger-Lewandowski et al. 2012, arXiv:1206.6392, the RNN baseline of table 1). `Frames` has the interface
of `views.sequences.Sequence`, so that a model can read both; `view` chooses between them.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from genjax.core import Batch, Mean, Spec
from genjax.errors import ConfigError
from genjax.views.columns import SEGMENT
from genjax.views.sequences import (
    Sequence,
    discrete_target,
    given_lengths,
    inputs_segments,
    is_running,
    targets_mask,
)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Convert piano rolls to sequences of T frames and back: inputs roll[:-1], targets roll[1:].

    The first frame of a roll is read and not predicted. Behind the start frame (`drop`) it is predicted too.
    All values of the start frame are `null`; it is only read.

    Attributes:
      element: name of the target that is read.
      shape: (L, K) of the roll in the data, K keys.
      dtype: of the roll in the data.
    """

    element: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    levels: int = 2
    classes: int = 0
    text: bool = True  # running rows, whose first frame is data

    @classmethod
    def of(cls, spec: Spec) -> Frames:
        """Return the view of the first target with levels.

        Raises:
          ConfigError: the values of its frames are not binary.
        """
        name = discrete_target(spec)
        element = spec[name]
        if element.levels != 2:
            raise ConfigError(
                f"the frames of {name!r} have {element.levels} levels", "frames must be binary: levels=2"
            )
        return cls(name, element.shape, element.dtype)

    @property
    def length(self) -> int:
        """T: the frames that are predicted for one row."""
        return self.shape[0] - 1

    @property
    def outputs(self) -> int:
        """K: the logits of one frame."""
        return self.shape[1]

    @property
    def vocabulary(self) -> int:
        """Rows of an embedding table: the keys and the start frame."""
        return self.shape[1] + 1

    @property
    def null(self) -> int:
        """The value of every key of the start frame."""
        return self.levels

    def start(self, prompt: Batch, num: int) -> Int[Array, "num 1 K"]:
        """Return the start frames of `num` rows."""
        del prompt
        return jnp.full((num, 1, self.outputs), self.null, jnp.int32)

    def unconditional(self, frames: Int[Array, "B T K"]) -> Int[Array, "B T K"]:
        """Return the same frames: a roll has no condition."""
        return frames

    def condition(self, prompt: Batch) -> Batch:
        """Return no conditions: a roll has none."""
        del prompt
        return {}

    def encode(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T K"], Int[Array, "B T K"], Float[Array, "B T"]]:
        """Return (inputs, targets, mask) as `Sequence.encode` does; the mask has one value per frame."""
        roll = batch[self.element].astype(jnp.int32)
        mask = targets_mask(batch, roll.shape[1] - 1, drop)
        inputs = roll[:, :-1]
        targets = roll[:, 1:]
        if drop is not None:
            dropped = drop[:, None, None] > 0
            shifted = jnp.concatenate([self.start({}, roll.shape[0]), roll[:, :-2]], axis=1)
            inputs = jnp.where(dropped, shifted, inputs)
            targets = jnp.where(dropped, roll[:, :-1], targets)
        return inputs, targets, mask

    def segments(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"]] | None:
        """Return (segment, position) of the inputs as `Sequence.segments` does; None without SEGMENT."""
        return inputs_segments(batch, drop) if SEGMENT in batch else None

    def prefix(self, prompt: Batch, num: int) -> tuple[Int[Array, "num P K"], Int[Array, " num"], int]:
        """Return the frames that a decoder reads first, as `Sequence.prefix` does.

        Args:
          prompt: may hold a beginning (num x P x K) under the element's own name, of which row i has
            LENGTH[i] frames (all P without LENGTH). Without one, the decoder reads the start frame.
        """
        frames = prompt.get(self.element)
        if frames is None:
            return self.start(prompt, num), jnp.ones((num,), jnp.int32), 1
        return frames.astype(jnp.int32), given_lengths(prompt, frames), 0

    def decode(self, frames: Integer[Array, "B L K"]) -> Batch:
        """Return frames in the form and dtype of the data."""
        return {self.element: frames.astype(self.dtype)}

    def nats(self, logits: Float[Array, "B T K"], targets: Int[Array, "B T K"]) -> Float[Array, "B T"]:
        """Compute the nats of every frame."""
        return frame_nats(logits, targets)

    def metrics(
        self, logits: Float[Array, "B T K"], targets: Int[Array, "B T K"], mask: Float[Array, "B T"]
    ) -> dict[str, Mean]:
        """Return `accuracy`: TP / (TP + FP + FN) over keys with probability above 1/2 (Bay et al. 2009)."""
        predicted = logits > 0
        real = targets > 0
        live = mask[..., None] > 0
        both = (predicted & real & live).sum(dtype=jnp.float32)
        either = ((predicted | real) & live).sum(dtype=jnp.float32)
        return {"accuracy": Mean(both, either)}


View: TypeAlias = Sequence | Frames
"""The form in which a model of sequences reads a row: as T tokens or as T frames."""


def view(spec: Spec) -> View:
    """Return the view of the first target with levels: frames if it is running and two-dimensional.

    Raises:
      ConfigError: the spec has no discrete target.
    """
    element = spec[discrete_target(spec)]
    if is_running(element) and len(element.shape) == 2:
        return Frames.of(spec)
    return Sequence.of(spec)


def frame_nats(logits: Float[Array, "*B K"], targets: Integer[Array, "*B K"]) -> Float[Array, "*B"]:
    """Compute -sum over keys of log Bernoulli(target; sigmoid(logit)), in float32."""
    logits = logits.astype(jnp.float32)
    # -log sigmoid(x) = softplus(x) - x if a key sounds; -log(1 - sigmoid(x)) = softplus(x) if it does not.
    return (jax.nn.softplus(logits) - jnp.where(targets > 0, logits, 0)).sum(-1)
