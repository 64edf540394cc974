"""Compute what a diffusion's network, its variance and its schedule minimise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Aux, Batch, Keys, Mean, Variables
from genjax.functional import continuous_bound as continuous
from genjax.functional import diffusion as gaussian
from genjax.functional import noise, schedules
from genjax.functional.chain_bound import Chain
from genjax.functional.noise import fold
from genjax.models._diffusion_conditions import Conditions
from genjax.nn import log_snr
from genjax.nn.denoisers.config import TIMES, Config
from genjax.nn.denoisers.target import Target

SCHEDULE = "schedule"
"""The player of a learned schedule."""


@dataclasses.dataclass(frozen=True, eq=False)
class Learning:
    """Hold the objectives.

    Attributes:
      output: (variables, x_t, t, (alpha, sigma), conditions, estimate before, keys) -> (what the network
        predicts, the share of a learned variance or None).
      path: variables -> the path.
      fixed: the path; None if it is learned.
    """

    config: Config
    data: Target
    conditions: Conditions
    output: Callable[..., tuple[Array, Array | None]]
    path: Callable[[Variables], schedules.Path]
    fixed: schedules.Path | None

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c = self.config
        x_0 = self.data.read(batch)
        given = self.conditions.read(batch, x_0.shape[0])
        epsilon = noise.normal(fold(keys, 1), self.data.shape)
        if step is not None:
            given = self.conditions.dropped(keys, given, c.label_dropout)
        path = self.path(variables)
        drawn = self.times(path, fold(keys, 0))
        # A learned schedule has no chain: its times are drawn from an interval.
        t = drawn if c.schedule == "learned" else drawn / c.timesteps
        now = path(t)
        x_t = gaussian.diffuse(x_0, epsilon, now)
        before = self.before(variables, x_t, t, now, given, keys) if c.self_condition else None
        dropping = None if step is None else fold(keys, 3)
        out, share = self.output(variables, x_t, t, now, given, before, dropping)
        squared = (out - gaussian.target(c.prediction, x_0, epsilon, now, c.data_std)) ** 2
        error = jnp.mean(squared, axis=tuple(range(1, squared.ndim)))
        metrics = {"mse": Mean.of(error, batch["mask"])}
        if c.schedule == "learned":
            estimate = gaussian.to_data(c.prediction, out, x_t, now, c.data_std)
            nats = continuous.error_term(path, x_0, estimate, t) / self.data.size
            return Mean.of(nats, batch["mask"]), Aux(variables.state, metrics)
        total = self.weight(path, drawn, now) * error
        if share is not None:
            estimate = gaussian.to_data(c.prediction, jax.lax.stop_gradient(out), x_t, now, c.data_std)
            total = total + self.variance_loss(batch, x_0, drawn, estimate, share)
        return Mean.of(total, batch["mask"]), Aux(variables.state, metrics)

    def before(
        self,
        variables: Variables,
        x_t: Array,
        t: Array,
        now: gaussian.Coefficients,
        given: tuple[Array, Any],
        keys: Keys,
    ) -> Float[Array, "B *shape"]:
        """Return the estimate that is read: for half of the rows its own without any, else zeros."""
        out, _ = self.output(variables, x_t, t, now, given)
        c = self.config
        found = jax.lax.stop_gradient(gaussian.to_data(c.prediction, out, x_t, now, c.data_std))
        if self.data.element.levels:
            # As the estimates of a sampler are: a prediction of the noise says little of x_0 in much noise.
            found = jnp.clip(found, -1.0, 1.0)
        half = noise.bernoulli(fold(keys, 5), 0.5)
        return jnp.where(gaussian.spread(half, found), found, 0.0)

    def variance_loss(
        self, batch: Batch, x_0: Array, i: Int[Array, " B"], estimate: Array, share: Array
    ) -> Float[Array, " B"]:
        """Return lambda T times the term of the bound at step i, in nats per value.

        Nichol & Dhariwal 2021, eq. 16. The estimate of x_0 has no gradient here: the variance alone learns.
        """
        c = self.config
        assert self.fixed is not None
        chain = Chain(self.fixed, c.timesteps, c.variance)
        middle = chain.middle(x_0, jnp.maximum(i, 2), estimate, share)
        last = -chain.reconstruction(batch[self.data.name], estimate, share, self.data.element.levels)
        nats = jnp.where(i > 1, middle, last) / self.data.size
        return c.variance_weight * c.timesteps * nats

    def objective_of_schedule(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        """Return what the schedule minimises: by its ends the bound, and by its inside the variance.

        The mean of the estimate does not depend on the inside: its square has the variance's gradient.
        """
        x_0 = self.data.read(batch)
        given = self.conditions.read(batch, x_0.shape[0])
        if step is not None:
            given = self.conditions.dropped(keys, given, self.config.label_dropout)
        epsilon = noise.normal(fold(keys, 1), self.data.shape)
        own = variables.params[SCHEDULE]
        t = noise.uniform(fold(keys, 0))

        def error(path: schedules.Path) -> Float[Array, " B"]:
            now = path(t)
            x_t = gaussian.diffuse(x_0, epsilon, now)
            out, _ = self.output(variables, x_t, t, now, given)
            estimate = gaussian.to_data(self.config.prediction, out, x_t, now, self.config.data_std)
            return continuous.error_term(path, x_0, estimate, t) / self.data.size

        inside = error(log_snr.path_of(log_snr.only_inside(own)))
        ends = log_snr.path_of(log_snr.only_ends(own))
        rest = continuous.prior_term(ends, x_0)
        rest = rest - continuous.decoder_term(
            ends, batch[self.data.name], x_0, epsilon, 0.0, self.data.element.levels
        )
        total = error(ends) + rest / self.data.size
        # Of the square only the gradient is wanted: its value would hide that of the bound.
        square = jnp.square(inside)
        loss = total + square - jax.lax.stop_gradient(square)
        return Mean.of(loss, batch["mask"]), Aux(
            variables.state, {"variance": Mean.of(square, batch["mask"])}
        )

    def times(self, path: schedules.Path, keys: Keys) -> Array:
        """Draw a step of the chain, 1 .. T, per row; of a learned schedule a time in [0, 1)."""
        c = self.config
        T = c.timesteps
        if c.schedule == "learned":
            return noise.uniform(keys)
        if c.times == "uniform":
            if c.shift == 1:
                return noise.integers(keys, 1, T + 1)
            t = noise.uniform(keys)
        else:
            mean, std = TIMES[c.times]
            mean = mean if c.times_mean is None else c.times_mean
            n = mean + (c.times_std or std) * noise.normal(keys, ())
            # log(sigma / alpha) is n.
            t = jax.nn.sigmoid(n) if c.times == "logit_normal" else schedules.time_of(path, -n)
        return jnp.clip(jnp.ceil(T * schedules.shifted(t, c.shift)).astype(jnp.int32), 1, T)

    def weight(
        self, path: schedules.Path, i: Int[Array, " B"], now: gaussian.Coefficients
    ) -> Float[Array, " B"]:
        """Return the weight of the squared error at step i of the chain."""
        c = self.config
        how = {"gamma": c.gamma, "bias": c.bias, "spread_of_data": c.data_std}
        if c.weighting != "bound":
            return gaussian.weight(c.weighting, c.prediction, now, now, **how)
        # The bound's weight at the chain's first step would be infinite: the second step's takes its place.
        before = path(jnp.maximum(i - 1, 1) / c.timesteps)
        after = path(jnp.maximum(i, 2) / c.timesteps)
        return gaussian.weight(c.weighting, c.prediction, before, after, **how)
