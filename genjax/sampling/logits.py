"""Define policies: they draw tokens from logits, with the noise of each row from that row's key alone.

A policy is a frozen dataclass and static under jit. Decoding calls one method of it:
`draw(keys, logits, seen, allowed) -> (token, log_prob)`. `Truncation` draws one token of a vocabulary,
`Bernoulli` a frame of independent zeros and ones.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError
from genjax.functional import finite

COLDEST = 1e-4
"""The lowest temperature but 0: logits of any size divided by it are still finite in float32."""


def check_temperature(temperature: float) -> None:
    """Raise ConfigError unless the temperature is 0 (greedy) or a finite number of at least COLDEST."""
    if temperature == 0 or (math.isfinite(temperature) and temperature >= COLDEST):
        return
    raise ConfigError(
        f"temperature={temperature} is out of range: 0, or at least {COLDEST}",
        "0 is greedy, 1 is the model's own",
    )


def check_finite(logits: Float[Array, "B V"], done: Bool[Array, " B"] | None = None) -> Bool[Array, " B"]:
    """Return the rows, of those that go on, whose logits are NaN or +inf (-inf forbids a token).

    They are also noted for the caller of the compiled program: see `functional.finite.note`.
    """
    bad = (jnp.isnan(logits) | (logits == jnp.inf)).any(axis=-1)
    if done is not None:
        bad = bad & ~done
    finite.note(bad, "logits")
    return bad


@struct.dataclass
class Seen:
    """Count the tokens that each row has read and drawn, for penalties.

    Attributes:
      given: True for tokens of the prompt.
      drawn: number of times that each token was drawn.
    """

    given: Bool[Array, "B V"]
    drawn: Int[Array, "B V"]

    @classmethod
    def none(cls, num: int, vocabulary: int) -> Seen:
        """Return the counts of `num` rows before anything was read or drawn."""
        return cls(jnp.zeros((num, vocabulary), bool), jnp.zeros((num, vocabulary), jnp.int32))

    def read(self, tokens: Int[Array, "B P"], lengths: Int[Array, " B"]) -> Seen:
        """Return the counts after the first `lengths` tokens of each row; ids of V or more do not count."""
        rows = jnp.arange(tokens.shape[0])[:, None]
        places = jnp.arange(tokens.shape[1])[None]
        tokens = jnp.where(places < lengths[:, None], tokens, self.given.shape[1])
        return Seen(self.given.at[rows, tokens].set(True, mode="drop"), self.drawn)

    def draw(self, token: Int[Array, " B"], count: Int[Array, " B"]) -> Seen:
        """Return the counts after `count` (0 or 1) draws of `token` in each row."""
        return Seen(self.given, self.drawn.at[jnp.arange(token.shape[0]), token].add(count))


class Policy(Protocol):
    """Draw a token, or a frame, from logits. Hashable."""

    @property
    def remembers(self) -> bool:
        """True if draws depend on `seen`."""
        ...

    def draw(
        self,
        keys: Keys,
        logits: Float[Array, "B V"],
        seen: Seen | None = None,
        allowed: Bool[Array, "B V"] | None = None,
    ) -> tuple[Int[Array, "B ..."], Float[Array, " B"]]:
        """Draw a token per row from that row's key; return it with its log-probability under the policy."""
        ...


