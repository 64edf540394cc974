"""Normalizing flows: RealNVP (Dinh et al. 2017, arXiv:1605.08803) and Glow (Kingma & Dhariwal 2018).

An invertible map f takes data to standard normal noise, so that log p(x) = log N(f(x)) + log |det df/dx| is
exact. Images of whole levels are dequantised first: the mean of -log p(x + u) over the noise u is an upper
bound of -log P(x). The distribution of u may be learned (variational dequantisation; Ho et al. 2019,
arXiv:1902.00275).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.config import Layers, Natural, NotNegative, Positive, Range, Width
from genjax.core import Aux, Batch, Codec, Element, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import likelihoods
from genjax.functional.noise import fold, normal
from genjax.functional.reductions import sum_row
from genjax.nn import flows
from genjax.nn.conditions import ClassLabel
from genjax.nn.conv import Conv, halvings

PLAYER = "flow"
LATENT = "latent"
"""The name of the codes."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a normalizing flow.

    Glow (arXiv:1807.03039) is the default. RealNVP is checkerboard=3, steps=3, mixing="reverse".

    Attributes:
      levels: scales of an image. Each halves the image and lets half of its channels leave the flow. None
        takes as many as the image can be halved, and 1 for vectors.
      steps: steps of ActNorm, mixing and coupling per level.
      checkerboard: couplings with a checkerboard mask per level, before the image is halved.
      mixing: of the channels before a coupling: a learned matrix ("invertible") or their "reverse" order.
      width: channels of the couplings' networks.
      depth: hidden layers of the couplings' networks.
      limit: bound of the absolute log scale of a coupling.
      dequantisation: noise that is added to whole levels: "uniform", or "variational" (learned).
      margin: values in (0, 1) are mapped into (margin, 1 - margin) before the logit (Dinh et al. 2017,
        sec. 4.1); not used for real-valued data.
      conditional: the networks read the label if the data has one.
    """

    levels: Layers | None = None
    steps: Layers = 4
    checkerboard: Natural = 0
    mixing: Literal["invertible", "reverse"] = "invertible"
    width: Width = 64
    depth: Layers = 2
    limit: Positive = 2.0
    dequantisation: Literal["uniform", "variational"] = "uniform"
    margin: Annotated[float, Range(above=0, below=0.5)] = 0.05
    conditional: bool = True


class Dequantiser(nn.Module):
    """Draw u in (0, 1) given the image by a conditional flow (Ho et al. 2019, sec. 3.1).

    Attributes:
      config: of the flow.
      channels: of the image.
    """

    config: Config
    channels: int

    def setup(self):
        c = self.config
        self.context_in = Conv(c.width)
        self.context_out = Conv(c.width)
        masks: tuple[flows.Mask, ...] = ("even", "odd", "even", "odd")
        self.couplings = [flows.Coupling(self.channels, c.width, c.depth, c.limit, mask) for mask in masks]

    def __call__(
        self, noise: Float[Array, "B H W C"], image: Float[Array, "B H W C"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B H W C"], Float[Array, " B"]]:
        """Return (u, log q(u | image)) for standard normal noise and an image with values in [-1, 1]."""
        context = self.context_out(nn.relu(self.context_in(image)))
        log_q = sum_row(likelihoods.normal(jnp.zeros_like(noise), jnp.zeros_like(noise), noise))
        x = noise
        for coupling in self.couplings:
            x, log_det = coupling.forward(x, condition, context)
            log_q = log_q - log_det
        # u = sigmoid(x), du/dx = u (1 - u).
        return nn.sigmoid(x), log_q - sum_row(nn.log_sigmoid(x) + nn.log_sigmoid(-x))


class Flow(nn.Module):
    """Map data to noise and back through the levels of the flow.

    Attributes:
      config: with `levels` a number.
      shape: of a row: (D,) or (H, W, C).
    """

    config: Config
    shape: tuple[int, ...]

    def setup(self):
        c = self.config
        image = len(self.shape) == 3
        channels = self.shape[-1]
        before = []
        after = []
        heads = []
        assert c.levels is not None
        for level in range(c.levels):
            before.append([layer for i in range(c.checkerboard) for layer in self._checkerboard(channels, i)])
            channels = 4 * channels if image else channels
            after.append([layer for _ in range(c.steps) for layer in self._step(channels)])
            if level + 1 < c.levels:
                heads.append(flows.GaussianHead(channels - channels // 2, c.limit))
                channels = channels // 2
        self.before = before
        self.after = after
        self.heads = heads
        if image:
            self.dequantiser = Dequantiser(c, self.shape[-1])

    def _checkerboard(self, channels: int, i: int) -> list[Any]:
        c = self.config
        mask: flows.Mask = "odd" if i % 2 else "even"
        return [flows.ActNorm(channels), flows.Coupling(channels, c.width, c.depth, c.limit, mask)]

    def _step(self, channels: int) -> list[Any]:
        c = self.config
        mixing = flows.Mixing(channels) if c.mixing == "invertible" else flows.Reverse()
        return [flows.ActNorm(channels), mixing, flows.Coupling(channels, c.width, c.depth, c.limit)]

    def forward(
        self, x: Float[Array, "B *shape"], condition: Float[Array, "B K"], fit: jax.Array | None = None
    ) -> tuple[Float[Array, "B D"], Float[Array, " B"]]:
        """Return (noise, log |det|) per row.

        Args:
          fit: mask of the rows; ActNorm is fitted on them on the way (needs FITTED to be mutable).
        """
        total = jnp.zeros(x.shape[0])
        pieces = []
        for level in range(len(self.after)):
            x, total = self._through(self.before[level], x, total, condition, fit)
            x = flows.squeeze(x) if x.ndim == 4 else x
            x, total = self._through(self.after[level], x, total, condition, fit)
            if level < len(self.heads):
                half = x.shape[-1] // 2
                x, leaves = x[..., :half], x[..., half:]
                mean, log_std = self.heads[level](x, condition)
                total = total - sum_row(log_std)
                pieces.append((leaves - mean) * jnp.exp(-log_std))
        return jnp.concatenate([piece.reshape(x.shape[0], -1) for piece in [*pieces, x]], -1), total

    def _through(self, layers: list[Any], x: Any, total: Any, condition: Any, fit: Any) -> tuple[Any, Any]:
        for layer in layers:
            if fit is not None and isinstance(layer, flows.ActNorm):
                layer.fit(x, fit)
            x, log_det = layer.forward(x, condition)
            total = total + log_det
        return x, total

    def inverse(self, noise: Float[Array, "B D"], condition: Float[Array, "B K"]) -> Float[Array, "B *shape"]:
        """Return the data of the noise."""
        shapes = self._pieces()
        ends = [sum(math.prod(shape) for shape in shapes[: i + 1]) for i in range(len(shapes) - 1)]
        parts = jnp.split(noise, ends, -1)
        pieces = [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
        x = pieces[-1]
        for level in reversed(range(len(self.after))):
            if level < len(self.heads):
                mean, log_std = self.heads[level](x, condition)
                x = jnp.concatenate([x, mean + jnp.exp(log_std) * pieces[level]], -1)
            for layer in reversed(self.after[level]):
                x = layer.inverse(x, condition)
            x = flows.unsqueeze(x) if x.ndim == 4 else x
            for layer in reversed(self.before[level]):
                x = layer.inverse(x, condition)
        return x

    def _pieces(self) -> list[tuple[int, ...]]:
        """Return the shape of the noise of each level."""
        if len(self.shape) == 1:
            return [self.shape]
        height, width, channels = self.shape
        pieces = []
        for level in range(len(self.after)):
            height, width, channels = height // 2, width // 2, 4 * channels
            if level < len(self.heads):
                pieces.append((height, width, channels - channels // 2))
                channels = channels // 2
        return [*pieces, (height, width, channels)]

    def dequantise(
        self, noise: Float[Array, "B H W C"], image: Float[Array, "B H W C"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B H W C"], Float[Array, " B"]]:
        return self.dequantiser(noise, image, condition)

    def __call__(self, x: Float[Array, "B *shape"], condition: Float[Array, "B K"]) -> jax.Array:
        """Call every layer once, for the initialisation."""
        if self.config.dequantisation == "variational":
            self.dequantise(x, x, condition)
        return self.forward(x, condition)[0]


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the flow of the spec's first target that is an image or a vector.

    The likelihood is a "bound" for images of whole levels and a "density" for real values.

    Raises:
      ConfigError: the data has no such target, or an option does not apply to it.
    """
    del stages
    name, element = _target(spec)
    config = _resolved(config, element)
    m = _Flow(config, name, element, ClassLabel.of(spec, config.conditional), Flow(config, element.shape))  # type: ignore[arg-type]
    return Model(
        init=m.init,
        phases={"nll": Phase(PLAYER, m.objective)},
        fit=m.fit,
        sample=m.sample,
        likelihood=m.likelihood,
        likelihood_kind="bound" if element.levels else "density",
        codec=Codec(m.encode, m.decode, m.code_spec, expected=m.expected),
    )


