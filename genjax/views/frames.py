"""Piano rolls as sequences of frames: a frame is a set of keys that sound together, drawn as a whole.

A frame is 88 binary values (levels 2). A model gives every key's logit; given the past, keys are independent:

    nats of a frame = sum over keys of -log Bernoulli(key; sigmoid(logit))

(Boulanger-Lewandowski et al. 2012, arXiv:1206.6392, the RNN baseline of table 1). `Frames` has the interface
of `views.sequences.Sequence`, so that a model reads either; `view` chooses.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from genjax.core import Batch, Mean, Spec
from genjax.views.sequences import Sequence, inputs_segments, targets_mask


@dataclasses.dataclass(frozen=True)
class Frames:
    """How piano rolls become sequences of T frames and back: inputs roll[:-1], targets roll[1:].

    The first frame of a roll is read and not predicted; put behind the start frame (`drop`) it is predicted
    too. The start frame, all of whose values are `null`, is read only.

    Attributes:
      shape: (L, K) of the roll in the data, K keys.
    """

    shape: tuple[int, ...]
    element: str = "roll"
    levels: int = 2
    classes: int = 0
    text: bool = True  # running rows, whose first frame is data

    @property
    def length(self) -> int:
        """T: how many frames are predicted for one row."""
        return self.shape[0] - 1

    @property
    def outputs(self) -> int:
        """K: the logits of one frame."""
        return self.shape[1]

    @property
    def vocabulary(self) -> int:
        """Rows of an embedding table: the keys, and the start frame."""
        return self.shape[1] + 1

    @property
    def null(self) -> int:
        """What every value of the start frame is."""
        return self.levels

    def start(self, prompt: Batch, num: int) -> Int[Array, "num 1 K"]:
        """The start frames of `num` rows."""
        del prompt
        return jnp.full((num, 1, self.outputs), self.null, jnp.int32)

    def unconditional(self, frames: Int[Array, "B T K"]) -> Int[Array, "B T K"]:
        """The same frames: a roll has no condition."""
        return frames

    def encode(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T K"], Int[Array, "B T K"], Float[Array, "B T"]]:
        """(inputs, targets, mask), as `Sequence.encode`: the mask is of frames."""
        roll = batch[self.element].astype(jnp.int32)
        mask = targets_mask(batch, roll.shape[1] - 1, drop)
        inputs, targets = roll[:, :-1], roll[:, 1:]
        if drop is not None:
            dropped = drop[:, None, None] > 0
            begun = jnp.concatenate([self.start({}, roll.shape[0]), roll[:, :-2]], axis=1)
            inputs, targets = jnp.where(dropped, begun, inputs), jnp.where(dropped, roll[:, :-1], targets)
        return inputs, targets, mask

    def segments(
        self, batch: Batch, drop: Float[Array, " B"] | None = None
    ) -> tuple[Int[Array, "B T"], Int[Array, "B T"]] | None:
        """(segment, position) of the inputs, as `Sequence.segments`; None without `segment`."""
        return inputs_segments(batch, drop) if "segment" in batch else None

    def prefix(self, prompt: Batch, num: int) -> tuple[Int[Array, "num P K"], Int[Array, " num"], int]:
        """What a decoder reads before it draws, as `Sequence.prefix`: prompt["roll"] (num x P x K), of which
        row i has prompt["length"][i] frames, or the start frame."""
        frames = prompt.get(self.element)
        if frames is None:
            return self.start(prompt, num), jnp.ones((num,), jnp.int32), 1
        lengths = prompt.get("length", jnp.full((num,), frames.shape[1], jnp.int32))
        return frames.astype(jnp.int32), lengths.astype(jnp.int32), 0

    def decode(self, frames: Integer[Array, "B L K"]) -> Batch:
        """Frames as a batch of the data's form."""
        return {self.element: frames.astype(jnp.uint8)}

    def nats(self, logits: Float[Array, "B T K"], targets: Int[Array, "B T K"]) -> Float[Array, "B T"]:
        """Nats of every frame."""
        return frame_nats(logits, targets)

    def metrics(
        self, logits: Float[Array, "B T K"], targets: Int[Array, "B T K"], mask: Float[Array, "B T"]
    ) -> dict[str, Mean]:
        """`accuracy`: TP / (TP + FP + FN) over keys likelier to sound than not (Bay et al. 2009)."""
        drawn, real = logits > 0, targets > 0
        live = mask[..., None] > 0
        both, either = (x.sum(dtype=jnp.float32) for x in (drawn & real & live, (drawn | real) & live))
        return {"accuracy": Mean(both, either)}


View: TypeAlias = Sequence | Frames
"""What a model of sequences reads, a row as T units: tokens or frames."""


def view(spec: Spec) -> View:
    """The spec's rows as frames where it has a `roll`, else as tokens.

    Raises:
      ConfigError: where it has neither rolls, tokens nor a quantised image.
    """
    return Frames(spec["roll"].shape) if "roll" in spec else Sequence.of(spec)


def frame_nats(logits: Float[Array, "*B K"], targets: Integer[Array, "*B K"]) -> Float[Array, "*B"]:
    """-sum over keys of log Bernoulli(target; sigmoid(logit)), float32 whatever the logits' dtype."""
    logits = logits.astype(jnp.float32)
    return (jax.nn.softplus(logits) - jnp.where(targets > 0, logits, 0)).sum(-1)
