"""A small CycleGAN (Zhu et al. 2017, arXiv:1703.10593) between the two domains of `zip:A,B`.

Two generators, two critics, least-squares losses, cycle consistency, and a buffer of earlier translations in
the state, from which half of what the critic of B reads is drawn (Shrivastava et al. 2017, arXiv:1612.07828).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables, across
from genjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a translator.

    Attributes:
      width: of the hidden layers.
      cycle: weight of the cycle-consistency loss.
      buffer: translations kept for the critic.
    """

    width: int = 64
    cycle: float = 10.0
    buffer: int = 16


class Net(nn.Module):
    """Map a flattened image to `outputs` numbers."""

    width: int
    outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "B N"]) -> Float[Array, "B M"]:
        h = nn.leaky_relu(nn.Dense(self.width)(x), 0.2)
        h = nn.leaky_relu(nn.Dense(self.width)(h), 0.2)
        return nn.Dense(self.outputs)(h)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the translator from the image condition to the image target.

    Raises:
      ConfigError: the data has not one condition and one target, both quantised.
    """
    if len(spec.conditions) != 1 or len(spec.targets) != 1:
        raise ConfigError("translator needs one condition and one target", "choose data zip:A,B")
    m = _Translator(config, spec, spec.conditions[0], spec.targets[0])
    return Model(
        init=m.init,
        phases={
            "generators": Phase("generators", m.generate),
            "critics": Phase("critics", m.criticise, rowwise=False),
        },
        sample=m.sample,
        deterministic=True,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Translator:
    config: Config
    spec: Spec
    source: str
    target: str

    def size(self, name: str) -> int:
        return math.prod(self.spec[name].shape)

    def net(self, kind: str, name: str) -> Net:
        """Return the generator of, or the critic of, domain `name`."""
        return Net(self.config.width, self.size(name) if kind == "to" else 1)

    def read(self, batch: Mapping[str, Any], name: str) -> Float[Array, "B N"]:
        """Return flattened images in [-1, 1]."""
        x = batch[name].astype(jnp.float32).reshape(batch[name].shape[0], -1)
        return 2.0 * x / ((self.spec[name].levels or 2) - 1) - 1.0

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        keys = jax.random.split(key, 4)
        a, b = jnp.zeros((1, self.size(self.source))), jnp.zeros((1, self.size(self.target)))
        params = {
            "generators": {
                "to_target": self.net("to", self.target).init(keys[0], a)["params"],
                "to_source": self.net("to", self.source).init(keys[1], b)["params"],
            },
            "critics": {
                "of_target": self.net("of", self.target).init(keys[2], b)["params"],
                "of_source": self.net("of", self.source).init(keys[3], a)["params"],
            },
        }
        state = {"buffer": jnp.zeros((self.config.buffer, self.size(self.target))), "seen": jnp.int32(0)}
        return Variables(params, state, frozen=frozen)

    def translate(self, v: Variables, x: Array, name: str) -> Array:
        to = "to_target" if name == self.target else "to_source"
        return jnp.tanh(self.net("to", name).apply({"params": v.params["generators"][to]}, x))

    def critic(self, v: Variables, x: Array, name: str) -> Float[Array, " B"]:
        of = "of_target" if name == self.target else "of_source"
        return self.net("of", name).apply({"params": v.params["critics"][of]}, x)[:, 0]

    def generate(self, v: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        a, b = self.read(batch, self.source), self.read(batch, self.target)
        fake_b, fake_a = self.translate(v, a, self.target), self.translate(v, b, self.source)
        adversarial = jnp.square(self.critic(v, fake_b, self.target) - 1.0)
        adversarial += jnp.square(self.critic(v, fake_a, self.source) - 1.0)
        cycle = jnp.abs(self.translate(v, fake_b, self.source) - a).mean(-1)
        cycle += jnp.abs(self.translate(v, fake_a, self.target) - b).mean(-1)
        metrics = {"cycle": Mean.of(cycle, batch["mask"])}
        return Mean.of(adversarial + self.config.cycle * cycle, batch["mask"]), Aux(v.state, metrics)

    def criticise(self, v: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        a, b = self.read(batch, self.source), self.read(batch, self.target)
        fake_b = jax.lax.stop_gradient(self.translate(v, a, self.target))
        fake_a = jax.lax.stop_gradient(self.translate(v, b, self.source))
        shown = fake_b if step is None else self.mixed(v.state, fake_b, keys)
        loss = jnp.square(self.critic(v, b, self.target) - 1.0) + jnp.square(
            self.critic(v, shown, self.target)
        )
        loss += jnp.square(self.critic(v, a, self.source) - 1.0)
        loss += jnp.square(self.critic(v, fake_a, self.source))
        state = v.state if step is None else self.remembered(v.state, fake_b)
        return Mean.of(loss, batch["mask"]), Aux(state)

    def mixed(self, state: dict[str, Array], fake: Array, keys: Keys) -> Array:
        """Replace each translation by one of the buffer with probability 1/2, once the buffer is full."""
        place = jax.vmap(lambda key: jax.random.randint(key, (), 0, self.config.buffer))(keys)
        old = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1)))(keys)
        old &= state["seen"] >= self.config.buffer
        return jnp.where(old[:, None], state["buffer"][place], fake)

    def remembered(self, state: dict[str, Array], fake: Array) -> dict[str, Array]:
        """Write the first translations of the global batch over the oldest of the buffer."""
        # Under pmap a device sees its own rows only; under jit `across` changes nothing.
        fake = across(fake, functools.partial(jax.lax.all_gather, tiled=True))
        few = min(len(fake), self.config.buffer)
        place = (state["seen"] + jnp.arange(few)) % self.config.buffer
        return {"buffer": state["buffer"].at[place].set(fake[:few]), "seen": state["seen"] + few}

    def sample(self, v: Variables, keys: Keys, prompt: Batch) -> Batch:
        x = self.translate(v, self.read(prompt, self.source), self.target)
        element = self.spec[self.target]
        value = jnp.round((x + 1.0) / 2.0 * ((element.levels or 2) - 1))
        return {self.target: value.reshape(-1, *element.shape).astype(element.dtype)}
