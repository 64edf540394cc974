"""Generate by iterative refinement: predict all masked positions, then mask the least confident again.

A `Predictor` gives logits for every position of partly masked rows; the architecture does not matter.
Mask-Predict (Ghazvininejad et al. 2019, arXiv:1904.09324) is schedule="linear", revisit=True, temperature 0;
MaskGIT (Chang et al. 2022, arXiv:2202.04200) is schedule="cosine", revisit=False with sampling and noisy
confidences.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.sampling.logits import Truncation, check_finite, draw

Predictor = Callable[[Int[Array, "B T"]], Float[Array, "B T V"]]
"""Rows with masked positions -> logits at every position; -inf for tokens that must not be written."""


@dataclasses.dataclass(frozen=True)
class Refinement:
    """Configure how masked positions are filled.

    Attributes:
      steps: number of predictions; 1 fills all positions at once.
      schedule: fraction of positions that is still masked after a fraction r of the steps: "linear" 1 - r,
        "cosine" cos(pi r / 2).
      revisit: tokens filled in earlier steps may be masked again (Mask-Predict); else only those filled in
        this step (MaskGIT).
      temperature, top_k, top_p: see sampling.logits.Truncation; temperature 0 takes the most probable token.
      choice: scale of the Gumbel noise on log confidences, which falls linearly to 0 over the steps
        (MaskGIT's choice temperature). Keeping the most confident draws favours probable tokens, as a lower
        temperature would; a very large `choice` fills in random order and keeps the predictor's distribution.
    """

    steps: int = 10
    schedule: Literal["linear", "cosine"] = "cosine"
    revisit: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    choice: float = 1.0

    def __post_init__(self):
        if self.steps < 1:
            raise ConfigError(f"steps {self.steps} fills no positions", "give at least 1")
        if self.schedule not in ("linear", "cosine"):
            raise ConfigError(f"schedule {self.schedule!r} is unknown", "linear or cosine")
        if not 0 <= self.choice < math.inf:
            raise ConfigError(
                f"choice {self.choice} is not a scale", "give a number of 0 or more; 0 is without noise"
            )
        Truncation(self.temperature, self.top_k, self.top_p)

    def masked(self, r: Float[Array, ""]) -> Float[Array, ""]:
        """Return the fraction of positions that is masked after a fraction r of the steps."""
        return 1 - r if self.schedule == "linear" else jnp.cos(jnp.pi / 2 * r)


class Refined(NamedTuple):
    """Hold filled rows and each token's log-probability when it was last written (0 for given tokens)."""

    tokens: Int[Array, "B T"]
    log_probs: Float[Array, "B T"]


def refine(
    predict: Predictor,
    keys: Keys,
    tokens: Int[Array, "B T"],
    unknown: Bool[Array, "B T"],
    *,
    mask: int,
    how: Refinement | None = None,
) -> Refined:
    """Fill the unknown positions in one compiled loop of how.steps predictions.

    Row i is a function of keys[i] and its own tokens alone. Rows may have different numbers of unknown
    positions, or none.

    Args:
      tokens: the given tokens; values at unknown positions are not read.
      mask: the token that marks unknown positions.
    """
    how = how or Refinement()
    narrow = Truncation(how.temperature, how.top_k, how.top_p)
    B, T = tokens.shape
    count = unknown.sum(-1)
    place = jnp.arange(T)

    def body(state: tuple[jax.Array, jax.Array, jax.Array], n: jax.Array):
        rows, masked, scores = state
        at = jax.vmap(jax.random.fold_in, (0, None))(keys, n)
        logits = predict(jnp.where(masked, mask, rows)).astype(jnp.float32)
        check_finite(logits.reshape(B * T, -1), ~masked.reshape(B * T))
        log_probs = jax.vmap(narrow, 1, 1)(logits)
        if how.temperature == 0:
            new = jnp.argmax(log_probs, axis=-1).astype(rows.dtype)
        else:
            new = jax.vmap(lambda k, row: draw(jax.vmap(jax.random.fold_in, (None, 0))(k, place), row))(
                jax.vmap(jax.random.fold_in, (0, None))(at, 0), log_probs
            ).astype(rows.dtype)
        # Confidence is the model's probability, also if the draws were truncated.
        own = jnp.take_along_axis(jax.nn.log_softmax(logits, -1), new[..., None], axis=-1)[..., 0]
        rows = jnp.where(masked, new, rows)
        scores = jnp.where(masked, own, scores)
        r = (n + 1) / how.steps
        # The small term keeps whole products from being rounded down.
        left = jnp.floor(count * how.masked(r) + 1e-3).astype(jnp.int32)
        # Every step but the last leaves a masked position and fills at least one.
        open_ = unknown if how.revisit else masked
        left = jnp.clip(left, jnp.minimum(1, count), jnp.maximum(open_.sum(-1) - 1, 0))
        left = jnp.where(n + 1 == how.steps, 0, left)
        doubt = scores
        if how.choice:
            noise = jax.vmap(lambda k: jax.random.gumbel(jax.random.fold_in(k, 1), (T,)))(at)
            doubt = doubt + how.choice * (1 - r) * noise
        rank = jnp.argsort(jnp.argsort(jnp.where(open_, doubt, jnp.inf), axis=-1), axis=-1)
        return (rows, rank < left[:, None], scores), None

    start = (jnp.where(unknown, mask, tokens), unknown, jnp.zeros((B, T), jnp.float32))
    (rows, _, scores), _ = jax.lax.scan(body, start, jnp.arange(how.steps))
    return Refined(rows, jnp.where(unknown, scores, 0))


class Fill(NamedTuple):
    """Hold the k most probable tokens of each position, best first, and their probabilities."""

    tokens: Int[Array, "B N k"]
    probs: Float[Array, "B N k"]


def fill(logits: Float[Array, "B T V"], places: Int[Array, "B N"], k: int = 5) -> Fill:
    """Predict the tokens at N positions of each row (fill-mask), each alone, given the unmasked tokens."""
    at = jnp.take_along_axis(logits, places[..., None], axis=1).astype(jnp.float32)
    probs, tokens = jax.lax.top_k(jax.nn.softmax(at, axis=-1), k)
    return Fill(tokens.astype(jnp.int32), probs)
