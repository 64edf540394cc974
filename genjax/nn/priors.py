"""Define learned priors of latent variables: mixtures of posteriors (VampPrior) and flows."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Layers, Width, check, unused
from genjax.core import Keys
from genjax.functional import likelihoods, noise
from genjax.functional.reductions import sum_row
from genjax.nn import flows


@dataclasses.dataclass(frozen=True)
class Prior:
    """Describe a prior of z.

    Attributes:
      kind: "normal" (standard), "vamp" (Tomczak & Welling 2018, arXiv:1705.07120) or "coupling" (affine
        couplings; as the autoregressive prior of Chen et al. 2017, arXiv:1611.02731, but drawn in one pass).
        The couplings read the label of a conditional model; the other two do not depend on it.
      components: pseudo-inputs of a VampPrior.
      couplings: of a flow.
      width: of the couplings' networks.
    """

    kind: Literal["normal", "vamp", "coupling"] = "normal"
    components: Width = 500
    couplings: Layers = 6
    width: Width = 128

    def __post_init__(self):
        check(self)
        if self.kind != "vamp":
            unused(self, "kind", "components")
        if self.kind != "coupling":
            unused(self, "kind", "couplings", "width")


class PseudoInputs(nn.Module):
    """Hold K learned images: the inputs of the encoder whose posteriors make up the prior.

    Attributes:
      components: K.
      shape: of an image.
      unit: the images lie in [0, 1] and start dark, else in [-1, 1] and start grey.
    """

    components: int
    shape: tuple[int, ...]
    unit: bool = False

    @nn.compact
    def __call__(self) -> Float[Array, "K *X"]:
        inputs = self.param("inputs", nn.initializers.normal(0.1), (self.components, *self.shape))
        # Both functions keep the values where images are.
        return nn.sigmoid(inputs - 2.0) if self.unit else jnp.tanh(inputs)


def mixture_log_prob(
    z: Float[Array, "B *Z"], mean: Float[Array, "K *Z"], log_std: Float[Array, "K *Z"]
) -> Float[Array, " B"]:
    """Compute log of the mean of N(z; mean_k, std_k^2) over the K components, per row."""
    K = mean.shape[0]
    # The quadratic form as matrix products: (z - m)^2 p = z^2 p - 2 z m p + m^2 p with precisions p. All is
    # measured from the middle of the components, so that little cancels.
    middle = mean.mean(0, keepdims=True)
    z = (z - middle).reshape(z.shape[0], -1)
    m = (mean - middle).reshape(K, -1)
    log_std = log_std.reshape(K, -1)
    p = jnp.exp(-2.0 * log_std)
    quadratic = jnp.square(z) @ p.T - 2.0 * z @ (m * p).T + (jnp.square(m) * p).sum(-1)[None]
    constant = log_std.sum(-1) + 0.5 * z.shape[1] * math.log(2 * math.pi)
    return jax.nn.logsumexp(-0.5 * quadratic - constant[None], -1) - math.log(K)


def mixture_draw(
    normal: Float[Array, "B *Z"], keys: Keys, mean: Float[Array, "K *Z"], log_std: Float[Array, "K *Z"]
) -> Float[Array, "B *Z"]:
    """Return a draw of the mixture per row: a component chosen uniformly, and the noise at its scale."""
    k = noise.integers(keys, 0, mean.shape[0])
    return mean[k] + jnp.exp(log_std[k]) * normal


class FlowPrior(nn.Module):
    """Map z to standard normal noise by affine couplings on the channels, which read the condition.

    Attributes:
      channels: of z, a vector or a map.
      prior: `couplings` and `width`.
    """

    channels: int
    prior: Prior

    def setup(self):
        made = [flows.Coupling(self.channels, self.prior.width) for _ in range(self.prior.couplings)]
        self.couplings = made

    def log_prob(self, z: Float[Array, "B *Z"], condition: Float[Array, "B K"]) -> Float[Array, " B"]:
        """Compute log p(z | condition) per row."""
        total = jnp.zeros(z.shape[0])
        for coupling in self.couplings:
            z, log_det = coupling.forward(z, condition)
            z = z[..., ::-1]
            total = total + log_det
        zeros = jnp.zeros_like(z)
        return total + sum_row(likelihoods.normal(zeros, zeros, z))

    def draw(self, normal: Float[Array, "B *Z"], condition: Float[Array, "B K"]) -> Float[Array, "B *Z"]:
        """Return the z of the noise."""
        z = normal
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z[..., ::-1], condition)
        return z
