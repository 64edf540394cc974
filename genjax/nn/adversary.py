"""Define what makes an autoencoder's images sharp: a patch discriminator and a perceptual distance.

VQ-GAN (Esser et al. 2021, arXiv:2012.09841, sec. 3.1) and the KL autoencoder of latent diffusion (Rombach et
al. 2022, arXiv:2112.10752, app. G) add both to the reconstruction loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, Folder, Natural, NotNegative, Width, check, unused
from genjax.core import Aux, Batch, Mean, Model, Tree, Variables, across
from genjax.errors import ConfigError
from genjax.functional import perceptual, pixels
from genjax.nn.conv import Conv

PLAYER = "discriminator"
LARGEST = 1e4
"""Of the adaptive weight."""


@dataclasses.dataclass(frozen=True)
class Adversary:
    """Configure the adversarial and the perceptual loss.

    Attributes:
      weight: of the adversarial loss, relative to the size of the reconstruction loss's gradient at the
        decoder's last layer; 0 for none.
      start: step from which the adversarial loss counts; the discriminator learns from the first.
      width: channels of the discriminator's first layer, doubled at each further one.
      layers: strided layers of the discriminator: a patch has about 2^(layers + 2) pixels on a side.
      perceptual: weight of the perceptual distance; 0 for none.
      features: the stage whose network measures that distance, a classifier of images.
    """

    weight: NotNegative = 0.0
    start: Natural = 500
    width: Width = 32
    layers: Count = 2
    perceptual: NotNegative = 0.0
    features: Folder = "features"

    def __post_init__(self):
        check(self)
        if not self.weight:
            unused(self, "weight", "start", "width", "layers")
        if not self.perceptual:
            unused(self, "perceptual", "features")

    @property
    def network(self) -> PatchDiscriminator:
        """Return the discriminator."""
        return PatchDiscriminator(self.width, self.layers)

    def logit(self, params: Tree, image: Float[Array, "B H W C"]) -> Float[Array, "B h w 1"]:
        return self.network.apply({"params": params}, image)  # type: ignore[return-value]

    def share(self, step: jax.Array | None) -> jax.Array:
        """Return 1 from the step `start` on (and in evaluation), else 0."""
        return jnp.float32(1.0) if step is None else (step >= self.start).astype(jnp.float32)

    def generator_loss(self, params: Tree, fake: Float[Array, "B H W C"]) -> Float[Array, " B"]:
        """Compute -D(fake) per row; no gradient flows into the discriminator."""
        return -self.logit(jax.lax.stop_gradient(params), fake).mean((1, 2, 3))

    def discriminator_loss(
        self, params: Tree, real: Float[Array, "B H W C"], fake: Float[Array, "B H W C"]
    ) -> Float[Array, " B"]:
        """Compute the hinge loss per row: relu(1 - D(real)) / 2 + relu(1 + D(fake)) / 2 (Lim & Ye 2017)."""
        on_real = nn.relu(1.0 - self.logit(params, real)).mean((1, 2, 3))
        on_fake = nn.relu(1.0 + self.logit(params, jax.lax.stop_gradient(fake))).mean((1, 2, 3))
        return 0.5 * (on_real + on_fake)


class PatchDiscriminator(nn.Module):
    """Map an image in [-1, 1] to a logit for each of its patches.

    The PatchGAN of Isola et al. 2017 (arXiv:1611.07004, app. 6.1). Group normalisation takes the place of
    batch normalisation: a row's logits do not depend on other rows.

    Attributes:
      width: channels of the first layer.
      layers: strided layers.
    """

    width: int
    layers: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w 1"]:
        h = nn.leaky_relu(Conv(self.width, 4, 2, name="in")(x), 0.2)
        for i in range(1, self.layers):
            h = Conv(self.width * 2**i, 4, 2, use_bias=False, name=f"down_{i}")(h)
            h = nn.leaky_relu(nn.GroupNorm(num_groups=1, name=f"norm_{i}")(h), 0.2)
        h = Conv(self.width * 2**self.layers, 3, use_bias=False, name="body")(h)
        h = nn.leaky_relu(nn.GroupNorm(num_groups=1, name="norm")(h), 0.2)
        return Conv(1, 3, name="out")(h)


def adaptive_weight(
    losses: Callable[[Tree], tuple[Mean, Mean]], last: Tree, delta: float = 1e-6
) -> Float[Array, ""]:
    """Return |grad of the reconstruction| / (|grad of the adversarial loss| + delta) (Esser et al., eq. 7).

    Args:
      losses: the parameters of the decoder's last layer -> (reconstruction, adversarial loss). XLA shares the
        forward pass with that of the objective.
      last: these parameters; the gradients are with respect to them.
    """
    norms = []
    for n in (0, 1):
        total = lambda p, n=n: losses(p)[n].total
        count = across(losses(last)[n].count)
        slope = across(jax.grad(total)(last))
        squared = jnp.stack([jnp.square(x).sum() for x in jax.tree.leaves(slope)]).sum()
        norms.append(jnp.sqrt(squared) / jnp.maximum(count, 1.0))
    weight = jnp.clip(norms[0] / (norms[1] + delta), 0.0, LARGEST)
    return jax.lax.stop_gradient(weight)


Decode = Callable[[Tree], tuple[jax.Array, jax.Array]]
"""The parameters of a decoder's last layer -> (reconstruction loss per row, images in [-1, 1])."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sharpener:
    """Apply an Adversary to the images of an autoencoder.

    Attributes:
      config: of the losses.
      predict: of the network that measures the perceptual distance; None without that term.
      name, levels: of the images.
    """

    config: Adversary
    predict: Callable[..., Any] | None
    name: str
    levels: int

    @classmethod
    def of(
        cls, config: Adversary, stages: Mapping[str, Model] | None, name: str, levels: int
    ) -> Sharpener | None:
        """Return the losses of a config; None if it has none.

        Raises:
          ConfigError: the stage that measures the perceptual distance is missing, or is no classifier.
        """
        if config == Adversary():
            return None
        if not config.perceptual:
            return cls(config, None, name, levels)
        stage = (stages or {}).get(config.features)
        if stage is None or stage.predict is None:
            raise ConfigError(
                f"model.adversary.perceptual needs a classifier in stages.{config.features}",
                f'set stages.{config.features} to {{"config": NAME}}, e.g. mnist5k/classifier',
            )
        return cls(config, stage.predict, name, levels)

    @property
    def phases(self) -> dict[str, str]:
        """Return {phase: player} of the discriminator; empty without one."""
        return {"discriminator": PLAYER} if self.config.weight else {}

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Tree]:
        """Return {player: parameters} of the discriminator; empty without one."""
        if not self.config.weight:
            return {}
        return {PLAYER: self.config.network.init(key, self.signed(batch)[:1])["params"]}

    def signed(self, batch: Batch) -> Float[Array, "B H W C"]:
        return pixels.to_signed(batch[self.name], self.levels)

    def distance(
        self, variables: Variables, batch: Batch, image: Float[Array, "B H W C"]
    ) -> Float[Array, " B"]:
        """Compute the perceptual distance of images in [-1, 1] to those of the batch; 0 without that term."""
        if self.predict is None:
            return jnp.zeros(image.shape[0])
        frozen = variables.frozen[self.config.features]
        real = self.predict(frozen, batch)
        if "maps" not in real:
            raise ConfigError(
                f"stages.{self.config.features} has no activations to compare",
                'its model\'s `predict` must return "maps"',
            )
        # The network reads levels, which need not be whole.
        levels = (image + 1.0) * ((self.levels - 1) / 2.0)
        fake = self.predict(frozen, {**batch, self.name: levels})
        return perceptual.distance(jax.lax.stop_gradient(real["maps"]), fake["maps"])

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        decode: Decode,
        last: Tree,
        scale: float,
        step: jax.Array | None,
    ) -> tuple[Float[Array, " B"], dict[str, Mean]]:
        """Return what is added to the reconstruction loss per row, and its metrics.

        Args:
          decode: see Decode.
          last: the parameters of the decoder's last layer.
          scale: factor on the perceptual distance: the dimensions of an image if the loss is a sum over them.
        """
        config = self.config
        mask = batch["mask"]
        critic = variables.params.get(PLAYER)
        _, image = decode(last)
        distance = scale * config.perceptual * self.distance(variables, batch, image)
        metrics = {"perceptual": Mean.of(distance, mask)} if config.perceptual else {}
        if not config.weight:
            return distance, metrics

        def both(p: Tree) -> tuple[Mean, Mean]:
            loss, found = decode(p)
            loss = loss + scale * config.perceptual * self.distance(variables, batch, found)
            return Mean.of(loss, mask), Mean.of(config.generator_loss(critic, found), mask)

        balance = adaptive_weight(both, last)
        loss = config.generator_loss(critic, image)
        metrics["adversarial"] = Mean.of(loss, mask)
        metrics["adaptive_weight"] = Mean.of(jnp.broadcast_to(balance, mask.shape), mask)
        return distance + config.weight * balance * config.share(step) * loss, metrics

    def discriminate(
        self, variables: Variables, batch: Batch, image: Float[Array, "B H W C"]
    ) -> tuple[Mean, Aux]:
        """Return the loss of the discriminator on the images of a batch and their reconstructions."""
        loss = self.config.discriminator_loss(variables.params[PLAYER], self.signed(batch), image)
        return Mean.of(loss, batch["mask"]), Aux(variables.state)


def with_last(network: Tree, last: Tree) -> Tree:
    """Return the parameters of a network with those of its decoder's last layer replaced."""
    return {**network, "decoder": {**network["decoder"], "out": last}}
