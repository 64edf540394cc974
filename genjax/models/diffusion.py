"""Denoising diffusion (Ho et al. 2020, arXiv:2006.11239), conditional on the data's label and text.

One network learns to remove Gaussian noise of every strength; sampling removes it step by step. The papers
differ in what the network predicts (the noise, the data, the velocity), in the schedule and in the weighting
of the loss: all three are fields of the config. Flow matching is the schedule "straight" with the prediction
"flow_velocity". The likelihood is bounded along the discrete chain, or along the path without steps.

Data are quantised images, or real values of about unit scale: images and feature maps (H, W, C) with a U-Net
or a transformer, vectors (D,) with a residual MLP.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.config import Count, NotNegative, Positive, Probability, Share, Signed
from genjax.core import Batch, Denoiser, Element, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import schedules
from genjax.functional.chain_bound import Chain
from genjax.models import _diffusion_likelihood as likelihood
from genjax.models._diffusion_conditions import Conditions
from genjax.models._diffusion_learning import SCHEDULE, Learning
from genjax.nn import log_snr
from genjax.nn.denoisers.config import Config, check_fit, network_of
from genjax.nn.denoisers.network import Network
from genjax.nn.denoisers.target import Target
from genjax.sampling import diffusion as sampling

PLAYER = "denoiser"
FIRST = 1e-3
"""The first time of the path without steps, where it begins without noise."""
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
      ConfigError: the data has no such target, or no text that `config.text` asks for; the target does not
        fit the network; or the stage of the guide is missing.
    """
    target = Target.of(spec)
    element = target.element
    given = Conditions.of(spec, config.text)
    config = dataclasses.replace(config, network=network_of(config, target.name, element))
    check_fit(config, element)
    channels = element.shape[-1] * (2 if config.variance == "learned" else 1)
    network = Network(config, channels, given.label.classes, vocabulary=given.vocabulary)
    m = _Diffusion(config, target, given, network, _guide(config, target, stages))
    phases = {"denoise": Phase(PLAYER, m.learning.objective)}
    if config.schedule == "learned":
        # The schedule minimises another function of the same estimate.
        phases["schedule"] = Phase(SCHEDULE, m.learning.objective_of_schedule)
    options = ("method", "terms", "steps", "probes", "clip")
    return Model(
        init=m.init,
        phases=phases,
        sample=jax.jit(m.for_data(m.sample), static_argnames=STATIC),
        denoiser=m.denoiser,
        likelihood=jax.jit(m.for_data(m.likelihood), static_argnames=options),
        likelihood_kind="bound" if element.levels else "density",
    )


def _guide(config: Config, target: Target, stages: Mapping[str, Model] | None) -> Denoiser | None:
    """Return the denoiser of the stage that guidance leads away from.

    Raises:
      ConfigError: it is missing, or no diffusion of such rows.
    """
    if config.guide is None:
        return None
    found = (stages or {}).get(config.guide)
    if found is None or found.denoiser is None or found.denoiser.shape != target.shape:
        raise ConfigError(
            f"model.guide needs a diffusion of {target.name} in stages.{config.guide}",
            f'set stages.{config.guide} to a run directory, or to {{"config": NAME}}; a prior of the model '
            "`latent`, or a student of `distillation`, has no guide",
        )
    return found.denoiser


