"""Configure a variational autoencoder: see models/vae.py."""

from __future__ import annotations

import dataclasses
from typing import Literal

from genjax.config import Count, Natural, NotNegative, Width, check, unused
from genjax.functional import bounds
from genjax.functional.decoded_pixels import Likelihood
from genjax.nn import priors
from genjax.nn.adversary import Adversary
from genjax.nn.image_vae import Activation, Halves, Scale
from genjax.nn.regularisers import Regulariser


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a variational autoencoder of images.

    Attributes:
      latent: dimensions of z, or its channels if `spatial`.
      network: "conv" or "mlp", for encoder and decoder.
      spatial: z is a map (H / 2^n, W / 2^n, latent), where n is how often the image can be halved; needs
        network="conv". False for a vector (latent,).
      width: channels of the first convolution, doubled at each halving.
      blocks: residual blocks after each halving and before each doubling; needs network="conv".
      hidden: widths of the MLP's hidden layers in the encoder; the decoder has them in reverse order.
      activation: of the MLP.
      likelihood: of the image given z; "normal" is a density of the values in [-1, 1], or of real values,
        which have no other.
      components: of a mixture ("discretised_logistic_mixture").
      scale: the scale of a logistic or normal: "pixel" (the decoder computes one for each pixel), "shared"
        (one learned number; Rybkin et al. 2021, arXiv:2006.13202) or "fixed" (`sigma`).
      sigma: the scale in units of the values in [-1, 1]; the initial one if it is learned.
      smallest: lower bound of a learned scale in the same units. A density needs one: it is unbounded on
        pixels that never change.
      beta: weight of the KL term in the loss (Higgins et al. 2017); 1 for the bound itself.
      posterior: "normal", or "point": z is the encoder's mean, and the KL term is |z|^2 / 2 (regularised
        autoencoder). There is no bound and no sampler then: fit a density to the codes (model "latent").
      bound: that is maximised, and how many draws of z it takes.
      prior: of z.
      regulariser: what is added to the ELBO for the latent space, beside or in place of the KL term.
      conditional: encoder and decoder read the label if the data has one.
      adversary: the adversarial and the perceptual loss of a KL autoencoder; neither by default.
    """

    latent: Width = 16
    network: Literal["conv", "mlp"] = "conv"
    spatial: bool = False
    width: Width = 32
    blocks: Natural = 0
    hidden: tuple[Width, ...] = (400,)
    activation: Activation = "silu"
    likelihood: Likelihood = "discretised_logistic"
    components: Count = 10
    scale: Literal["pixel", "shared", "fixed"] = "pixel"
    sigma: Scale = 0.1
    smallest: Scale = 1e-3
    beta: NotNegative = 1.0
    posterior: Literal["normal", "point"] = "normal"
    bound: bounds.Bound = dataclasses.field(default_factory=bounds.Bound)
    prior: priors.Prior = dataclasses.field(default_factory=priors.Prior)
    regulariser: Regulariser = dataclasses.field(default_factory=Regulariser)
    conditional: bool = True
    adversary: Adversary = dataclasses.field(default_factory=Adversary)

    def __post_init__(self):
        check(self)
        if not 0 < self.smallest < self.sigma:
            raise ValueError(f"smallest={self.smallest} must lie between 0 and sigma={self.sigma}")
        if self.spatial and self.network != "conv":
            raise ValueError(f"spatial latents need network='conv', got {self.network!r}")
        if self.network == "mlp":
            unused(self, "network", "blocks")
        else:
            unused(self, "network", "activation")
        if self.likelihood != "discretised_logistic_mixture":
            unused(self, "likelihood", "components")
        if self.bound.kind != "elbo" and (self.beta != 1 or self.regulariser.kind != "kl"):
            raise ValueError(f"beta and regulariser apply to the ELBO, not to bound.kind={self.bound.kind!r}")
        if self.point and (self.bound != bounds.Bound() or self.prior.kind != "normal"):
            raise ValueError("posterior='point' has no bound and no prior: leave both at their defaults")
        if self.point and self.regulariser.kind not in ("kl", "gradient"):
            raise ValueError(f"regulariser.kind={self.regulariser.kind!r} needs posterior='normal'")
        if self.regulariser.kind != "kl":
            self.regulariser.check_fits(self.prior.kind, self.spatial)
        sharp = self.adversary != Adversary()
        if sharp and (self.network != "conv" or self.bound != bounds.Bound()):
            raise ValueError("adversary needs network='conv' and the ELBO with one draw")

    @property
    def point(self) -> bool:
        """Return True if z is a function of x."""
        return self.posterior == "point"

    @property
    def halves(self) -> Halves:
        """Return what the networks need."""
        names = [f.name for f in dataclasses.fields(Halves)]
        return Halves(**{name: getattr(self, name) for name in names})
