"""Define distributions of pixels by what a decoder computes: log-probabilities, the nearest levels, draws."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from genjax.functional import finite, likelihoods, pixels

Likelihood = Literal["discretised_logistic", "discretised_normal", "normal", "bernoulli"]


@dataclasses.dataclass(frozen=True)
class DecodedPixels:
    """Define the distribution of pixels given a decoder's output: logits, or locations and log scales.

    Attributes:
      likelihood: its form; see functional/likelihoods.py.
      levels: of the data.
    """

    likelihood: Likelihood
    levels: int

    @property
    def binary(self) -> bool:
        """Return True if the output is logits."""
        return self.likelihood == "bernoulli"

    @property
    def discrete(self) -> bool:
        """Return True if log_prob is a probability of the data's levels."""
        return self.likelihood.startswith("discretised") or (self.binary and self.levels == 2)

    @property
    def normalised(self) -> bool:
        """Return True if log_prob is a probability or a density."""
        return self.discrete or not self.binary

    def log_prob(
        self, out: Float[Array, "O B H W C"], image: Integer[Array, "B H W C"]
    ) -> Float[Array, "B H W C"]:
        """Compute the log-probability (or density, or negative cross-entropy) of every value, in nats."""
        if self.binary:
            return likelihoods.bernoulli(out[0], pixels.to_unit(image, self.levels))
        if self.likelihood == "normal":
            return likelihoods.normal(out[0], out[1], pixels.to_signed(image, self.levels))
        logistic = self.likelihood == "discretised_logistic"
        f = likelihoods.discretised_logistic if logistic else likelihoods.discretised_normal
        return f(out[0], out[1], image, self.levels)

    def location(self, out: Float[Array, "O B H W C"]) -> Float[Array, "B H W C"]:
        """Return the location in units of levels, not rounded."""
        return (self.signed(out) + 1.0) * ((self.levels - 1) / 2.0)

    def signed(self, out: Float[Array, "O B H W C"]) -> Float[Array, "B H W C"]:
        """Return the location in [-1, 1]."""
        return 2.0 * jax.nn.sigmoid(out[0]) - 1.0 if self.binary else out[0]

    def mean(self, out: Float[Array, "O B H W C"]) -> Integer[Array, "B H W C"]:
        """Return the level nearest to the location."""
        if self.binary:
            return pixels.from_unit(jax.nn.sigmoid(out[0]), self.levels)
        return pixels.from_signed(out[0], self.levels)

    def draw(self, key: jax.Array, out: Float[Array, "O H W C"]) -> Integer[Array, "H W C"]:
        """Draw the pixels of one row."""
        if self.binary:
            finite.note_values(out, "pixels")
            white = jax.random.bernoulli(key, jax.nn.sigmoid(out[0]))
            return (self.levels - 1) * white.astype(jnp.uint8)
        logistic = self.likelihood == "discretised_logistic"
        noise = (jax.random.logistic if logistic else jax.random.normal)(key, out[0].shape)
        return pixels.from_signed(out[0] + jnp.exp(out[1]) * noise, self.levels)
