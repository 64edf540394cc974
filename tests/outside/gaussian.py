"""The model of docs/extending.md: independent normal values, whose moments depend on the class."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.core import Aux, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.nn.conditions import ClassLabel


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure the model.

    Attributes:
      smallest: standard deviation below which no value is normalised.
    """

    smallest: float = 1e-3


class Moments(nn.Module):
    """Predict mean and log standard deviation of each value from the class (B; -1 without one)."""

    size: int
    classes: int

    @nn.compact
    def __call__(self, label):
        table = nn.Embed(self.classes + 1, 2 * self.size, embedding_init=nn.initializers.zeros)
        return jnp.split(table(label + 1), 2, axis=-1)


def build(config: Config, spec: Spec, stages=None) -> Model:
    """Build the model of the first target of a spec.

    Raises:
      ConfigError: the target is not real-valued.
    """
    if spec[spec.targets[0]].levels:
        raise ConfigError("gaussian needs a real-valued target", "choose data without levels")
    m = _Gaussian(config, spec, spec.targets[0], ClassLabel.of(spec))
    return Model(
        init=m.init,
        phases={"nll": Phase("model", m.objective)},
        fit=m.fit,
        sample=m.sample,
        likelihood=m.likelihood,
        likelihood_kind="density",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Gaussian:
    """Implement the contract."""

    config: Config
    spec: Spec
    target: str
    label: ClassLabel

    @property
    def size(self):
        return math.prod(self.spec[self.target].shape)

    @property
    def network(self):
        return Moments(self.size, self.label.classes)

    def init(self, key, batch, frozen):
        params = self.network.init(key, jnp.zeros((1,), jnp.int32))["params"]
        state = {"mean": jnp.zeros(self.size), "std": jnp.ones(self.size)}
        return Variables(params={"model": params}, state=state, frozen=frozen)

    def fit(self, variables, batch, keys):
        """Fit mean and standard deviation of each value on real rows, before step 1."""
        weight = (batch["mask"] / batch["mask"].sum())[:, None]
        x = batch[self.target].reshape(weight.shape[0], -1)
        mean = (weight * x).sum(0)
        std = jnp.sqrt((weight * jnp.square(x - mean[None])).sum(0))
        return variables.replace(state={"mean": mean, "std": jnp.maximum(std, self.config.smallest)})

    def moments(self, variables, batch, rows) -> Any:
        params = {"params": variables.params["model"]}
        return self.network.apply(params, self.label.index(batch, rows))

    def nats(self, variables, batch):
        """Compute -log p(x) per row; u = (x - mean) / std adds the log of its Jacobian."""
        rows = batch["mask"].shape[0]
        state = variables.state
        u = (batch[self.target].reshape(rows, -1) - state["mean"][None]) / state["std"][None]
        mean, log_std = self.moments(variables, batch, rows)
        z = (u - mean) * jnp.exp(-log_std)
        per_value = 0.5 * (jnp.square(z) + math.log(2 * math.pi)) + log_std
        return per_value.sum(-1) + jnp.log(state["std"]).sum()

    def objective(self, variables, batch, keys, *, step):
        return Mean.of(self.nats(variables, batch), batch["mask"]), Aux(variables.state)

    def likelihood(self, variables, batch, keys):
        """Return a Mean per row: its nats, and its number of values."""
        total = jnp.where(batch["mask"] > 0, self.nats(variables, batch), 0.0)
        return Mean(total, self.size * batch["mask"]), {}

    def sample(self, variables, keys, prompt, *, temperature: float = 1.0):
        mean, log_std = self.moments(variables, prompt, keys.shape[0])
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.size,)))(keys)
        u = mean + temperature * jnp.exp(log_std) * noise
        x = u * variables.state["std"][None] + variables.state["mean"][None]
        return {self.target: x.reshape(-1, *self.spec[self.target].shape)}
