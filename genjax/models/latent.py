"""Train any prior over the codes of a frozen codec, and decode what it draws (see genjax.compose.latent).

    stages.codec = {"config": "digits/vae"}        trains that run first, or reuses a finished one
    stages.codec = "runs/digits-vae"               a finished run
    model = {"name": "latent", "prior": {"name": "diffusion", "width": 128}}

Latent diffusion is this with `diffusion` over the real-valued codes of a KL autoencoder; a VQ-VAE with a
learned prior is this with `gpt` over the integer codes of a VQ codec.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from genjax import compose, plugins
from genjax.config import Folder, coerce
from genjax.config import build as build_config
from genjax.core import Model, Spec
from genjax.errors import ConfigError

PACKAGE = "genjax.models"


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a prior over codes.

    Attributes:
      prior: `name`, the architecture of the prior, and fields of its own Config.
      codec: the name of the stage that holds the codec.
    """

    prior: dict[str, Any] = dataclasses.field(default_factory=dict)
    codec: Folder = "codec"

    def __post_init__(self):
        # Complete, so that config.json states every default of the prior.
        fields = dict(self.prior)
        name = fields.pop("name", None)
        if name is None:
            raise ConfigError("model.prior.name is missing", "name the architecture of the prior, e.g. gpt")
        name = coerce(Annotated[str, plugins.Entry(PACKAGE, "model")], name, "model.prior.name")
        own = build_config(_module(name).Config, fields, "model.prior")
        object.__setattr__(self, "prior", {"name": name, **dataclasses.asdict(own)})


def _module(name: str) -> Any:
    return plugins.load(PACKAGE, name, "model", ("Config", "build"))


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the prior on the spec of the codec's codes and compose both.

    Raises:
      ConfigError: the stage is missing or has no codec, or the prior cannot model its codes.
    """
    codec = (stages or {}).get(config.codec)
    if codec is None or codec.codec is None:
        raise ConfigError(
            f"model latent needs a codec in stages.{config.codec}",
            f'set stages.{config.codec} to a run directory, or to {{"config": NAME}}',
        )
    fields = dict(config.prior)
    module = _module(fields.pop("name"))
    own = build_config(module.Config, fields, "model.prior")
    prior = module.build(own, codec.codec.spec(spec), {})
    return compose.latent(prior, codec, spec, config.codec)
