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
from flax import linen as nn
from jaxtyping import Array, Float

from genjax.config import NotNegative, Positive
from genjax.config import build as build_config
from genjax.core import Aux, Batch, Element, Keys, Mean, Model, Phase, Spec, Tree, Variables, across
from genjax.errors import ConfigError
from genjax.functional import adversarial, augment, pixels, spectral
from genjax.functional.noise import fold, normal, truncated_normal
from genjax.models import _gan_codes, _gan_penalties
from genjax.models._gan_config import Config, module
from genjax.nn.conditions import ClassLabel
from genjax.nn.critics import Critic, Judgement

GENERATOR = "generator"
DISCRIMINATOR = "discriminator"
VECTORS = "vectors"
"""The part of the state that spectral normalisation keeps."""
AUGMENT = "augment"
"""The part of the state that adapts the augmentation: {"p", "sign": running mean of the signs of logits}."""
MEMORY = 0.75
"""Of that mean: about four steps, as in Karras et al. 2020 (arXiv:2006.06676, sec. 3)."""


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
    if config.augment.kind != "none" and not spec[name].levels:
        raise ConfigError("model.augment: only images are augmented", "leave it out")
    if (config.consistency or config.consistency_fake) and not spec[name].levels:
        raise ConfigError("model.consistency: only images are shifted", "set it to 0")
    if config.path_length and not hasattr(generator, "synthesis"):
        raise ConfigError(
            "model.path_length needs a generator with styles", "set model.network.name=stylegan2"
        )
    packed = (*shape[:-1], config.pack * shape[-1])
    critic = Critic(networks.critic(own, packed), config.reads)
    m = _GAN(config, name, spec[name], label, generator, critic, networks.normalises(own))
    kernels = functools.partial(networks.kernels, own)
    return Model(init=m.init, phases=m.phases(), sample=m.sample, generator=_gan_codes.generator(m, kernels))


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
class _GAN:
    """Implement the contract on the element `name`.

    The state is {player: batch statistics, "vectors": {player: those of spectral normalisation}}.
    """

    config: Config
    name: str
    element: Element
    label: ClassLabel
    generator: nn.Module
    critic: Critic
    across_rows: tuple[bool, bool]

    @property
    def levels(self) -> int:
        return self.element.levels or 0

    def phases(self) -> dict[str, Phase]:
        """Return the updates of a step in their order."""
        c = self.config
        generator_looks, critic_looks = self.across_rows
        critic_looks = critic_looks or c.pack > 1
        # Each micro-batch would iterate the vectors of spectral normalisation once more.
        alone = not (generator_looks or critic_looks or c.spectral)
        phases = {"discriminator": Phase(DISCRIMINATOR, self.discriminate, rowwise=alone)}
        if c.penalised and c.interval > 1:
            rowwise = not critic_looks and (alone or not (c.r2 or c.gradient_penalty))
            phases["penalty"] = Phase(DISCRIMINATOR, self.penalise, c.interval, rowwise, evaluated=False)
        phases["generator"] = Phase(GENERATOR, self.generate, c.critic_steps, alone)
        if c.path_length:
            lengthen = functools.partial(_gan_penalties.path_length, self)
            phases["path_length"] = Phase(GENERATOR, lengthen, c.path_interval, False, evaluated=False)
        return phases

    # --- the players -----------------------------------------------------------------------------------

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        x = self.values(batch)
        z = jnp.zeros((x.shape[0], self.config.latent))
        y = self.label.one_hot(batch, x.shape[0])
        inputs = {GENERATOR: (self.generator, z, y), DISCRIMINATOR: (self.critic, *self.packed(x, y))}
        made = {
            player: network.init(jax.random.fold_in(key, n), *args, False)
            for n, (player, (network, *args)) in enumerate(inputs.items())
        }
        params = {player: tree["params"] for player, tree in made.items()}
        state = {player: tree.get("batch_stats", {}) for player, tree in made.items()}
        state[VECTORS] = {
            player: spectral.vectors(jax.random.fold_in(key, n + 2), params[player])
            for n, player in enumerate(self.config.spectral)
        }
        if self.config.path_length:
            state[_gan_penalties.LENGTH] = jnp.zeros(())
        if self.config.augment.adaptive:
            state[AUGMENT] = {"p": jnp.zeros(()), "sign": jnp.zeros(())}
        return Variables(params, state, frozen=frozen)

    def values(self, batch: Batch) -> Float[Array, "B *shape"]:
        """Return real rows as networks read them: images in [-1, 1], points as they are."""
        x = batch[self.name]
        return pixels.to_signed(x, self.levels) if self.levels else x

    def packed(self, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Join each `pack` rows along their channels; there are no classes then."""
        m = self.config.pack
        if m == 1:
            return x, y
        parts = self.whole(x).reshape(-1, m, *x.shape[1:])
        return jnp.concatenate([parts[:, i] for i in range(m)], -1), self.whole(y)[::m]

    def whole(self, x: Float[Array, "B *shape"]) -> Float[Array, "M *shape"]:
        """Return whole packs: fewer rows than one pack are filled up with zeros.

        Raises:
          ConfigError: rows are left over.
        """
        m = self.config.pack
        rows = x.shape[0]
        if rows < m:
            return jnp.pad(x, ((0, m - rows), *((0, 0),) * (x.ndim - 1)))
        if rows % m:
            raise ConfigError(f"model.pack={m} does not divide a batch of {rows} rows", "change data.batch")
        return x

    def by_pack(self, x: Float[Array, " B"]) -> Float[Array, " P"]:
        """Return the sum over the rows of each pack."""
        return self.whole(x).reshape(-1, self.config.pack).sum(1)

    def mask(self, batch: Batch) -> Float[Array, " P"]:
        """Return 1 for each pack whose rows all count."""
        return self.whole(batch["mask"]).reshape(-1, self.config.pack).min(1)

    def collections(self, variables: Variables, player: str) -> Tree:
        """Return what a player's network reads."""
        params = variables.params[player]
        if player in self.config.spectral:
            params = spectral.normalised(params, variables.state[VECTORS][player])
        return {"params": params, "batch_stats": variables.state[player]}

    def apply(
        self, variables: Variables, player: str, x: jax.Array, y: jax.Array, train: bool, *noise: Any
    ) -> tuple[Any, dict]:
        """Return the output of a player's network, and its next batch statistics."""
        network = self.generator if player == GENERATOR else self.critic
        tree = self.collections(variables, player)
        if not train:
            return network.apply(tree, x, y, False, *noise), variables.state[player]
        found: Any = network.apply(tree, x, y, True, *noise, mutable=["batch_stats"])
        return found[0], found[1].get("batch_stats", {})

    def iterated(self, variables: Variables, player: str, train: bool) -> Variables:
        """Return the variables with a player's vectors after one more power iteration."""
        if not train or player not in self.config.spectral:
            return variables
        old = variables.state[VECTORS]
        new = {**old, player: spectral.iterated(variables.params[player], old[player])}
        return variables.replace(state={**variables.state, VECTORS: new})

    def judge(
        self, variables: Variables, x: jax.Array, y: jax.Array, train: bool, keys: Keys
    ) -> tuple[Judgement, dict]:
        """Return what the critic says of rows, which are augmented in training."""
        c = self.config.augment
        if train and c.kind != "none":
            p = variables.state[AUGMENT]["p"] if c.adaptive else c.p or 0.0
            x = augment.augmented(c.kind, keys, x, p)
        return self.apply(variables, DISCRIMINATOR, *self.packed(x, y), train)

    def adapted(self, state: dict, real: Float[Array, " P"], mask: Float[Array, " P"]) -> dict:
        """Return the state with p moved by what the critic says of real rows."""
        if not self.config.augment.adaptive:
            return state
        c = self.config.augment
        total, count = across((jnp.where(mask > 0, jnp.sign(real), 0.0).sum(), mask.sum()))
        old = state[AUGMENT]
        sign = MEMORY * old["sign"] + (1.0 - MEMORY) * total / jnp.maximum(count, 1.0)
        rows = count * self.config.pack
        p = jnp.clip(old["p"] + jnp.sign(sign - c.target) * rows / c.examples, 0.0, 1.0)
        return {**state, AUGMENT: jax.lax.stop_gradient({"p": p, "sign": sign})}

    def fake(self, variables: Variables, batch: Batch, keys: Keys, train: bool) -> tuple[jax.Array, dict]:
        """Generate a row for the label of each row; return (rows, next batch statistics)."""
        z = normal(keys, (self.config.latent,))
        y = self.label.one_hot(batch, keys.shape[0])
        return self.apply(variables, GENERATOR, z, y, train, fold(keys, 6))

    # --- learning --------------------------------------------------------------------------------------

    def discriminate(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Compute the critic's loss, with the penalties of every step."""
        train = step is not None
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
          temperature: standard deviation of z.
          truncation: trade diversity for fidelity. With styles, psi: the distance from the mean style is
            multiplied by it. Else z is drawn anew where its absolute value is above it (Brock et al. 2019,
            sec. 3.1).
        """
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

    @property
    def styles(self) -> bool:
        """Return True if the generator has styles."""
        return hasattr(self.generator, "truncated")