@dataclasses.dataclass(frozen=True)
class Truncation:
    """Draw one token of a vocabulary from a penalised, scaled and truncated distribution.

    The order is: penalties, mask of allowed tokens, temperature, top-k, top-p, min-p, typical; each acts on
    the tokens that the previous one kept. Order and results equal those of the library transformers.

    Attributes:
      temperature: divisor of the logits, at least COLDEST; 0 takes the most probable token (the first of
        several).
      top_k: keep the k most probable tokens, and those that tie with the k-th. None keeps all.
      top_p: keep the most probable tokens until their total probability reaches p, at least one (nucleus
        sampling: Holtzman et al. 2020, arXiv:1904.09751). None keeps all.
      min_p: keep tokens at least min_p times as probable as the best (Nguyen et al. 2024,
        arXiv:2407.01082). None keeps all.
      typical_p: keep the tokens with surprisal closest to the entropy until their total probability reaches p
        (locally typical sampling: Meister et al. 2023, arXiv:2202.00666, section 4). None keeps all.
      repetition_penalty: divides positive logits of tokens in the prompt or drawn before, and multiplies
        negative ones (Keskar et al. 2019, arXiv:1909.05858, section 4.1); 1 is none.
      frequency_penalty: subtracted from a token's logit for each time it was drawn; 0 is none.
      presence_penalty: subtracted once if it was drawn at all; 0 is none. For both the prompt does not
        count, as in OpenAI's interface.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    def __post_init__(self):
        check_temperature(self.temperature)
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k {self.top_k} keeps nothing", "give at least 1, or None")
        for name in ("top_p", "typical_p"):
            p = getattr(self, name)
            if p is not None and not 0 < p <= 1:
                raise ConfigError(f"{name} {p} is not a probability", f"give 0 < {name} <= 1, or None")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p {self.min_p} is not a probability", "give 0 <= min_p <= 1, or None")
        for name in ("frequency_penalty", "presence_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{name} {getattr(self, name)} is not finite", "give a number; 0 is none")
        if not 0 < self.repetition_penalty < math.inf:
            raise ConfigError(
                f"repetition_penalty {self.repetition_penalty} is not positive",
                "give more than 1 against repetition, 1 for none",
            )

    @property
    def remembers(self) -> bool:
        """True if a penalty is set, so that counts have to be kept."""
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0

    def __call__(
        self,
        logits: Float[Array, "B V"],
        seen: Seen | None = None,
        allowed: Bool[Array, "B V"] | None = None,
    ) -> Float[Array, "B V"]:
        """Return the log-probabilities of the policy (B x V) float32; -inf for truncated tokens."""
        scores = self.scores(logits, seen)
        return self.narrow(scores if allowed is None else jnp.where(allowed, scores, -jnp.inf))

    def scores(self, logits: Float[Array, "B V"], seen: Seen | None = None) -> Float[Array, "B V"]:
        """Return penalised logits divided by the temperature, float32; not divided if it is 0."""
        logits = logits.astype(jnp.float32)
        if seen is not None and self.remembers:
            logits = self._penalise(logits, seen)
        return logits / self.temperature if self.temperature else logits

    def narrow(self, scores: Float[Array, "B V"]) -> Float[Array, "B V"]:
        """Apply top-k, top-p, min-p and typical truncation to `scores`; return log-probabilities."""
        if self.temperature == 0:
            best = jnp.argmax(scores, axis=-1)[:, None]
            return jnp.where(jnp.arange(scores.shape[-1])[None] == best, 0.0, -jnp.inf)
        if self.top_k is not None:
            scores = top_k(scores, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            scores = top_p(scores, self.top_p)
        if self.min_p:
            scores = min_p(scores, self.min_p)
        if self.typical_p is not None and self.typical_p < 1:
            scores = typical_p(scores, self.typical_p)
        return jax.nn.log_softmax(scores, axis=-1)

    def draw(
        self,
        keys: Keys,
        logits: Float[Array, "B V"],
        seen: Seen | None = None,
        allowed: Bool[Array, "B V"] | None = None,
    ) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
        """Draw a token per row: see `Policy.draw`."""
        return self.choose(keys, self(logits, seen, allowed))

    def choose(
        self, keys: Keys, log_probs: Float[Array, "B V"]
    ) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
        """Draw a token per row from log-probabilities; take the most probable if the temperature is 0."""
        greedy = self.temperature == 0
        token = jnp.argmax(log_probs, axis=-1).astype(jnp.int32) if greedy else draw(keys, log_probs)
        return token, jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]

    def _penalise(self, logits: Float[Array, "B V"], seen: Seen) -> Float[Array, "B V"]:
        drawn = seen.drawn > 0
        if self.repetition_penalty != 1:
            logits = penalise(logits, seen.given | drawn, self.repetition_penalty)
        return logits - self.frequency_penalty * seen.drawn - self.presence_penalty * drawn


@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """Draw independent zeros and ones: the keys of a piano-roll frame (Boulanger-Lewandowski et al. 2012).

    Attributes:
      temperature: divisor of the logits, at least COLDEST; 0 takes the more probable value (0 on a tie).
    """

    temperature: float = 1.0

    def __post_init__(self):
        check_temperature(self.temperature)

    @property
    def remembers(self) -> bool:
        """False: frames have no penalties."""
        return False

    def draw(
        self,
        keys: Keys,
        logits: Float[Array, "B D"],
        seen: Seen | None = None,
        allowed: Bool[Array, "B D"] | None = None,
    ) -> tuple[Int[Array, "B D"], Float[Array, " B"]]:
        """Draw a frame per row; return it with the sum of its log-probabilities: see `Policy.draw`."""
        del seen
        if allowed is not None:
            raise ConfigError("frames are drawn with a stop token or a constraint", "leave both out")
        logits = logits.astype(jnp.float32)
        if self.temperature == 0:
            return (logits > 0).astype(jnp.int32), jnp.zeros(logits.shape[:1])
        logits = logits / self.temperature
        # logit + logistic noise > 0 has probability sigmoid(logit).
        noise = jax.vmap(lambda key: jax.random.logistic(key, logits.shape[1:]))(keys)
        frame = logits + noise > 0
        return frame.astype(jnp.int32), jax.nn.log_sigmoid(jnp.where(frame, logits, -logits)).sum(-1)


def penalise(scores: Float[Array, "B V"], known: Bool[Array, "B V"], by: float) -> Float[Array, "B V"]:
    """Divide the positive scores of `known` tokens by a repetition penalty, and multiply negative ones."""
    return jnp.where(known, jnp.where(scores < 0, scores * by, scores / by), scores)


def top_k(logits: Float[Array, "B V"], k: int) -> Float[Array, "B V"]:
    """Set all but the k most probable tokens, and those that tie with the k-th, to -inf."""
    k = min(k, logits.shape[-1])
    least = jax.lax.top_k(logits, k)[0][:, -1:]
    return jnp.where(logits < least, -jnp.inf, logits)


def top_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """Set all but the smallest set of most probable tokens with total probability p to -inf."""
    return _until(logits, -logits, p)


def min_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """Set tokens that are less than p times as probable as the best to -inf."""
    return jnp.where(logits < logits.max(axis=-1, keepdims=True) + jnp.log(p), -jnp.inf, logits)


def typical_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """Set all but the smallest set of most typical tokens with total probability p to -inf."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    probs = jnp.exp(log_probs)
    entropy = -jnp.where(probs > 0, probs * log_probs, 0.0).sum(axis=-1, keepdims=True)
    return _until(logits, jnp.abs(-log_probs - entropy), p)


def _until(logits: Float[Array, "B V"], cost: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """Keep the tokens of least cost until their total probability reaches p; set the others to -inf."""
    order = jnp.argsort(cost, axis=-1, stable=True)
    ranked = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    # A token stays if the tokens before it have not reached p: the first always stays.
    stays = jnp.cumsum(ranked, axis=-1) - ranked < p
    stays = jnp.take_along_axis(stays, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(stays, logits, -jnp.inf)


def draw(keys: Keys, log_probs: Float[Array, "B V"]) -> Int[Array, " B"]:
    """Draw one token per row from that row's key alone (the Gumbel-max trick)."""
    noise = jax.vmap(lambda key: jax.random.gumbel(key, log_probs.shape[1:]))(keys)
    return jnp.argmax(log_probs + noise, axis=-1).astype(jnp.int32)
