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
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.config import Count, NotNegative, Positive, Probability, Share, Signed
from genjax.core import Aux, Batch, Denoiser, Element, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import noise, schedules
from genjax.functional.chain_bound import Chain
from genjax.functional.flow_likelihood import log_density
from genjax.functional.noise import fold
from genjax.models._diffusion_config import TIMES, Config, check_fit, network_of
from genjax.models._diffusion_data import Target
from genjax.models._diffusion_network import Network
from genjax.nn import conditions
from genjax.nn.conditions import ClassLabel
from genjax.sampling import diffusion as sampling

PLAYER = "denoiser"
STATIC = (
    *("steps", "spacing", "sampler", "eta", "variance", "order", "churn"),
    *("guidance", "interval", "rescale", "clip", "quantile"),
)
"""Options of the sampler that are constants of its program: a new value compiles anew."""


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first target that is an image or a real-valued vector.

    The likelihood is a "bound" for quantised images and of kind "density" for real values: an upper bound of
    the negative log density. Samples of real-valued data are not clipped by default.

    Raises:
      ConfigError: the data has no such target, or it does not fit the network.
    """
    del stages
    target = Target.of(spec)
    element = target.element
    label = ClassLabel.of(spec)
    config = dataclasses.replace(config, network=network_of(config, target.name, element))
    check_fit(config, element)
    network = Network(config, element.shape[-1], label.classes)
    m = _Diffusion(config, target, label, network, schedules.chain(config.schedule, config.timesteps))
    return Model(
        init=m.init,
        phases={"denoise": Phase(PLAYER, m.objective)},
        sample=jax.jit(m.for_data(m.sample), static_argnames=STATIC),
        denoiser=m.denoiser,
        likelihood=jax.jit(
            m.for_data(m.likelihood), static_argnames=("method", "terms", "steps", "probes", "clip")
        ),
        likelihood_kind="bound" if element.levels else "density",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Diffusion:
    """Implement the contract. `path` is t in [0, 1] -> (alpha, sigma)."""

    config: Config
    data: Target
    label: ClassLabel
    network: Network
    path: schedules.Path

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        return Denoiser(
            lambda variables: self.path,
            self.denoise,
            self.read,
            self.expected,
            self.times_of,
            self.hidden,
        )

    @property
    def element(self) -> Element:
        return self.data.element

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def for_data(self, function: Callable) -> Callable:
        """Return the function with clip=None as its default for real values, whose range is unknown."""
        return function if self.element.levels else functools.partial(function, clip=None)

    def read(self, variables: Variables, batch: Batch) -> tuple[Float[Array, "B *shape"], Batch]:
        """Return x_0 and the label."""
        del variables
        return self.data.read(batch), self.label.given(batch)

    def expected(self, variables: Variables, x_0: Float[Array, "B *shape"], given: Batch) -> Batch:
        """Return x_0 in the units of the data, not rounded."""
        del variables, given
        return {self.data.name: self.data.expected(x_0)}

    def times_of(self, steps: int, spacing: schedules.Spacing | None = None) -> np.ndarray:
        """Return the times to sample along.

        Raises:
          ConfigError: more steps than the chain has.
        """
        chain = self.config.timesteps
        if steps > chain:
            raise ConfigError(
                f"steps={steps} of the sampler are more than timesteps={chain}", "take fewer steps"
            )
        spacing = spacing or "trailing"
        times = schedules.times(steps, chain, spacing, self.path)
        if spacing in ("karras", "log_snr"):  # these are places of the noise, wherever the times are
            return times
        return np.asarray(schedules.shifted(times, self.config.shift))

    def hidden(self, given: Batch) -> Batch:
        """Return the conditions without a label."""
        return {name: jnp.full_like(x, conditions.NULL) for name, x in given.items()}

    def init(self, key: jax.Array, batch: Batch, frozen: Mapping[str, Variables]) -> Variables:
        x = jnp.zeros((1, *self.shape))
        params = self.network.init(key, x, jnp.zeros((1,)), self.label.index({}, 1))["params"]
        return Variables(params={PLAYER: params})

    def output(self, variables: Variables, x: Array, t: Array, label: Array, keys: Keys | None = None) -> Any:
        if self.config.prediction == "edm":
            c_in = gaussian.preconditioning(self.path(t), self.config.data_std)[2]
            x = gaussian.spread(c_in, x) * x
        return self.network.apply({"params": variables.params[PLAYER]}, x, t, label, keys)

    def denoise(self, variables: Variables, x: Array, t: Array, prompt: Batch) -> Array:
        out = self.output(variables, x, t, self.label.index(prompt, x.shape[0]))
        return gaussian.to_data(self.config.prediction, out, x, self.path(t), self.config.data_std)

    # --- learning --------------------------------------------------------------------------------------

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c = self.config
        x_0 = self.data.read(batch)
        label = self.label.index(batch, x_0.shape[0])
        i = self.times(fold(keys, 0))
        epsilon = noise.normal(fold(keys, 1), self.shape)
        if step is not None and c.label_dropout > 0:
            label = conditions.hidden(fold(keys, 2), label, c.label_dropout)
        now = self.path(i / c.timesteps)
        x_t = gaussian.diffuse(x_0, epsilon, now)
        out = self.output(variables, x_t, i / c.timesteps, label, None if step is None else fold(keys, 3))
        squared = (out - gaussian.target(c.prediction, x_0, epsilon, now, c.data_std)) ** 2
        error = jnp.mean(squared, axis=tuple(range(1, squared.ndim)))
        loss = Mean.of(self.weight(i, now) * error, batch["mask"])
        return loss, Aux(variables.state, {"mse": Mean.of(error, batch["mask"])})

    def times(self, keys: Keys) -> Int[Array, " B"]:
        """Draw a step of the chain, 1 .. T, per row."""
        c = self.config
        T = c.timesteps
        if c.times == "uniform":
            if c.shift == 1:
                return noise.integers(keys, 1, T + 1)
            t = noise.uniform(keys)
        else:
            mean, std = TIMES[c.times]
            mean = mean if c.times_mean is None else c.times_mean
            n = mean + (c.times_std or std) * noise.normal(keys, ())
            # log(sigma / alpha) is n.
            t = jax.nn.sigmoid(n) if c.times == "logit_normal" else schedules.time_of(self.path, -n)
        return jnp.clip(jnp.ceil(T * schedules.shifted(t, c.shift)).astype(jnp.int32), 1, T)

    def weight(self, i: Int[Array, " B"], now: gaussian.Coefficients) -> Float[Array, " B"]:
        """Return the weight of the squared error at step i of the chain."""
        c = self.config
        how = {"gamma": c.gamma, "bias": c.bias, "spread_of_data": c.data_std}
        if c.weighting != "bound":
            return gaussian.weight(c.weighting, c.prediction, now, now, **how)
        # The bound's weight at the chain's first step would be infinite: the second step's takes its place.
        before = self.path(jnp.maximum(i - 1, 1) / c.timesteps)
        after = self.path(jnp.maximum(i, 2) / c.timesteps)
        return gaussian.weight(c.weighting, c.prediction, before, after, **how)

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
        interval: tuple[Share, Share] = (0.0, 1.0),
        rescale: Share = 0.0,
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
        times = self.times_of(steps, spacing)
        given = self.label.given(prompt)
        index = self.label.index(prompt, keys.shape[0])
        null = {name: jnp.full_like(index, conditions.NULL) for name in given} or None
        x = sampling.sample(
            self.denoiser,
            variables,
            keys,
            dict.fromkeys(given, index),
            times,
            shape=self.shape,
            sampler=sampler,
            eta=eta,
            variance=variance,
            order=order,
            churn=churn,
            guidance=guidance,
            interval=interval,
            rescale=rescale,
            null=null,
            clip=clip,
            quantile=quantile,
        )
        return {self.data.name: self.data.written(x), **given}

    # --- likelihood ------------------------------------------------------------------------------------

    def likelihood(
        self,
        variables: Variables,
        batch: Batch,
        keys: Keys,
        *,
        method: Literal["bound", "ode"] = "bound",
        terms: int | None = 32,
        steps: Count = 40,
        probes: Count | None = 1,
        clip: float | None = 1.0,
    ) -> tuple[Mean, dict]:
        """Compute nats per row, given the label if there is one.

        Args:
          method: "bound" is the variational bound along the chain (functional/chain_bound.py); "ode" is the
            density of the probability-flow ODE (functional/flow_likelihood.py), of quantised images with
            uniform noise in each level, which makes it a bound of another kind.
          terms: of "bound": number of the T - 1 middle terms that are evaluated per row, evenly spaced from a
            random start: an unbiased estimate. None evaluates all of them (T evaluations of the network).
          steps: of "ode".
          probes: of "ode": vectors of Hutchinson's estimate; None for the exact trace.
          clip: estimates of x_0 are clipped to [-clip, clip] by "bound".

        Raises:
          ConfigError: options of the other method.
        """
        if method == "bound" and (steps, probes) != (40, 1):
            raise ConfigError("steps and probes have no effect on method='bound'", "set method to ode")
        if method == "ode" and terms != 32:
            raise ConfigError("terms has no effect on method='ode'", "leave it out")
        units = float(math.prod(self.shape))
        nats = (
            self.bound(variables, batch, keys, terms, clip)
            if method == "bound"
            else -self.log_density(variables, batch, keys, steps, probes)
        )
        return Mean(jnp.where(batch["mask"] > 0, nats, 0.0), units * batch["mask"]), {}

    def log_density(
        self, variables: Variables, batch: Batch, keys: Keys, steps: int, probes: int | None
    ) -> Float[Array, " B"]:
        """Return log p(x_0) under the ODE; of quantised images the log probability's lower bound."""
        x_0 = self.data.read(batch)
        width = 0.0
        if self.element.levels:
            # Level k fills the bin around 2 k / (levels - 1) - 1.
            scale = 2.0 / (self.element.levels - 1)
            x_0 = x_0 + scale * (jax.vmap(lambda k: jax.random.uniform(k, self.shape))(fold(keys, 9)) - 0.5)
            width = math.prod(self.shape) * math.log(scale)
        given = self.label.given(batch)
        T = self.config.timesteps
        with jax.ensure_compile_time_eval():
            signal = bool(self.path(jnp.ones(()))[0] > 1e-4)
        ends = (1.0 / T, 1.0 if signal else 1.0 - 1.0 / T)
        denoise = lambda x, t: self.denoise(variables, x, t, given)
        return width + log_density(denoise, self.path, x_0, keys, ends, steps, probes)

    def bound(
        self, variables: Variables, batch: Batch, keys: Keys, terms: int | None, clip: float | None
    ) -> Float[Array, " B"]:
        """Return the variational bound."""
        x_0 = self.data.read(batch)
        given = self.label.given(batch)

        def estimate(i: Int[Array, " B"], n: int | Array) -> Array:
            """Return E[x_0 | x_i] with the noise of stream n."""
            t = i / self.config.timesteps
            x_t = gaussian.diffuse(x_0, noise.normal(fold(keys, n), self.shape), self.path(t))
            return sampling.threshold(self.denoise(variables, x_t, t, given), clip)

        chain = Chain(self.path, self.config.timesteps, self.config.variance)
        # The order of this sum is kept: float32 results are compared to the bit.
        total = chain.prior_term(x_0) - chain.decoder_term(
            batch[self.data.name], estimate, self.element.levels
        )
        if chain.steps > 1 and terms != 0:
            total = total + chain.middle_terms(x_0, estimate, fold(keys, 1), terms)
        return total
