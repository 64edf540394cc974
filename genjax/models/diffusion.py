"""Denoising diffusion (Ho et al. 2020, arXiv:2006.11239), class-conditional where the data has labels.

One U-Net learns to undo Gaussian noise of every strength; sampling undoes it step by step. What differs
between the papers is in the config: what is predicted (the noise, the data, the velocity), the schedule, the
weighting of the loss. The bound of the likelihood is the discrete chain's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.core import Aux, Batch, Denoiser, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import pixels, schedules
from genjax.functional.divergences import kl_normal
from genjax.functional.likelihoods import discretised_normal
from genjax.nn.dropout import fold
from genjax.nn.embedding import lookup
from genjax.nn.time_embedding import TimeEmbedding
from genjax.nn.unet import UNet
from genjax.sampling import diffusion as sampling

STATIC = ("steps", "spacing", "sampler", "eta", "variance", "guidance", "clip", "quantile")
"""The sampler's knobs: a new value compiles anew."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The diffusion model.

    Attributes:
      width: channels at the full size.
      multipliers: of the width, one per level; each level halves the size.
      blocks: residual blocks per level.
      attention: image sizes at which blocks are followed by attention; the lowest level has it once anyway.
      head: channels of an attention head.
      groups: of the group normalisation.
      dropout: rate in the residual blocks.
      schedule: the betas of the chain: "linear" (Ho et al. 2020) or "cosine" (Nichol & Dhariwal 2021).
      timesteps: T, the steps of the chain.
      prediction: what the network says: "noise", "data" or "velocity".
      weighting: of the squared error over times: "uniform", "min_snr" or "bound".
      gamma: of "min_snr".
      label_dropout: the fraction of training rows shown without their label, so that sampling can be guided.
      variance: of the reverse steps in the bound: "small" or "large".
      dtype: of the network's computation; parameters are float32.
      remat: recompute activations in the backward pass: less memory, more time.
    """

    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    head: int = 32
    groups: int = 8
    dropout: float = 0.0
    schedule: Literal["linear", "cosine"] = "linear"
    timesteps: int = 1000
    prediction: gaussian.Prediction = "noise"
    weighting: gaussian.Weighting = "uniform"
    gamma: float = 5.0
    label_dropout: float = 0.1
    variance: gaussian.Variance = "small"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False


class Network(nn.Module):
    """(x_t, t, label) -> the network's output. A label below 0 is none."""

    config: Config
    channels: int
    classes: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        t: Float[Array, " B"],
        label: Int[Array, " B"],
        keys: Keys | None = None,
    ) -> Float[Array, "B H W C"]:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        condition = TimeEmbedding(4 * c.width, c.width, dtype, name="time")(t)
        if self.classes:
            index = jnp.where(label < 0, self.classes, label)
            table = self.param("label", nn.initializers.normal(0.02), (self.classes + 1, 4 * c.width))
            condition += lookup(table, index).astype(dtype)
        names = ("width", "multipliers", "blocks", "attention", "head", "dropout", "groups", "remat")
        fields = {n: getattr(c, n) for n in names}
        return UNet(self.channels, **fields, dtype=dtype, name="unet")(x, condition, keys)


