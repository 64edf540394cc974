"""Generative adversarial networks: any networks with any loss, any penalty and any way to read the class.

Goodfellow et al. 2014 (arXiv:1406.2661). Networks are files of genjax/nn/gans; losses and penalties are
functions of functional/adversarial.py. The default is the DCGAN of Radford et al. 2016 (arXiv:1511.06434).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from genjax.config import NotNegative, Positive
from genjax.config import build as build_config
from genjax.core import Aux, Batch, Element, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import adversarial, pixels
from genjax.functional.noise import fold, normal, truncated_normal
from genjax.models import _gan_codes, _gan_penalties
from genjax.models._gan_config import Config, module
from genjax.models._gan_players import AUGMENT, DISCRIMINATOR, GENERATOR, Players
from genjax.nn.conditions import ClassLabel
from genjax.nn.critics import Critic, Judgement


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the two players of the first target that is a quantised image or a vector of real values.

    Phases: "discriminator", then "penalty" if it comes more rarely, then "generator". Keep an average of the
    "generator" to sample from.

    Raises:
      ConfigError: the data has no such target, or the networks or `pack` do not fit it.
    """
    del stages
    name = _target(spec)
    fields = dict(config.network)
    networks = module(fields.pop("name"))
    own = build_config(networks.Config, fields, "model.network")
    label = ClassLabel.of(spec, config.conditional)
    if config.pack > 1 and label.classes:
        raise ConfigError("model.pack > 1: packs of rows have no class", "set model.conditional=False")
    shape: tuple[int, ...] = spec[name].shape  # type: ignore[assignment]
    generator = networks.generator(own, shape)
    _check(config, spec[name], label, networks)
    networks.fits(own, shape, label.classes, config.latent)
    if config.path_length and not hasattr(generator, "synthesis"):
        raise ConfigError(
            "model.path_length needs a generator with styles", "set model.network.name=stylegan2"
        )
    packed = (*shape[:-1], config.pack * shape[-1])
    critic = Critic(networks.critic(own, packed), config.reads)
    m = _GAN(config, name, spec[name], label, generator, critic, networks.normalises(own))
    kernels = functools.partial(networks.kernels, own)
    return Model(init=m.init, phases=m.phases(), sample=m.sample, generator=_gan_codes.generator(m, kernels))


def _check(config: Config, element: Element, label: ClassLabel, networks: Any) -> None:
    """Refuse fields that have no effect on this data or these networks."""
    if config.augment.kind != "none" and not element.levels:
        raise ConfigError("model.augment: only images are augmented", "leave it out")
    if config.augment.kind == "ada" and element.shape[-1] not in (1, 3):
        raise ConfigError(
            f"model.augment.kind='ada' changes colours of 1 or 3 channels, and these are {element.shape[-1]}",
            "set it to diff",
        )
    if (config.consistency or config.consistency_fake) and not element.levels:
        raise ConfigError("model.consistency: only images are shifted", "set it to 0")
    if not label.classes and (config.reads != "projection" or config.auxiliary != 1.0):
        raise ConfigError(
            f"model.reads={config.reads!r}: the model is given no class",
            "leave out model.reads and auxiliary",
        )
    if networks.EQUALISED and (config.spectral or config.orthogonal):
        raise ConfigError(
            "model.spectral and model.orthogonal: these networks scale their kernels at run time",
            "choose another model.network, or leave them out",
        )


