"""DCGAN (Radford et al. 2016, arXiv:1511.06434): two convolutional players and the non-saturating loss.

Goodfellow et al. 2014 (arXiv:1406.2661) for the losses, Mescheder et al. 2018 (arXiv:1801.04406) for R1,
Miyato & Koyama 2018 (arXiv:1802.05637) for the projection discriminator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, NotNegative, Range, Width, check
from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import pixels
from genjax.functional.noise import normal
from genjax.nn.conditions import ClassLabel
from genjax.nn.conv import BatchNorm, Conv, halvings

GENERATOR = "generator"
DISCRIMINATOR = "discriminator"
Norm = Literal["none", "batch", "group"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a DCGAN.

    Attributes:
      latent: dimensions of z.
      width: channels at the full resolution, doubled at each halving.
      kernel: side of the strided convolutions; an even number leaves no checkerboard.
      generator_norm, discriminator_norm: batch statistics look across rows, so that accumulated or
        sharded steps differ from whole ones; the other two do not.
      r1: gamma, the weight of the gradient penalty on real images; 0 for none.
      r1_interval: steps between penalties, each weighted by this number (Karras et al. 2020, sec. 3.1).
      conditional: both players read the label if the data has one.
    """

    latent: Width = 64
    width: Width = 32
    kernel: Annotated[int, Range(least=2, most=1024)] = 4
    generator_norm: Norm = "batch"
    discriminator_norm: Norm = "none"
    r1: NotNegative = 0.0
    r1_interval: Count = 1
    conditional: bool = True

    def __post_init__(self):
        check(self)
        if "group" in (self.generator_norm, self.discriminator_norm) and self.width % 8:
            raise ValueError(f"group norm has groups of 8 channels: width={self.width} is no multiple of 8")


class Normalise(nn.Module):
    """Apply the normalisation of this kind, or none."""

    kind: Norm

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"], train: bool) -> Float[Array, "*B C"]:
        if self.kind == "batch":
            return BatchNorm(name="batch")(x, train)
        if self.kind == "group":
            return nn.GroupNorm(num_groups=None, group_size=8, name="group")(x)
        return x


class Generator(nn.Module):
    """Map (z, condition) to an image in [-1, 1]."""

    config: Config
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B H W C"]:
        c = self.config
        H, W, C = self.shape
        n = halvings(H, W)
        bias = c.generator_norm == "none"
        size = (H // 2**n, W // 2**n, c.width * 2**n)
        h = jnp.concatenate([z, condition], -1)
        h = nn.Dense(size[0] * size[1] * size[2], use_bias=bias, kernel_init=he, name="in")(h)
        h = nn.relu(Normalise(c.generator_norm, name="norm_in")(h.reshape(-1, *size), train))
        for i in reversed(range(n)):
            h = Conv(
                c.width * 2**i, c.kernel, 2, transpose=True, use_bias=bias, kernel_init=he, name=f"up_{i}"
            )(h)
            h = nn.relu(Normalise(c.generator_norm, name=f"norm_{i}")(h, train))
        return jnp.tanh(Conv(C, name="out")(h))


class Discriminator(nn.Module):
    """Map (image in [-1, 1], condition) to the logit of being real."""

    config: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, " B"]:
        c = self.config
        h = leaky(Conv(c.width, kernel_init=he, name="in")(x))
        for i in range(halvings(*x.shape[1:3])):
            bias = c.discriminator_norm == "none"
            h = Conv(c.width * 2 ** (i + 1), c.kernel, 2, use_bias=bias, kernel_init=he, name=f"down_{i}")(h)
            h = leaky(Normalise(c.discriminator_norm, name=f"norm_{i}")(h, train))
        h = h.reshape(h.shape[0], -1)
        logit = nn.Dense(1, name="out")(h)[:, 0]
        if condition.shape[-1]:  # the projection: an inner product with the class's own direction
            logit = logit + (h * nn.Dense(h.shape[-1], use_bias=False, name="class")(condition)).sum(-1)
        return logit


he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


