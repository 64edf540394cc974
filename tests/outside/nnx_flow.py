"""Flow matching (Lipman et al. 2023, arXiv:2210.02747) on small images; the network is a Flax NNX module."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from genjax.config import Count, NotNegative, Rate, Width
from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional.noise import fold, normal, uniform
from genjax.nn import conditions
from genjax.nn.conditions import ClassLabel

FREQUENCIES = 8
"""Of the sines and cosines by which the network reads the time."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a flow.

    Attributes:
      width, blocks: of the residual network.
      label_dropout: fraction of the training rows that are trained without their class, for guidance.
    """

    width: Width = 256
    blocks: Count = 3
    label_dropout: Rate = 0.1


# --8<-- [start:network]
class Statistic(nnx.Variable):
    """Hold numbers that are fitted on real rows and not learned by gradient."""


class Block(nnx.Module):
    """Add Linear, SiLU, Linear of LayerNorm(x + condition)."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        return x + self.down(nnx.silu(self.up(self.norm(x + condition))))


class Velocity(nnx.Module):
    """Map a point (B, D) at time t (B) with a class (B) to its velocity (B, D)."""

    def __init__(self, config: Config, size: int, classes: int, rngs: nnx.Rngs):
        self.time = nnx.Linear(2 * FREQUENCIES, config.width, rngs=rngs)
        self.label = nnx.Embed(classes + 1, config.width, rngs=rngs)
        self.read = nnx.Linear(size, config.width, rngs=rngs)
        self.blocks = nnx.List([Block(config.width, rngs) for _ in range(config.blocks)])
        self.write = nnx.Linear(config.width, size, rngs=rngs)
        self.mean = Statistic(jnp.zeros(size))
        self.std = Statistic(jnp.ones(size))

    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        angles = t[:, None] * math.pi * 2.0 ** jnp.arange(FREQUENCIES)[None]
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        condition = self.time(waves) + self.label(label)
        h = self.read(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.write(h)

    def normalise(self, x: jax.Array) -> jax.Array:
        """Return values with the fitted mean 0 and standard deviation 1."""
        return (x - self.mean[...][None]) / self.std[...][None]

    def restore(self, u: jax.Array) -> jax.Array:
        """Undo `normalise`."""
        return u * self.std[...][None] + self.mean[...][None]


# --8<-- [end:network]


def build(config: Config, spec: Spec, stages: Any = None) -> Model:
    """Build the flow of the first target of a spec.

    Raises:
      ConfigError: the target has no levels.
    """
    if not spec[spec.targets[0]].levels:
        raise ConfigError("nnx_flow needs a target with levels", "choose quantised images")
    m = _Flow(config, spec, spec.targets[0], ClassLabel.of(spec))
    return Model(init=m.init, phases={"flow": Phase("flow", m.objective)}, fit=m.fit, sample=m.sample)


@dataclasses.dataclass(frozen=True, eq=False)
class _Flow:
    """Implement the contract."""

    config: Config
    spec: Spec
    target: str
    label: ClassLabel

    @property
    def size(self) -> int:
        return math.prod(self.spec[self.target].shape)

    # --8<-- [start:bridge]
    def create(self, key: jax.Array) -> Velocity:
        return Velocity(self.config, self.size, self.label.classes, nnx.Rngs(key))

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        """Split a new network into what gradients learn and the rest, as plain dictionaries."""
        _, params, rest = nnx.split(self.create(key), nnx.Param, ...)
        return Variables({"flow": nnx.to_pure_dict(params)}, nnx.to_pure_dict(rest), frozen=frozen)

    def network(self, variables: Variables) -> Velocity:
        """Merge the form of the network with the values of these variables."""
        abstract = nnx.eval_shape(lambda: self.create(jax.random.key(0)))
        form, _, _ = nnx.split(abstract, nnx.Param, ...)
        return nnx.merge(form, variables.params["flow"], variables.state)

    # --8<-- [end:bridge]

    def values(self, batch: Batch) -> jax.Array:
        """Return the levels of a batch as float32 rows (B, D)."""
        return batch[self.target].reshape(batch["mask"].shape[0], -1).astype(jnp.float32)

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Fit mean and standard deviation of each value on real rows."""
        weight = (batch["mask"] / batch["mask"].sum())[:, None]
        x = self.values(batch)
        mean = (weight * x).sum(0)
        std = jnp.sqrt((weight * jnp.square(x - mean[None])).sum(0))
        # A pixel that is always black would be divided by zero.
        return variables.replace(state={"mean": mean, "std": jnp.maximum(std, 1.0)})

    def objective(self, variables: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        network = self.network(variables)
        target = network.normalise(self.values(batch))
        noise = normal(keys, target.shape[1:])
        t = uniform(fold(keys, 1))
        label = self.label.index(batch, t.shape[0])
        if step is not None:
            label = conditions.hidden(fold(keys, 2), label, self.config.label_dropout)
        x = (1 - t)[:, None] * noise + t[:, None] * target
        velocity = network(x, t, conditions.slots(label, self.label.classes))
        error = jnp.square(velocity - (target - noise)).mean(-1)
        return Mean.of(error, batch["mask"]), Aux(variables.state)

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        steps: Count = 25,
        guidance: NotNegative = 1.5,
    ) -> Batch:
        """Integrate the velocity from noise with Euler's method.

        Args:
          steps: of the integration.
          guidance: 1 for the class-conditional velocity alone; larger values extrapolate from the
            unconditional one (Ho & Salimans 2022, arXiv:2207.12598).
        """
        network = self.network(variables)
        label = self.label.index(prompt, keys.shape[0])
        given = conditions.slots(label, self.label.classes)
        null = jnp.full_like(given, self.label.classes)

        def euler(x: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            time = jnp.full(x.shape[:1], t)
            free = network(x, time, null)
            return x + (free + guidance * (network(x, time, given) - free)) / steps, None

        x, _ = jax.lax.scan(euler, normal(keys, (self.size,)), jnp.arange(steps) / steps)
        element = self.spec[self.target]
        levels = jnp.clip(jnp.round(network.restore(x)), 0, (element.levels or 2) - 1)
        image = levels.reshape(-1, *element.shape).astype(element.dtype)
        return {self.target: image, **self.label.given(prompt)}