def _target(spec: Spec) -> tuple[str, Element]:
    """Return the first target with values: an image (H, W, C) or a vector (D,) of real values."""
    for name in spec.targets:
        element = spec[name]
        if len(element.shape) == 3 or (len(element.shape) == 1 and not element.levels):
            return name, element
    raise ConfigError(
        f"flow needs images or real vectors as the target; the data has {sorted(spec.elements)}",
        "choose such data, or another model",
    )


def _resolved(config: Config, element: Element) -> Config:
    """Return the config with the number of levels that the data gets.

    Raises:
      ConfigError: an option that this data cannot have.
    """
    *size, channels = element.shape
    most = halvings(*size, smallest=2) if size else 1  # type: ignore[misc]
    levels = most if config.levels is None else config.levels
    if not size and channels < 2:  # type: ignore[operator]
        raise ConfigError("flow: a coupling needs vectors of at least 2 values", "choose other data")
    if not 1 <= levels <= most:
        raise ConfigError(
            f"model.levels={levels}: data of shape {element.shape} allows 1 to {most}", "give fewer levels"
        )
    if not size and config.checkerboard:
        raise ConfigError("model.checkerboard: vectors have no pixels", "set model.checkerboard=0")
    if not element.levels and config.margin != Config.margin:
        raise ConfigError("model.margin: real values are not mapped through the logit", "leave it out")
    if not element.levels and config.dequantisation == "variational":
        raise ConfigError(
            "model.dequantisation='variational': real values are not dequantised", "leave it at 'uniform'"
        )
    return dataclasses.replace(config, levels=levels)