def _labels(prompt: Mapping[str, Any], num: int) -> Int[Array, " B"]:
    """The rows' labels; -1 where there are none."""
    return prompt["label"].astype(jnp.int32) if "label" in prompt else jnp.full((num,), -1, jnp.int32)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """The model of this data.

    Raises:
      ConfigError: where the data has no quantised image.
    """
    if "image" not in spec or not spec["image"].levels:
        raise ConfigError(
            f"diffusion reads quantised images, and this data has {', '.join(sorted(spec.elements))}",
            "choose data with an image element, or another model",
        )
    path = schedules.chain(config.schedule, config.timesteps)
    shape, levels = spec["image"].shape, spec["image"].levels
    m = _Diffusion(config, shape, levels, Network(config, shape[-1], spec.classes()), path)
    return Model(
        init=m.init,
        phases={"denoise": Phase("denoiser", m.objective)},
        sample=jax.jit(m.sample, static_argnames=STATIC),
        denoiser=m.denoiser,
        likelihood=jax.jit(m.likelihood, static_argnames=("terms", "clip")),
        likelihood_kind="bound",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Diffusion:
    """The functions of the contract. `path` is t in [0, 1] -> (alpha, sigma)."""

    config: Config
    shape: tuple[int, ...]
    levels: int
    network: Network
    path: schedules.Path

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        return Denoiser(self.path, self.denoise)

    def init(self, key: jax.Array, batch: Batch, frozen: Mapping[str, Variables]) -> Variables:
        x, t = jnp.zeros((1, *self.shape)), jnp.zeros((1,))
        return Variables(params={"denoiser": self.network.init(key, x, t, _labels({}, 1))["params"]})

    def output(self, variables: Variables, x: Array, t: Array, label: Array, keys: Keys | None = None) -> Any:
        return self.network.apply({"params": variables.params["denoiser"]}, x, t, label, keys)

    def denoise(self, variables: Variables, x: Array, t: Array, prompt: Batch) -> Array:
        out = self.output(variables, x, t, _labels(prompt, x.shape[0]))
        return gaussian.to_data(self.config.prediction, out, x, self.path(t))

    def read(self, batch: Batch) -> tuple[Float[Array, "B H W C"], Int[Array, " B"]]:
        """(x_0, label)."""
        images = batch["image"]
        return pixels.to_signed(images, self.levels), _labels(batch, images.shape[0])

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c, T, path = self.config, self.config.timesteps, self.path
        x_0, label = self.read(batch)
        i = jax.vmap(lambda key: jax.random.randint(key, (), 1, T + 1))(fold(keys, 0))
        noise = sampling.normal(keys, self.shape, 1)
        if step is not None and c.label_dropout > 0:
            hide = jax.vmap(lambda key: jax.random.bernoulli(key, c.label_dropout))(fold(keys, 2))
            label = jnp.where(hide, -1, label)
        now = path(i / T)
        x_t = gaussian.diffuse(x_0, noise, now)
        drop = None if step is None else fold(keys, 3)
        out = self.output(variables, x_t, i / T, label, drop)
        error = jnp.mean((out - gaussian.target(c.prediction, x_0, noise, now)) ** 2, axis=(1, 2, 3))
        # The bound's weight of the chain's first step would be infinite: its neighbour's stands in.
        before = path(jnp.maximum(i - 1, 1) / T), path(jnp.maximum(i, 2) / T)
        before = before if c.weighting == "bound" else (now, now)
        weight = gaussian.weight(c.weighting, c.prediction, *before, gamma=c.gamma)
        mse = Mean.of(error, batch["mask"])
        return Mean.of(weight * error, batch["mask"]), Aux(variables.state, {"mse": mse})

    def sample(
        self,
        variables: Variables,
        keys: Keys,
        prompt: Batch,
        *,
        steps: int = 50,
        spacing: schedules.Spacing = "trailing",
        sampler: str | sampling.Method = "ddim",
        eta: float | None = None,
        variance: gaussian.Variance | None = None,
        guidance: float = 1.0,
        clip: float | None = 1.0,
        quantile: float | None = None,
    ) -> Batch:
        """Images like the data's, one per key; knobs as in sampling.diffusion.sample."""
        label = {"label": _labels(prompt, keys.shape[0])}
        null = {"label": jnp.full_like(label["label"], -1)} if "label" in prompt else None
        x = sampling.sample(
            self.denoiser,
            variables,
            keys,
            label,
            schedules.times(steps, self.config.timesteps, spacing),
            shape=self.shape,
            sampler=sampler,
            eta=eta,
            variance=variance,
            guidance=guidance,
            null=null,
            clip=clip,
            quantile=quantile,
        )
        given = {k: prompt[k] for k in ("label",) if k in prompt}
        return {"image": pixels.from_signed(x, self.levels), **given}

    def likelihood(
        self,
        variables: Variables,
        batch: Batch,
        keys: Keys,
        *,
        terms: int | None = 32,
        clip: float | None = 1.0,
    ) -> tuple[Mean, Any]:
        """The variational bound in nats, per row (Ho et al. 2020, eq. 5); given the label where there is one.

        Args:
          terms: of the T - 1 middle terms, how many are evaluated for each row, evenly spaced from a random
            start: an unbiased estimate. None evaluates all of them (T evaluations of the network).
          clip: estimates of x_0 are clipped to [-clip, clip].
        """
        (x_0, label), T, path = self.read(batch), self.config.timesteps, self.path
        large = self.config.variance == "large"
        terms = T - 1 if terms is None else min(terms, T - 1)

        def estimate(i: Array, n: Any) -> Array:
            x_t = gaussian.diffuse(x_0, sampling.normal(keys, self.shape, n), path(i / T))
            return sampling.threshold(self.denoise(variables, x_t, i / T, {"label": label}), clip)

        def middle(total: Array, k: Array) -> tuple[Array, None]:
            i = jnp.minimum(2 + jnp.floor((k + start) * ((T - 1) / terms)).astype(jnp.int32), T)
            s, t = path((i - 1) / T), path(i / T)
            _, of_data, v = gaussian.posterior_coefficients(s, t)
            # Posterior and model share their part of x_t; only their estimates of x_0 differ.
            q, p = gaussian.spread(of_data, x_0) * x_0, gaussian.spread(of_data, x_0) * estimate(i, k + 2)
            return total + _kl(q, v, p, gaussian.step_variance(s, t, self.config.variance)), None

        # The posterior of the first step has no variance: "small" takes the second's (Nichol & Dhariwal).
        s, t = (path(jnp.asarray(i / T)) for i in ((0, 1) if large else (1, 2)))
        log_std = 0.5 * jnp.log(gaussian.spread(gaussian.step_variance(s, t, self.config.variance), x_0))
        mean = estimate(jnp.ones(x_0.shape[0], jnp.int32), 0)
        decoded = discretised_normal(mean, log_std, batch["image"], self.levels)
        alpha, sigma = path(jnp.ones(()))
        prior = _kl(alpha * x_0, sigma**2, jnp.zeros_like(x_0), jnp.ones(()))
        total = prior - decoded.reshape(x_0.shape[0], -1).sum(1)
        if terms:
            uniform = jax.vmap(lambda key: jax.random.uniform(key))
            start = 0.0 if terms == T - 1 else uniform(fold(keys, 1))
            summed, _ = jax.lax.scan(middle, jnp.zeros_like(total), jnp.arange(terms))
            total = total + summed * ((T - 1) / terms)
        units = float(np.prod(self.shape))
        return Mean(jnp.where(batch["mask"] > 0, total, 0.0), units * batch["mask"]), {}


def _kl(mean_q: Array, variance_q: Array, mean_p: Array, variance_p: Array) -> Float[Array, " B"]:
    """Nats of each row from one normal to the other."""
    q, p = (0.5 * jnp.log(gaussian.spread(v, mean_q)) for v in (variance_q, variance_p))
    return kl_normal(mean_q, q, mean_p, p).reshape(mean_q.shape[0], -1).sum(1)
