"""Hold the two networks of a GAN: how they are initialised and applied, and how the critic judges rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from genjax.core import Batch, Element, Keys, Tree, Variables, across
from genjax.errors import ConfigError
from genjax.functional import augment, pixels, spectral
from genjax.functional.noise import fold, normal
from genjax.models._gan_config import Config
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
LENGTH = "path_length"
"""The part of the state that holds the running mean of path lengths."""


@dataclasses.dataclass(frozen=True, eq=False)
class Players:
    """Apply generator and critic on the element `name`.

    The state is {player: batch statistics, "vectors": {player: those of spectral normalisation}}, with the
    mean path length and the augmentation if there are such.

    Attributes:
      across_rows: whether generator and critic look across rows.
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

    @property
    def styles(self) -> bool:
        """Return True if the generator has styles."""
        return hasattr(self.generator, "truncated")

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
            state[LENGTH] = jnp.zeros(())
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
        """Return whole packs: fewer rows than one pack, as of an example, are filled up with zeros.

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

    def complete(self, rows: int) -> None:
        """Refuse rows of a training step that do not fill packs: they would not be learned from.

        Raises:
          ConfigError: they are no multiple of a pack.
        """
        if rows % self.config.pack:
            raise ConfigError(
                f"model.pack={self.config.pack} does not divide {rows} rows (of a micro-batch, on a device)",
                "change data.batch or train.accumulate",
            )

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
