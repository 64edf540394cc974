"""Compute lower bounds of log p(x) from the log weights log p(x, z) - log q(z | x) of several draws of z.

M groups of K draws per row. With M = 1 the bound of K draws is the IWAE's (Burda et al. 2016,
arXiv:1509.00519, eq. 8), with K = 1 it is the ELBO averaged over M draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Range, Share, check, unused
from genjax.functional.likelihoods import log_mean_exp

Draws = Annotated[int, Range(least=1, most=2**16)]
Weights = Float[Array, "M K B"]


@dataclasses.dataclass(frozen=True)
class Bound:
    """Choose the bound that is maximised.

    Attributes:
      kind: "elbo"; "iwae" (Burda et al. 2016); "miwae", "ciwae" or "piwae" (Rainforth et al. 2018,
        arXiv:1802.04537, sec. 5: M groups of K draws; a mixture of ELBO and IWAE; IWAE of M K draws for the
        decoder and MIWAE for the encoder); "dreg", the IWAE with the doubly reparametrised gradient of the
        encoder (Tucker et al. 2019, arXiv:1810.04152, eq. 8).
      samples: K, draws in a group.
      groups: M.
      share: of the ELBO in "ciwae" (beta in the paper).
    """

    kind: Literal["elbo", "iwae", "miwae", "ciwae", "piwae", "dreg"] = "elbo"
    samples: Draws = 1
    groups: Draws = 1
    share: Share = 0.5

    def __post_init__(self):
        check(self)
        if self.kind == "elbo":
            unused(self, "kind", "samples")
        if self.kind in ("iwae", "ciwae", "dreg"):
            unused(self, "kind", "groups")
        if self.kind != "ciwae":
            unused(self, "kind", "share")

    @property
    def splits(self) -> bool:
        """Return True if encoder and decoder follow the gradients of different functions."""
        return self.kind in ("piwae", "dreg")

    def value(self, log_w: Weights) -> Float[Array, " B"]:
        """Compute the bound per row; the decoder's one if they differ."""
        if self.kind == "elbo":
            return log_w.mean((0, 1))
        if self.kind == "miwae":
            return miwae(log_w)
        if self.kind == "ciwae":
            return self.share * log_w.mean((0, 1)) + (1 - self.share) * iwae(log_w)
        return iwae(log_w)

    def encoder_value(self, log_w: Weights) -> Float[Array, " B"]:
        """Compute the function whose gradient the encoder follows, where it `splits`."""
        return miwae(log_w) if self.kind == "piwae" else doubly_reparametrised(log_w)


def iwae(log_w: Weights) -> Float[Array, " B"]:
    """Compute log of the mean weight over all M K draws."""
    return log_mean_exp(log_w.reshape(-1, log_w.shape[-1]))


def miwae(log_w: Weights) -> Float[Array, " B"]:
    """Compute the mean over M groups of the bound of K draws."""
    return log_mean_exp(log_w.swapaxes(0, 1)).mean(0)


def doubly_reparametrised(log_w: Weights) -> Float[Array, " B"]:
    """Return a function of the draws with the gradient sum_k v_k^2 d log w_k / dz_k dz_k / d phi.

    v are the normalised weights. In log w, the parameters of q(z | x) themselves must be constant, so that
    they act through the draws alone (Tucker et al. 2019, eq. 8).
    """
    flat = log_w.reshape(-1, log_w.shape[-1])
    v = jax.lax.stop_gradient(jax.nn.softmax(flat, axis=0))
    return (jnp.square(v) * flat).sum(0)


def of_two(bound: Bound, weights: Callable[[str], Weights]) -> Float[Array, " B"]:
    """Compute the bound, with the gradients that its kind prescribes.

    Args:
      weights: learner -> log weights as a function of the parameters of "both", or with those of the other
        half constant: "decoder" or "encoder".
    """
    if not bound.splits:
        return bound.value(weights("both"))
    value = bound.value(weights("decoder"))
    guide = bound.encoder_value(weights("encoder"))
    # The value is the decoder's; the gradient of the guide is added.
    return value + guide - jax.lax.stop_gradient(guide)
