"""Image-to-image translation: CycleGAN for unpaired domains, pix2pix for pairs.

CycleGAN (Zhu et al. 2017, arXiv:1703.10593) has a generator in each direction and a critic of each domain.
Translating there and back must return the image, and an image of the target domain should stay as it is.
pix2pix (Isola et al. 2017, arXiv:1611.07004) has one generator and a critic that sees the source beside the
target, and pays for the distance to the true target.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Count, Natural, NotNegative, Width, check, unused
from genjax.core import (
    Aux,
    Batch,
    Element,
    Keys,
    Mean,
    Model,
    Phase,
    Spec,
    Tree,
    Variables,
    gathered,
    own,
)
from genjax.errors import ConfigError
from genjax.functional import adversarial, pixels
from genjax.functional.adversarial import Loss
from genjax.functional.noise import fold
from genjax.functional.pool import Pool, exchanged
from genjax.nn.adversary import PatchDiscriminator
from genjax.nn.translators import ResidualGenerator, UNetGenerator
from genjax.views import domains

GENERATOR = "generator"
CRITIC = "critic"
THERE = "there"
"""The direction from source to target."""
BACK = "back"
"""The direction from target to source."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a translation of images.

    Attributes:
      kind: "cycle" (CycleGAN) or "pairs" (pix2pix).
      network: of the generators, "residual" or "unet".
      width: of the generators (nn/translators.py).
      halvings: of the generators.
      blocks: residual blocks of network="residual".
      critic_width, critic_layers: of the patch critics: see PatchDiscriminator.
      loss: adversarial (functional/adversarial.py).
      cycle: weight of the absolute error of translating there and back ("cycle").
      identity: weight of the absolute change of images that are in the target domain already ("cycle"), as a
        share of `cycle`; only where both domains have the same channels.
      distance: weight of the absolute error to the true target ("pairs").
      buffer: generated images that are kept for the critics ("cycle"); 0 for none (functional/pool.py).
    """

    kind: Literal["cycle", "pairs"] = "cycle"
    network: Literal["residual", "unet"] = "residual"
    width: Width = 32
    halvings: Count = 2
    blocks: Natural = 4
    critic_width: Width = 32
    critic_layers: Count = 2
    loss: Loss = "least_squares"
    cycle: NotNegative = 10.0
    identity: NotNegative = 0.5
    distance: NotNegative = 100.0
    buffer: Natural = 50

    def __post_init__(self):
        check(self)
        unused(self, "kind", *(("distance",) if self.kind == "cycle" else ("cycle", "identity", "buffer")))
        if self.network == "unet":
            unused(self, "network", "blocks")

    def generator(self, channels: int) -> nn.Module:
        """Return a generator of images with so many channels."""
        if self.network == "unet":
            return UNetGenerator(channels, self.width, self.halvings)
        return ResidualGenerator(channels, self.width, self.halvings, self.blocks)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the translation of the spec's first condition that is an image to its first target image.

    Raises:
      ConfigError: the data has no such images, they differ in size, they cannot be halved as often as
        `config.halvings` says, or pix2pix is asked to learn from unpaired rows.
    """
    del stages
    hint = "choose data of two domains, such as emoji_styles or zip:A,B"
    source, target = domains.pair(spec, "translation", hint)
    elements = {THERE: spec[target], BACK: spec[source]}
    height, width = (spec[target].shape[i] or 0 for i in (0, 1))
    if spec[source].shape[:2] != (height, width):
        raise ConfigError(
            f"translation: {source} {spec[source].shape} and {target} {spec[target].shape} differ in size",
            "choose domains of one size; data.size resizes the images of folders",
        )
    if height % 2**config.halvings or width % 2**config.halvings:
        raise ConfigError(
            f"model.halvings={config.halvings}: images of {height}x{width} cannot be halved so often",
            "give fewer",
        )
    if config.network == "residual" and height * width < 2 * 4**config.halvings:
        raise ConfigError(
            f"model.halvings={config.halvings}: the smallest map has one pixel, and its norm would be zero",
            "give fewer",
        )
    if config.kind == "pairs" and not spec.paired:
        raise ConfigError(
            "translation: pix2pix learns from pairs, and the training rows of this data are none",
            "choose paired data, or set model.kind='cycle'",
        )
    directions = (THERE, BACK) if config.kind == "cycle" else (THERE,)
    generators = {d: config.generator(elements[d].shape[2] or 0) for d in directions}
    critic = PatchDiscriminator(config.critic_width, config.critic_layers)
    m = _Translation(config, source, target, elements, generators, critic)
    phases = {"critic": Phase(CRITIC, m.criticise, rowwise=not config.buffer or config.kind == "pairs")}
    phases["generator"] = Phase(GENERATOR, m.generate)
    return Model(init=m.init, phases=phases, sample=m.sample, deterministic=True)


