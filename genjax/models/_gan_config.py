"""Configure a generative adversarial network: see models/gan.py."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from genjax import plugins
from genjax.config import (
    Count,
    NotNegative,
    Positive,
    Probability,
    Range,
    Width,
    build,
    check,
    coerce,
    unused,
)
from genjax.errors import ConfigError
from genjax.functional import augment
from genjax.functional.adversarial import Loss
from genjax.nn.critics import Reads

NETWORKS = "genjax.nn.gans"
NEEDS = ("Config", "EQUALISED", "fits", "generator", "critic", "normalises", "kernels")
"""What a file of networks defines."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Configure how images are augmented before the critic sees them (functional/augment.py).

    Attributes:
      kind: "none", "ada" or "diff" (DiffAugment).
      p: the probability of each transformation of "ada"; None adapts it.
      target: of the mean sign of the critic's logits on training rows (Karras et al. 2020, arXiv:2006.06676,
        r_t of eq. 1): above it p grows, below it p falls.
      examples: in which p could grow from 0 to 1.
    """

    kind: augment.Kind = "none"
    p: Probability | None = None
    target: Probability = 0.6
    examples: Positive = 500_000.0

    def __post_init__(self):
        check(self)
        if self.kind != "ada":
            unused(self, "kind", "p", "target", "examples")
        elif self.p is not None:
            unused(self, "p", "target", "examples")

    @property
    def adaptive(self) -> bool:
        """Return True if p changes in training."""
        return self.kind == "ada" and self.p is None


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a generative adversarial network. Any network takes any loss and any penalty.

    Attributes:
      network: `name`, a file of genjax/nn/gans, and fields of its own Config.
      latent: dimensions of z.
      loss: of both players (functional/adversarial.py).
      reads: how the critic reads the class.
      auxiliary: weight of the classification loss (reads="auxiliary").
      r1, r2: gamma, weight of the squared gradient at real and at generated rows; 0 for none.
      gradient_penalty: weight of (|gradient| - 1)^2 between real and generated rows; 0 for none.
      interval: steps between penalties. At 1 they are part of the critic's loss; a penalty that comes more
        rarely is an update of its own with that many times the weight (Karras et al. 2020,
        arXiv:1912.04958, appendix B).
      consistency, consistency_fake: weight of the squared change of the critic's logit when a real or a
        generated image is shifted by up to an eighth of its size (CR-GAN; both: bCR-GAN).
      path_length: weight of the generator's path length regularisation (Karras et al. 2020, sec. 3.2); of
        networks with styles. It comes every `path_interval` steps.
      path_interval: steps between them.
      orthogonal: weight of the orthogonal regularisation of the generator's kernels (Brock et al. 2019,
        arXiv:1809.11096, eq. 3: 1e-4).
      spectral: players whose kernels are divided by their largest singular values.
      augment: of real and generated images, before the critic sees them.
      pack: rows that the critic judges at once (PacGAN; Lin et al. 2018, arXiv:1712.04086), unconditional.
      critic_steps: updates of the critic for each one of the generator.
      conditional: both players read the label if the data has one.
    """

    network: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "dcgan"})
    latent: Width = 64
    loss: Loss = "non_saturating"
    reads: Reads = "projection"
    auxiliary: NotNegative = 1.0
    r1: NotNegative = 0.0
    r2: NotNegative = 0.0
    gradient_penalty: NotNegative = 0.0
    interval: Count = 1
    consistency: NotNegative = 0.0
    consistency_fake: NotNegative = 0.0
    path_length: NotNegative = 0.0
    path_interval: Count = 4
    orthogonal: NotNegative = 0.0
    spectral: tuple[Literal["generator", "discriminator"], ...] = ()
    augment: Augment = dataclasses.field(default_factory=Augment)
    pack: Annotated[int, Range(least=1, most=64)] = 1
    critic_steps: Count = 1
    conditional: bool = True

    def __post_init__(self):
        check(self)
        # Complete, so that config.json states every default of the network.
        fields = dict(self.network)
        name = fields.pop("name", None)
        if name is None:
            raise ConfigError("model.network.name is missing", "name the networks, e.g. dcgan")
        name = coerce(Annotated[str, plugins.Entry(NETWORKS, "network")], name, "model.network.name")
        own = build(module(name).Config, fields, "model.network")
        object.__setattr__(self, "network", {"name": name, **dataclasses.asdict(own)})
        if self.reads != "auxiliary":
            unused(self, "reads", "auxiliary")
        if self.pack > 1 and (self.consistency or self.consistency_fake):
            raise ValueError("consistency is defined for single rows, not for pack > 1")
        if not self.path_length:
            unused(self, "path_length", "path_interval")
        if not self.penalised:
            if self.interval != 1:
                raise ValueError("interval has no effect without a penalty (r1, r2, gradient_penalty)")
        elif self.interval > 1 and self.critic_steps > 1:
            raise ValueError("interval and critic_steps cannot both be above 1")

    @property
    def penalised(self) -> bool:
        """Return True if there is a penalty on the critic's gradient."""
        return bool(self.r1 or self.r2 or self.gradient_penalty)


def module(name: str) -> Any:
    """Return a file of networks."""
    return plugins.load(NETWORKS, name, "network", NEEDS)