def leaky(x: jax.Array) -> jax.Array:
    """Compute the leaky ReLU of slope 0.2 (Radford et al. 2016, sec. 3)."""
    return nn.leaky_relu(x, 0.2)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the two players: phases "discriminator", then "r1" if r1 > 0, then "generator".

    Capability: sample. Keep an average of the "generator" to sample from.

    Raises:
      ConfigError: the data has no images of whole levels, or images too small to be halved.
    """
    del stages
    name = pixels.quantised_image(spec, "gan")
    height, width, channels = spec[name].shape
    if not halvings(height, width):
        raise ConfigError(f"gan: images of {height}x{width} cannot be halved", "crop or resize the data")
    generator = Generator(config, (height, width, channels))
    label = ClassLabel.of(spec, config.conditional)
    m = _GAN(config, name, spec[name].levels or 0, label, generator, Discriminator(config))
    return Model(init=m.init, phases=m.phases(), sample=m.sample)


@dataclasses.dataclass(frozen=True, eq=False)
class _GAN:
    """Implement the contract on the element `name`."""

    config: Config
    name: str
    levels: int
    label: ClassLabel
    generator: Generator
    discriminator: Discriminator

    def phases(self) -> dict[str, Phase]:
        """Return the updates of a step in their order. Batch normalisation looks across rows."""
        c = self.config
        rowwise = c.generator_norm != "batch" and c.discriminator_norm != "batch"
        phases = {"discriminator": Phase(DISCRIMINATOR, self.discriminate, rowwise=rowwise)}
        if c.r1:
            alone = c.discriminator_norm != "batch"
            phases["r1"] = Phase(DISCRIMINATOR, self.penalise, interval=c.r1_interval, rowwise=alone)
        phases["generator"] = Phase(GENERATOR, self.generate, rowwise=rowwise)
        return phases

    def apply(
        self, variables: Variables, player: str, x: jax.Array, y: jax.Array, train: bool = False
    ) -> tuple[jax.Array, Any]:
        """Return the output of a player's network, and the next state."""
        network = self.generator if player == GENERATOR else self.discriminator
        tree = {"params": variables.params[player], "batch_stats": variables.state[player]}
        if not train:
            return network.apply(tree, x, y, False), variables.state  # type: ignore[return-value]
        out, new = network.apply(tree, x, y, True, mutable=["batch_stats"])
        return out, {**variables.state, player: new.get("batch_stats", {})}

    def signed(self, batch: Batch) -> Float[Array, "B H W C"]:
        """Return the real images in [-1, 1]."""
        return pixels.to_signed(batch[self.name], self.levels)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        image = self.signed(batch)
        z = jnp.zeros((image.shape[0], self.config.latent))
        y = self.label.one_hot(batch, image.shape[0])
        made = {
            GENERATOR: self.generator.init(jax.random.fold_in(key, 0), z, y, False),
            DISCRIMINATOR: self.discriminator.init(jax.random.fold_in(key, 1), image, y, False),
        }
        return Variables(
            params={player: tree["params"] for player, tree in made.items()},
            state={player: tree.get("batch_stats", {}) for player, tree in made.items()},
            frozen=frozen,
        )

    def fake(
        self, variables: Variables, batch: Batch, keys: Keys, train: bool
    ) -> tuple[jax.Array, jax.Array, Any]:
        """Generate an image for the label of each row; return (images, condition, next state)."""
        y = self.label.one_hot(batch, keys.shape[0])
        x, state = self.apply(variables, GENERATOR, normal(keys, (self.config.latent,)), y, train)
        return x, y, state

    def discriminate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute -log D(x) - log(1 - D(G(z))) per row (Goodfellow et al. 2014, eq. 1)."""
        train = step is not None
        mask = batch["mask"]
        x, y, _ = self.fake(variables, batch, keys, train)
        real, state = self.apply(variables, DISCRIMINATOR, self.signed(batch), y, train)
        # Fake and real images have statistics of their own; those of the real ones are kept.
        false, _ = self.apply(variables, DISCRIMINATOR, jax.lax.stop_gradient(x), y, train)
        # With logit a, -log sigmoid(a) = softplus(-a) and -log(1 - sigmoid(a)) = softplus(a).
        loss = jax.nn.softplus(-real) + jax.nn.softplus(false)
        right = {
            "real_accuracy": Mean.of((real > 0).astype(loss.dtype), mask),
            "fake_accuracy": Mean.of((false < 0).astype(loss.dtype), mask),
        }
        return Mean.of(loss, mask), Aux(state, right)

    def penalise(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute gamma / 2 times the squared gradient at real images (Mescheder et al. 2018, eq. 9)."""
        image = self.signed(batch)
        y = self.label.one_hot(batch, image.shape[0])
        train = step is not None
        slope = jax.grad(lambda x: self.apply(variables, DISCRIMINATOR, x, y, train)[0].sum())(image)
        squared = jnp.square(slope).sum((1, 2, 3))
        # A penalty that is due every r1_interval steps has that many times the weight.
        weight = 0.5 * self.config.r1 * self.config.r1_interval
        metrics = {"squared_gradient": Mean.of(squared, batch["mask"])}
        return Mean.of(weight * squared, batch["mask"]), Aux(variables.state, metrics)

    def generate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute the non-saturating loss -log D(G(z)) per row (Goodfellow et al. 2014, section 3)."""
        train = step is not None
        x, y, state = self.fake(variables, batch, keys, train)
        false, _ = self.apply(variables, DISCRIMINATOR, x, y, train)
        return Mean.of(jax.nn.softplus(-false), batch["mask"]), Aux(state)

    def sample(
        self, variables: Variables, keys: Keys, prompt: Batch, *, temperature: NotNegative = 1.0
    ) -> Batch:
        """Draw images; labels that are not given are random.

        Args:
          temperature: standard deviation of z.
        """
        label = self.label.drawn(prompt, keys)
        z = temperature * normal(keys, (self.config.latent,))
        x, _ = self.apply(variables, GENERATOR, z, self.label.one_hot(label, keys.shape[0]))
        return {self.name: pixels.from_signed(x, self.levels), **label}
