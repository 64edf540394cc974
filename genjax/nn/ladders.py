"""Define networks of several stochastic levels: level 0 is next to the data, the last one is the top.

Both have `infer(image, condition, noise) -> Inference`, whose draws are of q, `generate(condition, noise) ->
decoder's output`, whose draws are of p, and `describe(image, condition, noise) -> Inference`, whose draws are
those of `generate`; `noise` has one standard normal array per level.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nn.conv import Conv
from genjax.nn.image_codec import ResidualBlock
from genjax.nn.mlp import MLP

Gaussian = tuple[jax.Array, jax.Array]
"""(mean, log standard deviation)."""


class Inference(NamedTuple):
    """Hold a draw of every level, level 0 first, and the distributions that it was drawn from.

    Attributes:
      out: (outputs, B, H, W, C), what the decoder computed from the draws.
      z: the draws.
      q: of each level given the data and the levels that were drawn before it.
      p: the prior of each level given the levels above it.
    """

    out: jax.Array
    z: list[jax.Array]
    q: list[Gaussian]
    p: list[Gaussian]


@dataclasses.dataclass(frozen=True)
class Levels:
    """Describe the levels.

    Attributes:
      latents: dimensions of z per level (channels if network="conv"), level 0 first.
      hidden: width of the deterministic layers per level ("mlp").
      network: "mlp", or "conv": level l is a map that is halved l + 1 times, as far as `halvings` goes.
      width: channels ("conv").
      halvings: at most so many ("conv").
      activation: "tanh" or "silu".
    """

    latents: tuple[int, ...]
    hidden: tuple[int, ...] = (200, 100)
    network: Literal["mlp", "conv"] = "mlp"
    width: int = 32
    halvings: int = 2
    activation: Literal["tanh", "silu"] = "tanh"

    def shapes(self, image: tuple[int, int, int]) -> list[tuple[int, ...]]:
        """Return the shape of z for one row, per level."""
        if self.network == "mlp":
            return [(n,) for n in self.latents]
        sides = [tuple(side // 2 ** self.halved(i) for side in image[:2]) for i in range(len(self.latents))]
        return [(*side, n) for side, n in zip(sides, self.latents, strict=True)]

    def halved(self, level: int) -> int:
        """Return how often the map of a level is halved."""
        return min(level + 1, self.halvings)


class BottomUp(nn.Module):
    """Infer upwards and generate downwards, fully connected (Burda et al. 2016, sec. 5 and app. C).

    q(z_0 | x) q(z_1 | z_0) ..., and p(z_L) ... p(z_0 | z_1) p(x | z_0). Each conditional is an MLP with two
    hidden layers.
    """

    levels: Levels
    shape: tuple[int, int, int]
    outputs: int

    def setup(self):
        c = self.levels
        activation = jnp.tanh if c.activation == "tanh" else nn.silu
        make = lambda width, out: nn.Sequential([MLP((width, width), activation, final=True), nn.Dense(out)])
        pairs = list(zip(c.hidden, c.latents, strict=True))
        self.up = [make(width, 2 * latent) for width, latent in pairs]
        self.down = [make(width, 2 * latent) for width, latent in zip(c.hidden[1:], c.latents, strict=False)]
        self.decoder = make(c.hidden[0], math.prod(self.shape) * self.outputs)

    def infer(
        self, image: Float[Array, "B H W C"], condition: Float[Array, "B K"], noise: Sequence[jax.Array]
    ) -> Inference:
        return self._upwards(image, condition, lambda level, q: q[0] + jnp.exp(q[1]) * noise[level])

    def describe(
        self, image: Float[Array, "B H W C"], condition: Float[Array, "B K"], noise: Sequence[jax.Array]
    ) -> Inference:
        z = self._draws(condition, noise)
        return self._upwards(image, condition, lambda level, q: z[level])

    def generate(self, condition: Float[Array, "B K"], noise: Sequence[jax.Array]) -> jax.Array:
        return self._decode(self._draws(condition, noise)[0], condition)

    def _upwards(
        self, image: jax.Array, condition: jax.Array, choose: Callable[[int, Gaussian], jax.Array]
    ) -> Inference:
        """Return the distributions at the draws that `choose(level, q)` returns."""
        below = image.reshape(image.shape[0], -1)
        z: list[jax.Array] = []
        q: list[Gaussian] = []
        for level, up in enumerate(self.up):
            q.append(_split(up(jnp.concatenate([below, condition], -1))))
            below = choose(level, q[level])
            z.append(below)
        p = [self._prior(level, z, condition) for level in range(len(z))]
        return Inference(self._decode(z[0], condition), z, q, p)

    def _draws(self, condition: jax.Array, noise: Sequence[jax.Array]) -> list[jax.Array]:
        """Return draws of p."""
        z = list(noise)
        for level in reversed(range(len(z) - 1)):
            mean, log_std = self._prior(level, z, condition)
            z[level] = mean + jnp.exp(log_std) * noise[level]
        return z

    def _prior(self, level: int, z: list[jax.Array], condition: jax.Array) -> Gaussian:
        """Return p(z_level | z above); standard normal at the top."""
        if level == len(z) - 1:
            return jnp.zeros_like(z[level]), jnp.zeros_like(z[level])
        out = self.down[level](jnp.concatenate([z[level + 1], condition], -1))
        mean, log_std = jnp.split(out, 2, -1)
        return mean, log_std

    def _decode(self, z: jax.Array, condition: jax.Array) -> jax.Array:
        out = self.decoder(jnp.concatenate([z, condition], -1))
        return jnp.moveaxis(out.reshape(-1, *self.shape, self.outputs), -1, 0)


class TopDown(nn.Module):
    """Infer downwards, from features of the data that were computed upwards.

    Sonderby et al. 2016 (arXiv:1602.02282, the ladder); as residual blocks on a common state by Child 2021
    (arXiv:2011.10650, fig. 3). The posterior is an offset of the prior (Vahdat & Kautz 2020,
    arXiv:2007.03898, sec. 3.2). Maps add z to the state. Vectors are joined with it, and the state behind
    level 0 is read out as it is.
    """

    levels: Levels
    shape: tuple[int, int, int]
    outputs: int

    def setup(self):
        c = self.levels
        last = len(c.latents) - 1
        widths = c.hidden if c.network == "mlp" else (c.width,) * (last + 1)
        self.reads = [self._block(width) for width in widths]
        self.halve = [
            Conv(c.width, (4, 4), (2, 2)) if self._shrinks(level) else self._layer(width)
            for level, width in enumerate(widths)
        ]
        self.start = self._layer(widths[last])
        self.priors = [self._head(level) for level in range(last + 1)]
        # A fully connected posterior differs from the prior from the start: as long as z carries nothing,
        # layers of tanh learn to do without it.
        start = nn.initializers.zeros if c.network == "conv" else nn.initializers.lecun_normal()
        self.posteriors = [self._head(level, start) for level in range(last + 1)]
        if c.network == "conv":
            self.inject = [self._layer(width) for width in widths]
        self.blocks = [self._block(width) for width in widths]
        # From each level to the state of the level below it; at level 0 to that of the data.
        self.descend = [
            Conv(width, (4, 4), (2, 2), transpose=True) if self._shrinks(level) else self._layer(width)
            for level, width in enumerate((widths[0], *widths[:-1]))
        ]
        size = self.shape[-1] * self.outputs if c.network == "conv" else math.prod(self.shape) * self.outputs
        self.out = Conv(size) if c.network == "conv" else nn.Dense(size)

    def infer(
        self, image: Float[Array, "B H W C"], condition: Float[Array, "B K"], noise: Sequence[jax.Array]
    ) -> Inference:
        return self._downwards(condition, noise, self._upwards(image, condition), "q")

    def describe(
        self, image: Float[Array, "B H W C"], condition: Float[Array, "B K"], noise: Sequence[jax.Array]
    ) -> Inference:
        return self._downwards(condition, noise, self._upwards(image, condition), "p")

    def generate(self, condition: Float[Array, "B K"], noise: Sequence[jax.Array]) -> jax.Array:
        return self._downwards(condition, noise, None, "p").out

    def _upwards(self, image: jax.Array, condition: jax.Array) -> list[jax.Array]:
        flat = self.levels.network == "mlp"
        h = image.reshape(image.shape[0], -1) if flat else image
        features = []
        for halve, read in zip(self.halve, self.reads, strict=True):
            h = read(halve(_joined(h, condition)))
            features.append(h)
        return features

    def _downwards(
        self,
        condition: jax.Array,
        noise: Sequence[jax.Array],
        features: list[jax.Array] | None,
        draws: Literal["q", "p"],
    ) -> Inference:
        """Return the distributions at draws of the posterior or of the prior.

        Args:
          features: of the data; without them q is p.
        """
        levels = range(len(noise))
        z: dict[int, jax.Array] = {}
        q: dict[int, Gaussian] = {}
        p: dict[int, Gaussian] = {}
        top = jnp.zeros((*noise[-1].shape[:-1], 1))
        state = self.start(_joined(top, condition))
        for level in reversed(levels):
            p[level] = _split(self.priors[level](state))
            q[level] = p[level]
            if features is not None:
                offset = self.posteriors[level](jnp.concatenate([state, features[level]], -1))
                shift, log_ratio = _split(offset)
                mean, log_std = p[level]
                q[level] = mean + jnp.exp(log_std) * shift, log_std + log_ratio
            mean, log_std = q[level] if draws == "q" else p[level]
            z[level] = mean + jnp.exp(log_std) * noise[level]
            state = self.blocks[level](self._with(state, z[level], level))
            if level or self.levels.network == "conv":
                state = nn.silu(self.descend[level](state))
        in_order = lambda parts: [parts[level] for level in levels]
        return Inference(self._decode(state), in_order(z), in_order(q), in_order(p))

    def _with(self, state: jax.Array, z: jax.Array, level: int) -> jax.Array:
        """Return the state that knows the draw of a level."""
        if self.levels.network == "conv":
            return state + self.inject[level](z)
        return jnp.concatenate([state, z], -1)

    def _decode(self, state: jax.Array) -> jax.Array:
        out = self.out(state)
        return jnp.moveaxis(out.reshape(-1, *self.shape, self.outputs), -1, 0)

    def _shrinks(self, level: int) -> bool:
        c = self.levels
        return c.network == "conv" and (level == 0 or c.halved(level) > c.halved(level - 1))

    def _layer(self, width: int) -> Any:
        return Conv(width, 1) if self.levels.network == "conv" else nn.Dense(width)

    def _block(self, width: int) -> Any:
        if self.levels.network == "conv":
            return ResidualBlock()
        activation = jnp.tanh if self.levels.activation == "tanh" else nn.silu
        return MLP((width, width), activation, final=True)

    def _head(self, level: int, start: Any = nn.initializers.zeros) -> Any:
        """Return a layer with two outputs per latent; those of a prior are zero at first: standard normal."""
        size = 2 * self.levels.latents[level]
        if self.levels.network == "conv":
            return Conv(size, 1, kernel_init=start)
        return nn.Dense(size, kernel_init=start)


def _split(out: jax.Array) -> Gaussian:
    mean, log_std = jnp.split(out, 2, -1)
    return mean, log_std


def _joined(x: Float[Array, "B *S C"], condition: Float[Array, "B K"]) -> Float[Array, "B *S D"]:
    """Append the condition to the channels of every position."""
    wide = condition.reshape(x.shape[0], *(1,) * (x.ndim - 2), condition.shape[-1])
    return jnp.concatenate([x, jnp.broadcast_to(wide, (*x.shape[:-1], condition.shape[-1]))], -1)
