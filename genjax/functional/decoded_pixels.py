"""Define distributions of values by what a decoder computes: log-probabilities, the nearest levels, draws."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genjax.functional import finite, likelihoods, mixtures, pixels

Likelihood = Literal[
    "discretised_logistic", "discretised_logistic_mixture", "discretised_normal", "normal", "bernoulli"
]


@dataclasses.dataclass(frozen=True)
class DecodedPixels:
    """Define the distribution of values given a decoder's output: logits, or locations and log scales.

    Attributes:
      likelihood: its form; see functional/likelihoods.py and functional/mixtures.py.
      levels: of the data; 0 for real values, which are not rounded.
      components: of a mixture.
    """

    likelihood: Likelihood
    levels: int
    components: int = 1

    @property
    def binary(self) -> bool:
        """Return True if the output is logits."""
        return self.likelihood == "bernoulli"

    @property
    def mixture(self) -> bool:
        """Return True if the output describes a mixture."""
        return self.likelihood == "discretised_logistic_mixture"

    @property
    def discrete(self) -> bool:
        """Return True if log_prob is a probability of the data's levels."""
        return self.likelihood.startswith("discretised") or (self.binary and self.levels == 2)

    @property
    def normalised(self) -> bool:
        """Return True if log_prob is a probability or a density."""
        return self.discrete or not self.binary

    def values(self, x: Num[Array, "B *shape"]) -> Float[Array, "B *shape"]:
        """Return what networks read: levels as values in [-1, 1], real values as they are."""
        return pixels.to_signed(x, self.levels) if self.levels else x

    def log_prob(
        self, out: Float[Array, "O B *shape"], x: Num[Array, "B *shape"]
    ) -> Float[Array, "B *parts"]:
        """Compute the log-probability (or density, or negative cross-entropy) of every value, in nats.

        Of a mixture it is that of every pixel (B, H, W, 1).
        """
        if self.mixture:
            return mixtures.log_prob(mixtures.of_output(out, self.components), x, self.levels)
        # One axis for all values: XLA's CPU compiler writes scalar loops for arrays whose last axis has one
        # value (grey images), which take eight times as long.
        flat = self._log_prob(out.reshape(*out.shape[:2], -1), x.reshape(x.shape[0], -1))
        return flat.reshape(x.shape)

    def _log_prob(self, out: Float[Array, "O B N"], x: Num[Array, "B N"]) -> Float[Array, "B N"]:
        if self.binary:
            return likelihoods.bernoulli(out[0], pixels.to_unit(x, self.levels))
        if self.likelihood == "normal":
            return likelihoods.normal(out[0], out[1], self.values(x))
        logistic = self.likelihood == "discretised_logistic"
        f = likelihoods.discretised_logistic if logistic else likelihoods.discretised_normal
        return f(out[0], out[1], x, self.levels)

    def location(self, out: Float[Array, "O B *shape"]) -> Float[Array, "B *shape"]:
        """Return the location in units of levels, not rounded; of real values, the location."""
        signed = self.signed(out)
        return (signed + 1.0) * ((self.levels - 1) / 2.0) if self.levels else signed

    def signed(self, out: Float[Array, "O B *shape"]) -> Float[Array, "B *shape"]:
        """Return the location in [-1, 1], or of real values; of a mixture, the mean."""
        if self.mixture:
            return mixtures.mean(mixtures.of_output(out, self.components))
        return 2.0 * jax.nn.sigmoid(out[0]) - 1.0 if self.binary else out[0]

    def mean(self, out: Float[Array, "O B *shape"]) -> Num[Array, "B *shape"]:
        """Return the level nearest to the location; of real values, the location."""
        if self.binary:
            return pixels.from_unit(jax.nn.sigmoid(out[0]), self.levels)
        return pixels.from_signed(self.signed(out), self.levels) if self.levels else out[0]

    def draw(self, key: jax.Array, out: Float[Array, "O *shape"]) -> Num[Array, "*shape"]:
        """Draw the values of one row."""
        if self.binary:
            finite.note_values(out, "pixels")
            white = jax.random.bernoulli(key, jax.nn.sigmoid(out[0]))
            return (self.levels - 1) * white.astype(jnp.uint8)
        if self.mixture:
            return mixtures.draw(key, mixtures.of_output(out, self.components), self.levels)
        logistic = self.likelihood == "discretised_logistic"
        noise = (jax.random.logistic if logistic else jax.random.normal)(key, out[0].shape)
        x = out[0] + jnp.exp(out[1]) * noise
        return pixels.from_signed(x, self.levels) if self.levels else x
