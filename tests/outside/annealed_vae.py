"""The VAE with a weight of the KL term that rises during training (Bowman et al. 2016, arXiv:1511.06349).

An example of a loss of one's own: the network, the sampler and the likelihood are those of genjax.models.vae.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from genjax.config import Count
from genjax.core import Aux, Batch, Keys, Mean, Model, Spec, Variables
from genjax.models import vae


@dataclasses.dataclass(frozen=True)
class Config(vae.Config):
    """Configure the VAE, with one more field.

    Attributes:
      rise: steps in which the weight of the KL term rises from 0 to `beta`.
    """

    rise: Count = 500


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Return the VAE of a spec with another objective.

    Raises:
      ConfigError: as genjax.models.vae.build.
    """
    model = vae.build(config, spec, stages)
    phase = model.phases["vae"]

    def objective(
        variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        _, aux = phase.objective(variables, batch, keys, step=step)
        distortion = aux.metrics["distortion"]
        kl = aux.metrics["kl"]
        # An evaluation has no step: it uses the weight that the training ends with.
        share = 1.0 if step is None else jnp.minimum(step / config.rise, 1.0)
        weight = Mean.of(jnp.asarray(config.beta * share, jnp.float32))
        loss = Mean(distortion.total + weight.total * kl.total, distortion.count)
        return loss, aux._replace(metrics={**aux.metrics, "kl_weight": weight})

    return model.replace(phases={"vae": phase._replace(objective=objective)})
