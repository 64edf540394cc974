"""DCGAN (Radford et al. 2016, arXiv:1511.06434): two convolutional players and the non-saturating loss.

Goodfellow et al. 2014 (arXiv:1406.2661) for the losses, Mescheder et al. 2018 (arXiv:1801.04406) for R1,
Miyato & Koyama 2018 (arXiv:1802.05637) for the projection discriminator.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import pixels
from genjax.nn.conv import BatchNorm, Conv, halvings
from genjax.nn.mlp import one_hot

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
Norm = Literal["none", "batch", "group"]


@dataclasses.dataclass(frozen=True)
class Config:
    """A DCGAN.

    Attributes:
      latent: dimensions of z.
      width: channels at the full resolution, doubled at each halving.
      kernel: side of the strided convolutions; a multiple of 2 leaves no checkerboard.
      generator_norm, discriminator_norm: batch statistics look across rows, so that accumulated or
        sharded steps differ from whole ones; the other two do not.
      r1: gamma, the weight of the gradient penalty on real images; 0 for none.
      r1_interval: steps between penalties, each so many times as heavy (Karras et al. 2020, sec. 3.1).
      conditional: both players read the label, where the data has one.
    """

    latent: int = 64
    width: int = 32
    kernel: int = 4
    generator_norm: Norm = "batch"
    discriminator_norm: Norm = "none"
    r1: float = 0.0
    r1_interval: int = 1
    conditional: bool = True

    def __post_init__(self):
        if min(self.latent, self.width, self.r1_interval) < 1 or self.kernel < 2:
            raise ValueError("latent, width and r1_interval must be at least 1, kernel at least 2")
        if "group" in (self.generator_norm, self.discriminator_norm) and self.width % 8:
            raise ValueError(f"group norm has groups of 8 channels: width={self.width} is no multiple of 8")


class Normalise(nn.Module):
    """The norm of this kind, or nothing."""

    kind: Norm

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"], train: bool) -> Float[Array, "*B C"]:
        if self.kind == "batch":
            return BatchNorm(name="batch")(x, train)
        if self.kind == "group":
            return nn.GroupNorm(num_groups=None, group_size=8, name="group")(x)
        return x


class Generator(nn.Module):
    """(z, condition) -> image in [-1, 1]."""

    config: Config
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(
        self, z: Float[Array, "B Z"], condition: Float[Array, "B K"], train: bool
    ) -> Float[Array, "B H W C"]:
        c, (H, W, C) = self.config, self.shape
        n, bias = halvings(H, W), c.generator_norm == "none"
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
    """(image in [-1, 1], condition) -> logit of being real."""

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
    """Leaky ReLU of slope 0.2 (Radford et al. 2016, sec. 3)."""
    return nn.leaky_relu(x, 0.2)


def build(config: Config, spec: Spec, stages: dict[str, Any] | None = None) -> Model:
    """The two players: phases "discriminator", then "r1" where it is asked for, then "generator".

    Capabilities: sample (knob `temperature` scales z). Keep an average of the "generator" to sample from.

    Raises:
      ConfigError: the data has no images of whole levels, or too small ones to be halved.
    """
    if "image" not in spec or not spec["image"].levels:
        raise ConfigError(f"gan needs images of whole levels; the data has {sorted(spec.elements)}")
    shape, levels = spec["image"].shape, spec["image"].levels or 0
    if not halvings(*shape[:2]):
        raise ConfigError(f"gan: images of {shape[0]}x{shape[1]} cannot be halved", "crop or resize the data")
    classes = spec.classes() if config.conditional else 0
    nets = {GENERATOR: Generator(config, shape), DISCRIMINATOR: Discriminator(config)}  # type: ignore
    whole = config.generator_norm != "batch", config.discriminator_norm != "batch"

    def run(
        variables: Variables, player: str, x: jax.Array, y: jax.Array, train: bool = False
    ) -> tuple[jax.Array, Any]:
        """(output, next state)"""
        tree = {"params": variables.params[player], "batch_stats": variables.state[player]}
        if not train:
            return nets[player].apply(tree, x, y, False), variables.state
        out, new = nets[player].apply(tree, x, y, True, mutable=["batch_stats"])
        return out, {**variables.state, player: new.get("batch_stats", {})}

    def condition(batch: Batch, rows: int) -> jax.Array:
        return one_hot(batch["label"], classes) if classes else jnp.zeros((rows, 0), jnp.float32)

    def init(key: jax.Array, batch: Batch, frozen: Any) -> Variables:
        image = pixels.to_signed(batch["image"], levels)
        y = condition(batch, image.shape[0])
        inputs = {GENERATOR: jnp.zeros((image.shape[0], config.latent)), DISCRIMINATOR: image}
        made = {
            p: nets[p].init(jax.random.fold_in(key, n), inputs[p], y, False) for n, p in enumerate(inputs)
        }
        return Variables(
            params={p: w["params"] for p, w in made.items()},
            state={p: w.get("batch_stats", {}) for p, w in made.items()},
            frozen=frozen,
        )

    def fake(variables: Variables, batch: Batch, keys: Keys, train: bool) -> tuple[jax.Array, jax.Array, Any]:
        """(images, condition, next state): drawn for the labels of the batch's own rows."""
        y = condition(batch, keys.shape[0])
        x, state = run(variables, GENERATOR, _normal(keys, config.latent), y, train)
        return x, y, state

    def discriminate(variables: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        train, mask = step is not None, batch["mask"]
        x, y, _ = fake(variables, batch, keys, train)
        real, state = run(variables, DISCRIMINATOR, pixels.to_signed(batch["image"], levels), y, train)
        # Fake and real images have statistics of their own; those of the real ones are kept.
        false, _ = run(variables, DISCRIMINATOR, jax.lax.stop_gradient(x), y, train)
        loss = jax.nn.softplus(-real) + jax.nn.softplus(false)
        right = {
            "real_accuracy": Mean.of((real > 0).astype(loss.dtype), mask),
            "fake_accuracy": Mean.of((false < 0).astype(loss.dtype), mask),
        }
        return Mean.of(loss, mask), Aux(state, right)

    def penalise(variables: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        image, train = pixels.to_signed(batch["image"], levels), step is not None
        y = condition(batch, image.shape[0])
        slope = jax.grad(lambda x: run(variables, DISCRIMINATOR, x, y, train)[0].sum())(image)
        squared = jnp.square(slope).sum((1, 2, 3))
        weight = 0.5 * config.r1 * config.r1_interval
        metrics = {"squared_gradient": Mean.of(squared, batch["mask"])}
        return Mean.of(weight * squared, batch["mask"]), Aux(variables.state, metrics)

    def generate(variables: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        train = step is not None
        x, y, state = fake(variables, batch, keys, train)
        false, _ = run(variables, DISCRIMINATOR, x, y, train)
        return Mean.of(jax.nn.softplus(-false), batch["mask"]), Aux(state)

    def sample(variables: Variables, keys: Keys, prompt: Batch, *, temperature: float = 1.0) -> Batch:
        out = {}
        if classes:
            drawn = lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, classes)
            out["label"] = jnp.asarray(
                prompt["label"] if "label" in prompt else jax.vmap(drawn)(keys), jnp.int32
            )
        z = temperature * _normal(keys, config.latent)
        x, _ = run(variables, GENERATOR, z, condition(out, keys.shape[0]))
        return {"image": pixels.from_signed(x, levels), **out}

    phases = {"discriminator": Phase(DISCRIMINATOR, discriminate, rowwise=all(whole))}
    if config.r1:
        phases["r1"] = Phase(DISCRIMINATOR, penalise, interval=config.r1_interval, rowwise=whole[1])
    phases["generator"] = Phase(GENERATOR, generate, rowwise=all(whole))
    return Model(init=init, phases=phases, sample=sample)


def _normal(keys: Keys, size: int) -> Float[Array, "B size"]:
    """Standard normal noise: row i is a function of key i alone."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys)
