"""Generation by iterative masked refinement: all places are guessed at once, the doubtful ones masked again.

Knows no architecture: a `Predictor` gives logits for every place of rows some of whose tokens are masked.
Mask-Predict (Ghazvininejad et al. 2019, arXiv:1904.09324) is schedule="linear", revisit=True, temperature 0;
MaskGIT (Chang et al. 2022, arXiv:2202.04200) is schedule="cosine", revisit=False with sampling and noisy
confidences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.sampling.logits import Truncation, draw

Predictor = Callable[[Int[Array, "B T"]], Float[Array, "B T V"]]
"""Rows with masked places -> logits of the token at every place; -inf for what may not be written."""


@dataclasses.dataclass(frozen=True)
class Refinement:
    """How masked places are filled.

    Attributes:
      steps: predictions made; 1 fills all places at once.
      schedule: the share of places that is masked after a share r of the steps: "linear" 1 - r, "cosine"
        cos(pi r / 2).
      revisit: whether a token that was filled earlier may be masked again (Mask-Predict); else only those
        guessed in this step (MaskGIT).
      temperature, top_k, top_p: of the draws: see sampling.logits.Truncation; 0 takes the likeliest token.
      choice: scale of the Gumbel noise on log confidences, which falls linearly to 0 over the steps
        (MaskGIT's choice temperature). Keeping the surest draws favours likely tokens, as a lower
        temperature would; a very large `choice` fills in random order and keeps the predictor's law.
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
            raise ConfigError(f"steps {self.steps} fills nothing", "give at least 1")
        if self.schedule not in ("linear", "cosine"):
            raise ConfigError(f"schedule {self.schedule!r} is unknown", "linear or cosine")
        if self.choice < 0:
            raise ConfigError(f"choice {self.choice} is negative", "0 is without noise")
        Truncation(self.temperature, self.top_k, self.top_p)

    def masked(self, r: Float[Array, ""]) -> Float[Array, ""]:
        """The share of places that is masked after a share r of the steps."""
        return 1 - r if self.schedule == "linear" else jnp.cos(jnp.pi / 2 * r)


class Refined(NamedTuple):
    """Filled rows, and the log-probability with which each token was last written (0 where it was given)."""

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
    """Fills the unknown places, in one compiled loop of how.steps predictions.

    Row i is a function of keys[i] and of its own tokens alone. Rows may have different numbers of unknown
    places, even none.

    Args:
      tokens: what is given; what stands at unknown places is not read.
      mask: the token that stands for "unknown".
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
        log_probs = jax.vmap(narrow, 1, 1)(logits)
        if how.temperature == 0:
            new = jnp.argmax(log_probs, axis=-1).astype(rows.dtype)
        else:
            new = jax.vmap(lambda k, row: draw(jax.vmap(jax.random.fold_in, (None, 0))(k, place), row))(
                jax.vmap(jax.random.fold_in, (0, None))(at, 0), log_probs
            ).astype(rows.dtype)
        # Confidence is the model's own, whatever the draws were narrowed to.
        own = jnp.take_along_axis(jax.nn.log_softmax(logits, -1), new[..., None], axis=-1)[..., 0]
        rows, scores = jnp.where(masked, new, rows), jnp.where(masked, own, scores)
        r = (n + 1) / how.steps
        left = jnp.floor(count * how.masked(r) + 1e-3).astype(jnp.int32)  # of whole shares too
        # Every step but the last leaves something to do, and fills at least one place.
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
    """The k likeliest tokens of a place, best first, and their probabilities."""

    tokens: Int[Array, "B N k"]
    probs: Float[Array, "B N k"]


def fill(logits: Float[Array, "B T V"], places: Int[Array, "B N"], k: int = 5) -> Fill:
    """What could stand at N places of each row (fill-mask), each by itself, given what is not masked."""
    at = jnp.take_along_axis(logits, places[..., None], axis=1).astype(jnp.float32)
    probs, tokens = jax.lax.top_k(jax.nn.softmax(at, axis=-1), k)
    return Fill(tokens.astype(jnp.int32), probs)