@dataclasses.dataclass(frozen=True, eq=False)
class _Diffusion:
    """Implement the contract."""

    config: Config
    data: Target
    conditions: Conditions
    network: Network
    guide: Denoiser | None = None

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        return Denoiser(
            self.path,
            self.denoise,
            self.read,
            self.expected,
            self.times_of,
            self.conditions.hidden,
            shape=self.shape,
            limit=1.0 if self.element.levels else None,
            remembers=self.config.self_condition,
            varied=self.varied if self.config.variance == "learned" else None,
            weaker=None if self.guide is None else self.weaker,
        )

    def weaker(self, variables: Variables) -> Callable[..., Array]:
        """Return the estimate of the guide, for rows on this model's path."""
        assert self.guide is not None
        assert self.config.guide is not None
        return sampling.matched(self.guide, variables.frozen[self.config.guide], self.path(variables))

    @property
    def element(self) -> Element:
        return self.data.element

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @functools.cached_property
    def fixed(self) -> schedules.Path | None:
        """Return the path t in [0, 1] -> (alpha, sigma); None if it is learned."""
        if self.config.schedule == "learned":
            return None
        return schedules.chain(self.config.schedule, self.config.timesteps)

    def path(self, variables: Variables) -> schedules.Path:
        """Return the path with what was learned of it."""
        return self.fixed or log_snr.path_of(variables.params[SCHEDULE])

    def for_data(self, function: Callable) -> Callable:
        """Return the function with clip=None as its default for real values, whose range is unknown."""
        return function if self.element.levels else functools.partial(function, clip=None)

    def read(self, variables: Variables, batch: Batch) -> tuple[Float[Array, "B *shape"], Batch]:
        """Return x_0 and the conditions."""
        del variables
        x_0 = self.data.read(batch)
        return x_0, self.conditions.whole(self.conditions.given(batch), x_0.shape[0])

    def expected(self, variables: Variables, x_0: Float[Array, "B *shape"], given: Batch) -> Batch:
        """Return x_0 in the units of the data, not rounded."""
        del variables, given
        return {self.data.name: self.data.expected(x_0)}

    def times_of(self, steps: int, spacing: schedules.Spacing | None = None) -> np.ndarray:
        """Return the times to sample along.

        Raises:
          ConfigError: more steps than the chain has, or a spacing by the noise of a learned schedule.
        """
        chain = self.config.timesteps
        if steps > chain:
            raise ConfigError(
                f"steps={steps} of the sampler are more than timesteps={chain}", "take fewer steps"
            )
        spacing = spacing or "trailing"
        if spacing in ("karras", "log_snr"):  # these are places of the noise, wherever the times are
            if self.fixed is None:
                raise ConfigError(f"spacing={spacing!r}: the schedule is learned", "take trailing")
            return schedules.times(steps, chain, spacing, self.fixed)
        return np.asarray(schedules.shifted(schedules.times(steps, chain, spacing), self.config.shift))

    def init(self, key: jax.Array, batch: Batch, frozen: Mapping[str, Variables]) -> Variables:
        C = self.shape[-1] * (2 if self.config.self_condition else 1)
        x = jnp.zeros((1, *self.shape[:-1], C))
        label, text = self.conditions.read({}, 1)
        more = () if text is None else (None, None, text)
        params = {PLAYER: self.network.init(key, x, jnp.zeros((1,)), label, *more)["params"]}
        if self.config.schedule == "learned":
            own = jax.random.fold_in(key, 1)
            params[SCHEDULE] = log_snr.NegativeLogSNR().init(own, jnp.zeros((1,)))["params"]
        return Variables(params=params, frozen=dict(frozen))

    # --- the network -----------------------------------------------------------------------------------

    def output(
        self,
        variables: Variables,
        x: Array,
        t: Array,
        now: gaussian.Coefficients,
        given: tuple[Array, Any],
        before: Array | None = None,
        keys: Keys | None = None,
    ) -> tuple[Array, Array | None]:
        """Return what the network predicts, and the share of a learned variance.

        Args:
          given: the label and the text.
          before: the estimate of the step before, with self-conditioning; None for zeros.
        """
        c = self.config
        inputs = x
        if c.prediction == "edm":
            inputs = gaussian.spread(gaussian.preconditioning(now, c.data_std)[2], x) * x
        if c.self_condition:
            before = jnp.zeros_like(x) if before is None else before
            inputs = jnp.concatenate([inputs, before], axis=-1)
        if c.schedule == "learned":
            # The network reads -log SNR: what it computes at one noise does not depend on the schedule.
            t = (-schedules.log_snr(*now) - log_snr.LOW) / (log_snr.HIGH - log_snr.LOW)
        label, text = given
        params = {"params": variables.params[PLAYER]}
        more = () if text is None else (None, text)
        out = self.network.apply(params, inputs, t, label, keys, *more)
        if c.variance != "learned":
            return out, None  # type: ignore[return-value]
        mean, raw = jnp.split(out, 2, axis=-1)  # type: ignore[arg-type]
        return mean, 0.5 * (raw + 1.0)

    def varied(
        self, variables: Variables, x: Array, t: Array, prompt: Batch, before: Array | None = None
    ) -> tuple[Array, Any]:
        """Return E[x_0 | x_t] and the share of a learned variance, or None."""
        now = self.path(variables)(t)
        given = self.conditions.read(prompt, x.shape[0])
        out, share = self.output(variables, x, t, now, given, before)
        return gaussian.to_data(self.config.prediction, out, x, now, self.config.data_std), share

    def denoise(
        self, variables: Variables, x: Array, t: Array, prompt: Batch, before: Array | None = None
    ) -> Array:
        return self.varied(variables, x, t, prompt, before)[0]

    @property
    def learning(self) -> Learning:
        return Learning(self.config, self.data, self.conditions, self.output, self.path, self.fixed)

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
        count = keys.shape[0]
        given = self.conditions.given(prompt)
        x = sampling.sample(
            self.denoiser,
            variables,
            keys,
            self.conditions.whole(given, count),
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
            null=self.conditions.hidden(self.conditions.whole(given, count)) if given else None,
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
        method: Literal["bound", "continuous", "ode"] = "bound",
        terms: int | None = 32,
        steps: Count = 40,
        probes: Count | None = 1,
        clip: float | None = 1.0,
    ) -> tuple[Mean, dict]:
        """Compute nats per row, given the conditions if there are any.

        Args:
          method: "bound" is the variational bound along the chain (functional/chain_bound.py), "continuous"
            that along the path without steps (functional/continuous_bound.py); "ode" is the density of the
            probability-flow ODE (functional/flow_likelihood.py), of quantised images with uniform noise in
            each level, which makes it a bound of another kind.
          terms: of the bounds: number of the T - 1 middle terms, or of the points, that are evaluated per
            row, evenly spaced from a random start: an unbiased estimate. None evaluates T of them.
          steps: of "ode".
          probes: of "ode": vectors of Hutchinson's estimate; None for the exact trace.
          clip: estimates of x_0 are clipped to [-clip, clip] by the bounds.

        Raises:
          ConfigError: options of the other method.
        """
        if method != "ode" and (steps, probes) != (40, 1):
            raise ConfigError(f"steps and probes have no effect on method={method!r}", "set method to ode")
        if method == "continuous" and terms == 0:
            raise ConfigError("terms=0 of method='continuous'", "give at least 1")
        if method == "ode" and terms != 32:
            raise ConfigError("terms has no effect on method='ode'", "leave it out")
        path = self.path(variables)
        given = self.conditions.given(batch)
        estimate = lambda x, t: self.varied(variables, x, t, given)
        if method == "ode":
            density = likelihood.log_density
            nats = -density(self.data, path, batch, keys, estimate, self.config.timesteps, steps, probes)
        elif method == "continuous":
            first = 0.0 if self.fixed is None else FIRST
            points = self.config.timesteps if terms is None else terms
            ends = (first, likelihood.last_time(path, self.config.timesteps))
            bound = likelihood.continuous_bound
            nats = bound(self.data, path, batch, keys, estimate, ends, points, clip)
        else:
            chain = Chain(path, self.config.timesteps, self.config.variance)
            nats = likelihood.bound(self.data, chain, batch, keys, estimate, terms, clip)
        units = float(self.data.size)
        return Mean(jnp.where(batch["mask"] > 0, nats, 0.0), units * batch["mask"]), {}