@dataclasses.dataclass(frozen=True, eq=False)
class _Translation:
    """Implement the contract on the images `source` and `target`.

    Attributes:
      elements: of the image that each direction leads to.
    """

    config: Config
    source: str
    target: str
    elements: dict[str, Element]
    generators: dict[str, nn.Module]
    critic: PatchDiscriminator

    @property
    def cyclic(self) -> bool:
        return self.config.kind == "cycle"

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        real = self.read(batch)
        generators = {}
        critics = {}
        state = {}
        for n, (direction, generator) in enumerate(self.generators.items()):
            given = self.given(real, direction)[:1]
            made = real[direction][:1]
            generators[direction] = generator.init(jax.random.fold_in(key, n), given)["params"]
            seen = made if self.cyclic else jnp.concatenate([given, made], -1)
            critics[direction] = self.critic.init(jax.random.fold_in(key, n + 2), seen)["params"]
            if self.cyclic and self.config.buffer:
                state[direction] = Pool.empty(self.config.buffer, made.shape[1:])
        return Variables({GENERATOR: generators, CRITIC: critics}, state, frozen=frozen)

    def read(self, batch: Batch) -> dict[str, jax.Array]:
        """Return the real images in [-1, 1] by the direction that leads to them."""
        names = {THERE: self.target, BACK: self.source}
        return {d: pixels.to_signed(batch[n], self.elements[d].levels or 2) for d, n in names.items()}

    def given(self, images: dict[str, jax.Array], direction: str) -> jax.Array:
        """Return what a direction starts from."""
        return images[BACK if direction == THERE else THERE]

    def translate(self, params: Tree, direction: str, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        return self.generators[direction].apply({"params": params[GENERATOR][direction]}, x)  # type: ignore[return-value]

    def judge(self, params: Tree, direction: str, x: jax.Array, given: jax.Array) -> Float[Array, "B N"]:
        """Return the logits of the patches of images that a direction leads to."""
        seen = x if self.cyclic else jnp.concatenate([given, x], -1)
        logits: Any = self.critic.apply({"params": params[CRITIC][direction]}, seen)
        return logits.reshape(logits.shape[0], -1)

    def criticise(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the mean loss of the critics, on real images and on generated ones from the buffer."""
        mask = batch["mask"]
        real = self.read(batch)
        total = jnp.zeros(mask.shape)
        state = dict(variables.state)
        metrics = {}
        for n, direction in enumerate(self.generators):
            given = self.given(real, direction)
            fake = jax.lax.stop_gradient(self.translate(variables.params, direction, given))
            if step is not None and direction in state:
                shown, state[direction] = self.pooled(state[direction], fake, mask, fold(keys, n))
            else:
                shown = fake
            on_real = self.judge(variables.params, direction, real[direction], given)
            on_fake = self.judge(variables.params, direction, shown, given)
            total = total + adversarial.critic(self.config.loss, on_real, on_fake).mean(-1)
            metrics[f"{direction}_real_logit"] = Mean.of(on_real.mean(-1), mask)
            metrics[f"{direction}_fake_logit"] = Mean.of(on_fake.mean(-1), mask)
        return Mean.of(total / len(self.generators), mask), Aux(state, metrics)

    def pooled(self, pool: Pool, fake: jax.Array, mask: jax.Array, keys: Keys) -> tuple[jax.Array, Pool]:
        """Exchange generated images with the buffer: the same on every device, over the global batch."""
        shown, pool = exchanged(Pool(*pool), *gathered((fake, mask, keys)))
        return own(shown, fake.shape[0]), pool

    def generate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return the loss of the generators: adversarial, and of cycles or to true targets."""
        del keys, step
        c = self.config
        mask = batch["mask"]
        real = self.read(batch)
        params = {**variables.params, CRITIC: jax.lax.stop_gradient(variables.params[CRITIC])}
        fake = {d: self.translate(params, d, self.given(real, d)) for d in self.generators}
        terms: dict[str, list[jax.Array]] = {"adversarial": [], "cycle": [], "identity": [], "distance": []}
        for direction in self.generators:
            given = self.given(real, direction)
            on_fake = self.judge(params, direction, fake[direction], given)
            on_real = on_fake
            if c.loss == "relativistic":
                on_real = self.judge(params, direction, real[direction], given)
            terms["adversarial"].append(adversarial.generator(c.loss, on_real, on_fake).mean(-1))
            if not self.cyclic:
                terms["distance"].append(c.distance * _error(fake[direction], real[direction]))
                continue
            # A translation of the other direction's translation is the image that one started from.
            back = self.translate(params, direction, self.given(fake, direction))
            terms["cycle"].append(c.cycle * _error(back, real[direction]))
            if c.identity and given.shape == real[direction].shape:
                same = self.translate(params, direction, real[direction])
                terms["identity"].append(c.cycle * c.identity * _error(same, real[direction]))
        sums = {name: functools.reduce(jnp.add, found) for name, found in terms.items() if found}
        metrics = {name: Mean.of(x, mask) for name, x in sums.items()}
        total = functools.reduce(jnp.add, sums.values())
        return Mean.of(total, mask), Aux(variables.state, metrics)

    def sample(self, variables: Variables, keys: Keys, prompt: Batch) -> Batch:
        """Return the translations of the images in the prompt."""
        del keys
        given = pixels.to_signed(prompt[self.source], self.elements[BACK].levels or 2)
        image = self.translate(variables.params, THERE, given)
        return {self.target: pixels.from_signed(image, self.elements[THERE].levels or 2)}


def _error(x: Float[Array, "B H W C"], y: Float[Array, "B H W C"]) -> Float[Array, " B"]:
    """Return the mean absolute difference per row."""
    gap = jnp.abs(x - y)
    return gap.reshape(gap.shape[0], -1).mean(-1)