def _target(spec: Spec) -> str:
    for name in spec.targets:
        element = spec[name]
        image = len(element.shape) == 3 and bool(element.levels)
        if image or (len(element.shape) == 1 and element.levels is None):
            return name
    raise ConfigError(
        f"gan needs images of whole levels or points as the target; the data has {sorted(spec.elements)}",
        "choose such data, or another model",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _GAN(Players):
    """Implement the contract: the players' losses, and samples."""

    def phases(self) -> dict[str, Phase]:
        """Return the updates of a step in their order."""
        c = self.config
        generator_looks, critic_looks = self.across_rows
        critic_looks = critic_looks or c.pack > 1
        # Each micro-batch would iterate the vectors of spectral normalisation, or adapt p, once more.
        alone = not (generator_looks or critic_looks or c.spectral or c.augment.adaptive)
        phases = {"discriminator": Phase(DISCRIMINATOR, self.discriminate, rowwise=alone)}
        if c.penalised and c.interval > 1:
            rowwise = not critic_looks and (alone or not (c.r2 or c.gradient_penalty))
            phases["penalty"] = Phase(DISCRIMINATOR, self.penalise, c.interval, rowwise, evaluated=False)
        phases["generator"] = Phase(GENERATOR, self.generate, c.critic_steps, alone)
        if c.path_length:
            lengthen = functools.partial(_gan_penalties.path_length, self)
            phases["path_length"] = Phase(GENERATOR, lengthen, c.path_interval, False, evaluated=False)
        return phases

    # --- learning --------------------------------------------------------------------------------------

    def discriminate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute the critic's loss, with the penalties of every step."""
        train = step is not None
        if train:
            self.complete(keys.shape[0])
        variables = self.iterated(variables, DISCRIMINATOR, train)
        mask = self.mask(batch)
        x = self.values(batch)
        y = self.label.one_hot(batch, x.shape[0])
        fake = jax.lax.stop_gradient(self.fake(variables, batch, keys, train)[0])
        real, statistics = self.judge(variables, x, y, train, fold(keys, 31))
        # Generated and real rows have statistics of their own; those of the real ones are kept.
        false, _ = self.judge(variables, fake, y, train, fold(keys, 32))
        loss = adversarial.critic(self.config.loss, real.logit, false.logit)
        loss = loss + self.misclassified(real, batch) + self.misclassified(false, batch)
        metrics = {
            "real_logit": Mean.of(real.logit, mask),
            "fake_logit": Mean.of(false.logit, mask),
            "real_accuracy": Mean.of((real.logit > 0).astype(loss.dtype), mask),
            "fake_accuracy": Mean.of((false.logit < 0).astype(loss.dtype), mask),
        }
        if train and (self.config.consistency or self.config.consistency_fake):
            extra, more = _gan_penalties.consistency(self, variables, (x, real), (fake, false), y, keys, mask)
            loss = loss + extra
            metrics |= more
        if self.config.penalised and self.config.interval == 1 and train:
            extra, more = _gan_penalties.of_gradient(self, variables, x, fake, y, keys, mask, train)
            loss = loss + extra
            metrics |= more
        state = {**variables.state, DISCRIMINATOR: statistics}
        if not train:
            return Mean.of(loss, mask), Aux(state, metrics)
        # r_t, eq. 1 of Karras et al. 2020 (ADA): how much more often logits of training rows are positive.
        metrics["overfitting"] = Mean.of(jnp.sign(real.logit), mask)
        state = self.adapted(state, real.logit, mask)
        if self.config.augment.adaptive:
            metrics["augment_p"] = Mean.of(jnp.broadcast_to(state[AUGMENT]["p"], mask.shape), mask)
        return Mean.of(loss, mask), Aux(state, metrics)

    def misclassified(self, judgement: Judgement, batch: Batch) -> Float[Array, " B"] | float:
        """Return the cross-entropy of an auxiliary classifier, times its weight; 0 without one."""
        if judgement.classes is None:
            return 0.0
        label = self.label.index(batch, judgement.classes.shape[0])
        nats = optax.softmax_cross_entropy_with_integer_labels(judgement.classes, label)
        return self.config.auxiliary * nats

    def penalise(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute the penalties of a step between those without, times the steps between them."""
        train = step is not None
        if train:
            self.complete(keys.shape[0])
        mask = self.mask(batch)
        x = self.values(batch)
        y = self.label.one_hot(batch, x.shape[0])
        fake = x
        if self.config.r2 or self.config.gradient_penalty:
            fake = jax.lax.stop_gradient(self.fake(variables, batch, keys, train)[0])
        total, metrics = _gan_penalties.of_gradient(self, variables, x, fake, y, keys, mask, train)
        return Mean.of(self.config.interval * total, mask), Aux(variables.state, metrics)

    def generate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute the generator's loss."""
        train = step is not None
        if train:
            self.complete(keys.shape[0])
        variables = self.iterated(variables, GENERATOR, train)
        y = self.label.one_hot(batch, keys.shape[0])
        fake, statistics = self.fake(variables, batch, keys, train)
        false, _ = self.judge(variables, fake, y, train, fold(keys, 32))
        real = false.logit
        if self.config.loss == "relativistic":
            real = self.judge(variables, self.values(batch), y, train, fold(keys, 31))[0].logit
        loss = adversarial.generator(self.config.loss, real, false.logit) + self.misclassified(false, batch)
        if self.config.orthogonal and train:
            excess = adversarial.off_orthogonal(variables.params[GENERATOR])
            loss = loss + self.config.orthogonal * excess.reshape(1)
        return Mean.of(loss, self.mask(batch)), Aux({**variables.state, GENERATOR: statistics})

    # --- samples ---------------------------------------------------------------------------------------

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        temperature: NotNegative = 1.0,
        truncation: Positive | None = None,
    ) -> Batch:
        """Draw rows; labels that are not given are random.

        Args:
          temperature: standard deviation of z; of networks without styles.
          truncation: trade diversity for fidelity. With styles, psi: the distance from the mean style is
            multiplied by it. Else z is drawn anew where its absolute value is above it (Brock et al. 2019,
            sec. 3.1).

        Raises:
          ConfigError: a temperature of a generator with styles.
        """
        if temperature != 1 and self.styles:
            raise ConfigError(
                f"temperature={temperature}: a generator with styles divides z by its size",
                "set truncation instead",
            )
        label = self.label.drawn(prompt, keys)
        y = self.label.one_hot(label, keys.shape[0])
        z = temperature * normal(keys, (self.config.latent,))
        if truncation is not None and self.styles:
            tree = self.collections(variables, GENERATOR)
            x: Any = self.generator.apply(tree, z, y, fold(keys, 6), truncation, method="truncated")
        else:
            if truncation is not None:
                z = temperature * truncated_normal(keys, (self.config.latent,), truncation)
            x, _ = self.apply(variables, GENERATOR, z, y, False, fold(keys, 6))
        return {self.name: pixels.from_signed(x, self.levels) if self.levels else x, **label}