@dataclasses.dataclass(frozen=True, eq=False)
class _Flow:
    """Implement the contract on the element `name`. ActNorm's statistics live in the state."""

    config: Config
    name: str
    element: Element
    label: ClassLabel
    network: Flow

    @property
    def levels(self) -> int:
        return self.element.levels or 0

    @functools.cached_property
    def size(self) -> int:
        """Return the number of values of a row."""
        return math.prod(self.element.shape)  # type: ignore[arg-type]

    def apply(self, variables: Variables, method: str, *args: Any) -> Any:
        tree = {"params": variables.params[PLAYER], flows.FITTED: variables.state}
        return self.network.apply(tree, *args, method=method)

    def condition(self, batch: Batch, rows: int) -> Float[Array, "B K"]:
        return self.label.one_hot(batch, rows)

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        x = batch[self.name].astype(jnp.float32)
        tree = self.network.init(key, x, self.condition(batch, x.shape[0]))
        return Variables({PLAYER: tree["params"]}, tree[flows.FITTED], frozen=frozen)

    def continuous(
        self, variables: Variables, batch: Batch, keys: Keys | None
    ) -> tuple[Float[Array, "B *shape"], Float[Array, " B"]]:
        """Return what enters the flow, and log |det| of that map less log q(u | x) of the noise u.

        Without keys u is 1/2, the middle of a level.
        """
        x = batch[self.name].astype(jnp.float32)
        if not self.levels:
            return x, jnp.zeros(x.shape[0])
        u, log_q = self.dequantising_noise(variables, batch, keys)
        scale = 1 - 2 * self.config.margin
        p = self.config.margin + scale * (x + u) / self.levels
        logit = jnp.log(p) - jnp.log1p(-p)
        log_det = math.log(scale / self.levels) - jnp.log(p) - jnp.log1p(-p)
        return logit, sum_row(log_det) - log_q

    def dequantising_noise(
        self, variables: Variables, batch: Batch, keys: Keys | None
    ) -> tuple[Float[Array, "B *shape"], Float[Array, " B"]]:
        """Return (u in [0, 1), log q(u | x)) per row."""
        image = batch[self.name]
        if keys is None:
            return jnp.full(image.shape, 0.5), jnp.zeros(image.shape[0])
        if self.config.dequantisation == "uniform":
            draw = jax.vmap(lambda key: jax.random.uniform(key, image.shape[1:]))
            return draw(keys), jnp.zeros(image.shape[0])
        signed = image.astype(jnp.float32) * (2.0 / (self.levels - 1)) - 1.0
        condition = self.condition(batch, image.shape[0])
        return self.apply(variables, "dequantise", normal(keys, image.shape[1:]), signed, condition)

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Fit ActNorm's statistics, layer by layer, on real rows."""
        x, _ = self.continuous(variables, batch, keys)
        tree = {"params": variables.params[PLAYER], flows.FITTED: variables.state}
        condition = self.condition(batch, x.shape[0])
        fitting = functools.partial(self.network.apply, method="forward", mutable=[flows.FITTED])
        _, changed = fitting(tree, x, condition, batch["mask"])
        return variables.replace(state=changed[flows.FITTED])

    def nats(self, variables: Variables, batch: Batch, keys: Keys) -> Float[Array, " B"]:
        """Compute -log p(x) for real values, and -log p(x + u) + log q(u | x) for whole levels, per row."""
        x, outer = self.continuous(variables, batch, keys)
        z, inner = self.apply(variables, "forward", x, self.condition(batch, x.shape[0]))
        zeros = jnp.zeros_like(z)
        return -(sum_row(likelihoods.normal(zeros, zeros, z)) + inner + outer)

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        # Per dimension, so that gradients and their clipping do not depend on the size of the data.
        nats_per_dim = self.nats(variables, batch, keys) / self.size
        loss = Mean.of(nats_per_dim, batch["mask"])
        if not self.levels:
            return loss, Aux(variables.state, {"nats_per_dim": loss})
        return loss, Aux(
            variables.state, {"bits_per_dim": Mean.of(nats_per_dim / math.log(2.0), batch["mask"])}
        )

    def likelihood(
        self, variables: Variables, batch: Batch, keys: Keys, *, samples: int = 1
    ) -> tuple[Mean, dict]:
        """Compute the nats per row.

        Args:
          samples: of the dequantising noise; the bound is -log of their mean likelihood and falls with their
            number. Real values need none.
        """
        if samples == 1 or not self.levels:
            total = self.nats(variables, batch, keys)
        else:
            one = lambda k: -self.nats(variables, batch, fold(keys, k))
            total = -likelihoods.log_mean_exp_of(one, samples, batch["mask"].shape[0])
        mask = batch["mask"]
        return Mean(jnp.where(mask > 0, total, 0), self.size * mask), {}

    def sample(
        self, variables: Variables, keys: Keys, prompt: Batch, *, temperature: NotNegative = 1.0
    ) -> Batch:
        """Draw rows; labels that are not given are random.

        Args:
          temperature: standard deviation of the noise (Kingma & Dhariwal 2018, sec. 6).
        """
        label = self.label.drawn(prompt, keys)
        z = temperature * normal(keys, (self.size,))
        return {self.name: self.data(variables, z, label), **label}

    def data(self, variables: Variables, z: Float[Array, "B D"], label: Batch) -> jax.Array:
        """Return the rows that the noise stands for; levels by rounding down."""
        x = self.real(variables, z, label)
        if not self.levels:
            return x
        # Level k is the interval [k, k + 1), whose middle `real` returns as k.
        level = jnp.clip(jnp.floor(x + 0.5), 0, self.levels - 1)
        return level.astype(self.element.dtype)

    def real(self, variables: Variables, z: Float[Array, "B D"], label: Batch) -> jax.Array:
        """Return the real values that the noise stands for, in the units of the data."""
        x = self.apply(variables, "inverse", z, self.condition(label, z.shape[0]))
        if not self.levels:
            return x
        value = (nn.sigmoid(x) - self.config.margin) / (1 - 2 * self.config.margin)
        return value * self.levels - 0.5

    def code_spec(self, spec: Spec) -> Spec:
        """Return the spec with `latent`, the noise, in the place of the data."""
        latent = Element((self.size,), "float32", role="target")
        items = spec.elements.items()
        elements = dict((LATENT, latent) if name == self.name else (name, e) for name, e in items)
        return dataclasses.replace(spec, elements=elements)

    def encode(self, variables: Variables, batch: Batch, keys: Keys | None = None) -> Batch:
        """Return `latent`, the noise of each row, and the other elements."""
        x, _ = self.continuous(variables, batch, keys)
        z, _ = self.apply(variables, "forward", x, self.condition(batch, x.shape[0]))
        return {LATENT: z, **{k: v for k, v in batch.items() if k != self.name}}

    def decode(self, variables: Variables, codes: Batch) -> Batch:
        """Return the rows of the codes, with the other elements."""
        rest = {k: v for k, v in codes.items() if k != LATENT}
        return {self.name: self.data(variables, codes[LATENT], codes), **rest}

    def expected(self, variables: Variables, codes: Batch) -> Batch:
        """Return the rows of the codes before they are rounded, in the units of the data."""
        return {self.name: self.real(variables, codes[LATENT], codes)}
