"""Super-resolution: the large image of a small one, by regression or, with an adversary, as a GAN.

Regression (Lim et al. 2017, EDSR, arXiv:1707.02921) minimises the error and blurs. `adversary` adds an
adversarial and a perceptual loss as SRGAN has them (Ledig et al. 2017, arXiv:1609.04802), with a critic of
patches: images are sharper, and the error is larger (Blau & Michaeli 2018, arXiv:1711.06077). The data has a
small image as condition and a large one as target (data.downsample).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Natural, Width, check, unused
from genjax.core import Aux, Batch, Element, Keys, Mean, Model, Phase, Spec, Tree, Variables
from genjax.errors import ConfigError
from genjax.functional import pixels
from genjax.nn.adversary import Adversary, Sharpener, with_last
from genjax.nn.translators import Enlarger, bicubic
from genjax.views import domains

PLAYER = "enlarger"


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure super-resolution.

    Attributes:
      network: "residual", or "bicubic" for plain interpolation, which learns nothing.
      width: channels.
      blocks: residual blocks.
      loss: "absolute" error, or "squared".
      adversary: the adversarial and the perceptual loss; neither by default.
    """

    network: Literal["residual", "bicubic"] = "residual"
    width: Width = 32
    blocks: Natural = 4
    loss: Literal["absolute", "squared"] = "absolute"
    adversary: Adversary = dataclasses.field(default_factory=Adversary)

    def __post_init__(self):
        check(self)
        if self.network == "bicubic":
            unused(self, "network", "width", "blocks")
            if self.adversary != Adversary():
                raise ValueError("adversary has no effect on network='bicubic'")


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first target image, given its first condition that is an image.

    Raises:
      ConfigError: the data has no such images, or the sides of one are not multiples of the other's.
    """
    source, target = domains.pair(spec, "superres", "set data.downsample=2 (or 4) on images without it")
    small, large = spec[source].shape, spec[target].shape
    factor = (large[0] or 0) // (small[0] or 1)
    if factor < 1 or large != (small[0] * factor, small[1] * factor, small[2]):  # type: ignore[operator]
        raise ConfigError(
            f"superres: {source} {small} is not {target} {large} at a fraction of its size",
            "set data.downsample",
        )
    network = Enlarger(large[2] or 0, factor, config.width, config.blocks)
    sharpener = Sharpener.of(config.adversary, stages, target, spec[target].levels or 0)
    m = _SuperResolution(config, source, target, spec[source], spec[target], factor, network, sharpener)
    phases = {"error": Phase(PLAYER, m.objective, rowwise=not config.adversary.weight)}
    if sharpener is not None:
        phases |= {phase: Phase(player, m.discriminate) for phase, player in sharpener.phases.items()}
    return Model(init=m.init, phases=phases, sample=m.sample, deterministic=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _SuperResolution:
    """Implement the contract on two images."""

    config: Config
    source: str
    target: str
    small: Element
    large: Element
    factor: int
    network: Enlarger
    sharpener: Sharpener | None

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        network = {}
        if self.config.network == "residual":
            network = self.network.init(key, self.read(batch)[:1])["params"]
        # `decoder` is what an adversary expects around the last layer.
        players = {PLAYER: {"decoder": network}}
        if self.sharpener is not None:
            players |= self.sharpener.init(jax.random.fold_in(key, 1), batch)
        return Variables(players, {}, frozen=frozen)

    def read(self, batch: Batch) -> Float[Array, "B h w C"]:
        return pixels.to_signed(batch[self.source], self.small.levels or 2)

    def enlarge(self, network: Tree, batch: Batch) -> Float[Array, "B H W C"]:
        """Return large images in [-1, 1], not clipped."""
        if self.config.network == "bicubic":
            return bicubic(self.read(batch), self.factor)
        return self.network.apply({"params": network["decoder"]}, self.read(batch))  # type: ignore[return-value]

    def error(self, image: Float[Array, "B H W C"], batch: Batch) -> Float[Array, " B"]:
        """Compute the mean error per row, of values in [-1, 1]."""
        gap = image - pixels.to_signed(batch[self.target], self.large.levels or 2)
        each = jnp.abs(gap) if self.config.loss == "absolute" else jnp.square(gap)
        return each.reshape(each.shape[0], -1).mean(-1)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        del keys
        mask = batch["mask"]
        network = variables.params[PLAYER]
        error = self.error(self.enlarge(network, batch), batch)
        metrics = {self.config.loss: Mean.of(error, mask)}
        if self.sharpener is None:
            return Mean.of(error, mask), Aux(variables.state, metrics)

        def decode(last: Tree) -> tuple[jax.Array, jax.Array]:
            image = self.enlarge(with_last(network, last), batch)
            return self.error(image, batch), image

        extra, more = self.sharpener.loss(variables, batch, decode, network["decoder"]["out"], 1.0, step)
        return Mean.of(error + extra, mask), Aux(variables.state, {**metrics, **more})

    def discriminate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the loss of the discriminator that tells real images from enlarged ones."""
        del keys, step
        assert self.sharpener is not None
        return self.sharpener.discriminate(variables, batch, self.enlarge(variables.params[PLAYER], batch))

    def sample(self, variables: Variables, keys: Keys, prompt: Batch) -> Batch:
        """Return the large images of the small ones in the prompt."""
        del keys
        image: Any = self.enlarge(variables.params[PLAYER], prompt)
        return {self.target: pixels.from_signed(image, self.large.levels or 2)}
