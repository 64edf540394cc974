"""From logits to a token: temperature, truncation, and draws whose noise belongs to one row."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Truncation:
    """How a distribution over the next token is narrowed before the draw. Hashable: static under jit.

    Temperature comes first, then top-k, then top-p on what is left, renormalised.

    Attributes:
      temperature: logits are divided by it; 0 takes the likeliest token (the first of several).
      top_k: keep the k likeliest tokens; those that tie with the k-th are kept too. None keeps all.
      top_p: keep the likeliest tokens until their probability reaches p, at least one (nucleus
        sampling: Holtzman et al. 2020, arXiv:1904.09751). None keeps all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        if self.temperature < 0:
            raise ConfigError(
                f"temperature {self.temperature} is negative", "0 is greedy, 1 is the model's own"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k {self.top_k} keeps nothing", "give at least 1, or None")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p} is not a probability", "give 0 < top_p <= 1, or None")

    def __call__(self, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
        """Log-probabilities of the narrowed distribution, float32; -inf where nothing is drawn."""
        logits = logits.astype(jnp.float32)
        if self.temperature == 0:
            best = jnp.argmax(logits, axis=-1)[:, None]
            return jnp.where(jnp.arange(logits.shape[-1])[None] == best, 0.0, -jnp.inf)
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = top_k(logits, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            logits = top_p(logits, self.top_p)
        return jax.nn.log_softmax(logits, axis=-1)


def top_k(logits: Float[Array, "B V"], k: int) -> Float[Array, "B V"]:
    """-inf on all but the k likeliest tokens (and those that tie with the k-th)."""
    k = min(k, logits.shape[-1])
    least = jax.lax.top_k(logits, k)[0][:, -1:]
    return jnp.where(logits < least, -jnp.inf, logits)


def top_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """-inf on all but the smallest set of likeliest tokens whose probability reaches p."""
    order = jnp.argsort(-logits, axis=-1, stable=True)
    ranked = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    # A token stays if those before it have not reached p yet: the first always does.
    stays = jnp.cumsum(ranked, axis=-1) - ranked < p
    stays = jnp.take_along_axis(stays, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(stays, logits, -jnp.inf)


def draw(keys: Keys, log_probs: Float[Array, "B V"]) -> Int[Array, " B"]:
    """One token per row, from that row's key alone (the Gumbel-max trick)."""
    noise = jax.vmap(lambda key: jax.random.gumbel(key, log_probs.shape[1:]))(keys)
    return jnp.argmax(log_probs + noise, axis=-1).astype(jnp.int32)
