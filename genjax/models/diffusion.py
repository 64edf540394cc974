"""Denoising diffusion (Ho et al. 2020, arXiv:2006.11239), class-conditional if the data has labels.

One network learns to remove Gaussian noise of every strength; sampling removes it step by step. The papers
differ in what the network predicts (the noise, the data, the velocity), in the schedule and in the weighting
of the loss: all three are fields of the config. Flow matching is the schedule "straight" with the prediction
"flow_velocity". The likelihood is bounded along the discrete chain.

Data are quantised images, or real values of about unit scale: images and feature maps (H, W, C) with a U-Net
or a transformer, vectors (D,) with a residual MLP.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from genjax.config import Count, Layers, NotNegative, Positive, Probability, Range, Rate, Share, Signed, Width
from genjax.core import Aux, Batch, Denoiser, Element, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import noise, pixels, schedules
from genjax.functional.chain_bound import Chain
from genjax.functional.noise import fold
from genjax.nn import conditions
from genjax.nn.conditions import ClassLabel
from genjax.nn.dit import DiT
from genjax.nn.embedding import lookup
from genjax.nn.residual_mlp import ResidualMLP
from genjax.nn.time_embedding import TimeEmbedding
from genjax.nn.transformer import Stack
from genjax.nn.unet import UNet
from genjax.sampling import diffusion as sampling

PLAYER = "denoiser"
STATIC = ("steps", "spacing", "sampler", "eta", "variance", "order", "churn", "guidance", "clip", "quantile")
"""Options of the sampler that are constants of its program: a new value compiles anew."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a diffusion model.

    Attributes:
      network: "unet" or "transformer" (DiT) for images (H, W, C), "mlp" for any shape (flattened); "auto"
        takes the U-Net for images and the MLP for vectors.
      width: channels at the full size; of the residual stream of the MLP and the transformer. Even; a
        multiple of 4 for the transformer.
      multipliers: of the width, one per level of the U-Net; each level halves the size.
      blocks: residual blocks per level of the U-Net; blocks in all of the MLP and the transformer.
      attention: image sizes at which blocks of the U-Net are followed by attention; the lowest level always
        has one.
      head: channels of an attention head of the U-Net and the transformer.
      groups: of the U-Net's group normalisation.
      patch: side of the transformer's patches in pixels.
      dropout: rate in the residual blocks.
      schedule: the betas of the chain: "linear" (Ho et al. 2020) or "cosine" (Nichol & Dhariwal 2021); or
        "straight", the path of flow matching (Liu et al. 2023).
      timesteps: T, the steps of the chain.
      times: distribution of the training times: "uniform", or "logit_normal" with parameters 0 and 1 (Esser
        et al. 2024, arXiv:2403.03206, sec. 3.1).
      prediction: output of the network: "noise", "data", "velocity" or "flow_velocity" (see
        functional.diffusion).
      weighting: of the squared error over times: "uniform", "min_snr" or "bound".
      gamma: of "min_snr".
      label_dropout: share of training rows whose label is hidden, which guidance needs.
      variance: of the reverse steps in the bound: "small" or "large".
      dtype: of the network's computation; parameters are float32.
      remat: recompute activations of the U-Net or the transformer in the backward pass: less memory, more
        time.
    """

    network: Literal["auto", "unet", "transformer", "mlp"] = "auto"
    width: Width = 32
    multipliers: tuple[Width, ...] = (1, 2, 2)
    blocks: Layers = 2
    attention: tuple[Count, ...] = ()
    head: Width = 32
    groups: Width = 8
    patch: Width = 2
    dropout: Rate = 0.0
    schedule: schedules.Schedule = "linear"
    timesteps: Annotated[int, Range(least=1, most=1_000_000)] = 1000
    times: Literal["uniform", "logit_normal"] = "uniform"
    prediction: gaussian.Prediction = "noise"
    weighting: gaussian.Weighting = "uniform"
    gamma: Positive = 5.0
    label_dropout: Share = 0.1
    variance: gaussian.Variance = "small"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False


UNUSED = {
    "unet": ("patch",),
    "transformer": ("multipliers", "attention", "groups"),
    "mlp": ("multipliers", "attention", "head", "groups", "patch", "remat"),
}
"""Fields of the config that a network does not have."""


class Network(nn.Module):
    """Map (x_t, t, label) to the predicted quantity. A negative label means no label.

    Attributes:
      config: with `network` "unet", "transformer" or "mlp".
      channels: of the output images.
      classes: 0 without labels.
    """

    config: Config
    channels: int
    classes: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *shape"],
        t: Float[Array, " B"],
        label: Int[Array, " B"],
        keys: Keys | None = None,
    ) -> Float[Array, "B *shape"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        width = c.width if c.network == "transformer" else 4 * c.width
        condition = TimeEmbedding(width, c.width, dtype, name="time")(t)
        if self.classes:
            table = self.param("label", nn.initializers.normal(0.02), (self.classes + 1, width))
            condition += lookup(table, conditions.slots(label, self.classes)).astype(dtype)
        if c.network == "mlp":
            flat = x.reshape(x.shape[0], -1)
            net = ResidualMLP(flat.shape[1], c.width, c.blocks, c.dropout, dtype, name="mlp")
            return net(flat, condition, keys).reshape(x.shape)
        if c.network == "transformer":
            return DiT(self.channels, c.patch, _stack(c), name="transformer")(x, condition, keys)
        names = ("width", "multipliers", "blocks", "attention", "head", "dropout", "groups", "remat")
        fields = {n: getattr(c, n) for n in names}
        return UNet(self.channels, **fields, dtype=dtype, name="unet")(x, condition, keys)


def _stack(c: Config) -> Stack:
    """Return the transformer's stack: squared ReLU, and queries and keys normalised."""
    return Stack(
        layers=c.blocks,
        heads=c.width // c.head,
        width=c.width,
        hidden=4 * c.width,
        activation="relu2",
        causal=False,
        qk_norm=True,
        dropout=c.dropout,
        remat=c.remat,
        dtype=c.dtype,
    )


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first target that is an image or a real-valued vector.

    The likelihood is a "bound" for quantised images and of kind "density" for real values: an upper bound of
    the negative log density. Samples of real-valued data are not clipped by default.

    Raises:
      ConfigError: the data has no such target, or it does not fit the network.
    """
    del stages
    name = _target(spec)
    element = spec[name]
    label = ClassLabel.of(spec)
    config = dataclasses.replace(config, network=_network(config, name, element))
    _check(config, element)
    network = Network(config, element.shape[-1], label.classes)
    m = _Diffusion(config, name, element, label, network, schedules.chain(config.schedule, config.timesteps))
    return Model(
        init=m.init,
        phases={"denoise": Phase(PLAYER, m.objective)},
        sample=jax.jit(m.for_data(m.sample), static_argnames=STATIC),
        denoiser=m.denoiser,
        likelihood=jax.jit(m.for_data(m.likelihood), static_argnames=("terms", "clip")),
        likelihood_kind="bound" if element.levels else "density",
    )


def _target(spec: Spec) -> str:
    """Return the first target that is an image (H, W, C), of whole levels or real, or a real vector (D,)."""
    for name in spec.targets:
        element = spec[name]
        if len(element.shape) == 3 or (len(element.shape) == 1 and not element.levels):
            return name
    raise ConfigError(
        "diffusion needs an image or a real-valued vector as the target; "
        f"the data has {', '.join(sorted(spec.elements))}",
        "choose data with such a target, or another model",
    )


def _network(config: Config, name: str, element: Element) -> Literal["unet", "transformer", "mlp"]:
    """Return the network for this element."""
    if config.network == "auto":
        return "unet" if len(element.shape) == 3 else "mlp"
    if config.network != "mlp" and len(element.shape) != 3:
        raise ConfigError(
            f"the network {config.network!r} needs a target (H, W, C); {name} has shape {element.shape}",
            "set model.network to mlp",
        )
    return config.network


def _check(config: Config, element: Element) -> None:
    """Refuse fields that the network does not use, and sizes that do not fit each other."""
    for field in UNUSED[config.network]:
        if getattr(config, field) != Config.__dataclass_fields__[field].default:
            raise ConfigError(
                f"model.{field} has no effect on the network {config.network!r}", "leave it out"
            )
    if config.schedule == "straight" and config.prediction == "noise":
        raise ConfigError(
            "model.prediction='noise' does not determine the data at time 1 of the schedule 'straight'",
            "set model.prediction to flow_velocity, velocity or data",
        )
    if config.network != "transformer":
        return
    if any(side % config.patch for side in element.shape[:2]):
        raise ConfigError(
            f"model.patch={config.patch} does not divide the image's size {element.shape[:2]}",
            "choose a divisor of both sides",
        )
    if config.width % 4 or config.width % config.head:
        raise ConfigError(
            f"model.width={config.width} must be a multiple of 4 and of model.head={config.head}",
            "change one of them",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Diffusion:
    """Implement the contract on the element `name`. `path` is t in [0, 1] -> (alpha, sigma)."""

    config: Config
    name: str
    element: Element
    label: ClassLabel
    network: Network
    path: schedules.Path

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        return Denoiser(self.path, self.denoise)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.element.shape

    def for_data(self, function: Callable) -> Callable:
        """Return the function with clip=None as its default for real values, whose range is unknown."""
        return function if self.element.levels else functools.partial(function, clip=None)

    def read(self, batch: Batch) -> Float[Array, "B *shape"]:
        """Return x_0: grey levels mapped to [-1, 1], real values as they are."""
        x = batch[self.name]
        return pixels.to_signed(x, self.element.levels) if self.element.levels else x.astype(jnp.float32)

    def written(self, x: Float[Array, "B *shape"]) -> Shaped[Array, "B *shape"]:
        """Return x_0 in the form of the data."""
        if self.element.levels:
            return pixels.from_signed(x, self.element.levels)
        return x.astype(self.element.dtype)

    def init(self, key: jax.Array, batch: Batch, frozen: Mapping[str, Variables]) -> Variables:
        x = jnp.zeros((1, *self.shape))
        params = self.network.init(key, x, jnp.zeros((1,)), self.label.index({}, 1))["params"]
        return Variables(params={PLAYER: params})

    def output(self, variables: Variables, x: Array, t: Array, label: Array, keys: Keys | None = None) -> Any:
        return self.network.apply({"params": variables.params[PLAYER]}, x, t, label, keys)

    def denoise(self, variables: Variables, x: Array, t: Array, prompt: Batch) -> Array:
        out = self.output(variables, x, t, self.label.index(prompt, x.shape[0]))
        return gaussian.to_data(self.config.prediction, out, x, self.path(t))

    # --- learning --------------------------------------------------------------------------------------

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c = self.config
        x_0 = self.read(batch)
        label = self.label.index(batch, x_0.shape[0])
        i = self.times(fold(keys, 0))
        epsilon = noise.normal(fold(keys, 1), self.shape)
        if step is not None and c.label_dropout > 0:
            label = conditions.hidden(fold(keys, 2), label, c.label_dropout)
        now = self.path(i / c.timesteps)
        x_t = gaussian.diffuse(x_0, epsilon, now)
        out = self.output(variables, x_t, i / c.timesteps, label, None if step is None else fold(keys, 3))
        squared = (out - gaussian.target(c.prediction, x_0, epsilon, now)) ** 2
        error = jnp.mean(squared, axis=tuple(range(1, squared.ndim)))
        loss = Mean.of(self.weight(i, now) * error, batch["mask"])
        return loss, Aux(variables.state, {"mse": Mean.of(error, batch["mask"])})

    def times(self, keys: Keys) -> Int[Array, " B"]:
        """Draw a step of the chain, 1 .. T, per row."""
        T = self.config.timesteps
        if self.config.times == "uniform":
            return noise.integers(keys, 1, T + 1)
        t = jax.nn.sigmoid(noise.normal(keys, ()))
        return jnp.clip(jnp.ceil(T * t).astype(jnp.int32), 1, T)

    def weight(self, i: Int[Array, " B"], now: gaussian.Coefficients) -> Float[Array, " B"]:
        """Return the weight of the squared error at step i of the chain."""
        c = self.config
        if c.weighting != "bound":
            return gaussian.weight(c.weighting, c.prediction, now, now, gamma=c.gamma)
        # The bound's weight at the chain's first step would be infinite: the second step's takes its place.
        before = self.path(jnp.maximum(i - 1, 1) / c.timesteps)
        after = self.path(jnp.maximum(i, 2) / c.timesteps)
        return gaussian.weight(c.weighting, c.prediction, before, after)

    # --- sampling --------------------------------------------------------------------------------------

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        steps: Count = 50,
        spacing: schedules.Spacing = "trailing",
        sampler: str | sampling.Method = "ddim",
        eta: NotNegative | None = None,
        variance: gaussian.Variance | None = None,
        order: Count | None = None,
        churn: NotNegative | None = None,
        guidance: Signed = 1.0,
        clip: Positive | None = 1.0,
        quantile: Probability | None = None,
    ) -> Batch:
        """Draw rows like the data's, one per key; the options are those of sampling.diffusion.sample.

        Args:
          steps: of the sampler, spaced over the chain of `timesteps`.
          spacing: of the steps: see functional.schedules.times.

        Raises:
          ConfigError: more steps than the chain has, or options that do not fit the sampler.
        """
        chain = self.config.timesteps
        if steps > chain:
            raise ConfigError(
                f"steps={steps} of the sampler are more than timesteps={chain}", "take fewer steps"
            )
        given = self.label.given(prompt)
        index = self.label.index(prompt, keys.shape[0])
        null = {name: jnp.full_like(index, conditions.NULL) for name in given} or None
        x = sampling.sample(
            self.denoiser,
            variables,
            keys,
            dict.fromkeys(given, index),
            schedules.times(steps, chain, spacing),
            shape=self.shape,
            sampler=sampler,
            eta=eta,
            variance=variance,
            order=order,
            churn=churn,
            guidance=guidance,
            null=null,
            clip=clip,
            quantile=quantile,
        )
        return {self.name: self.written(x), **given}

    # --- likelihood ------------------------------------------------------------------------------------

    def likelihood(
        self,
        variables: Variables,
        batch: Batch,
        keys: Keys,
        *,
        terms: int | None = 32,
        clip: float | None = 1.0,
    ) -> tuple[Mean, dict]:
        """Compute the variational bound in nats per row, given the label if there is one.

        See functional/chain_bound.py.

        Args:
          terms: number of the T - 1 middle terms that are evaluated per row, evenly spaced from a random
            start: an unbiased estimate. None evaluates all of them (T evaluations of the network).
          clip: estimates of x_0 are clipped to [-clip, clip].
        """
        x_0 = self.read(batch)
        given = self.label.given(batch)

        def estimate(i: Int[Array, " B"], n: int | Array) -> Array:
            """Return E[x_0 | x_i] with the noise of stream n."""
            t = i / self.config.timesteps
            x_t = gaussian.diffuse(x_0, noise.normal(fold(keys, n), self.shape), self.path(t))
            return sampling.threshold(self.denoise(variables, x_t, t, given), clip)

        chain = Chain(self.path, self.config.timesteps, self.config.variance)
        # The order of this sum is kept: float32 results are compared to the bit.
        total = chain.prior_term(x_0) - chain.decoder_term(batch[self.name], estimate, self.element.levels)
        if chain.steps > 1 and terms != 0:
            total = total + chain.middle_terms(x_0, estimate, fold(keys, 1), terms)
        units = float(math.prod(self.shape))
        return Mean(jnp.where(batch["mask"] > 0, total, 0.0), units * batch["mask"]), {}
