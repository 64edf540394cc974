"""Compose models: functions from models to a model.

`latent` builds a generative model of data from a prior over the codes of a frozen codec: latent diffusion
(Rombach et al. 2022, arXiv:2112.10752), VQ-VAE with a learned prior (van den Oord et al. 2017,
arXiv:1711.00937), DALL-E's second stage (Ramesh et al. 2021, arXiv:2102.12092).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from genjax.core import Aux, Batch, Codec, Denoiser, Keys, Mean, Model, Phase, Spec, Tree, Variables
from genjax.errors import ConfigError

CODEC_STREAM = 0xC0DEC
"""Folded into the rows' keys for the noise of the codec, apart from that of the prior."""
SMALLEST = 1e-6
"""The smallest standard deviation that codes are divided by."""


def latent(prior: Model, codec: Model, spec: Spec, stage: str = "codec") -> Model:
    """Return the model that draws codes from `prior` and decodes them with a frozen codec.

    Real-valued codes are normalised to zero mean and unit variance per channel. The statistics are fitted
    on real rows before the first step (`Model.fit`) and saved in the state.

    The likelihood bounds that of the data if the codec defines `nats` (see `Codec`), and is of kind
    "codes" otherwise.

    Args:
      prior: built on the spec of the codes, `codec.codec.spec(spec)`.
      codec: a model with a codec; its variables are `variables.frozen[stage]`, finished.
      spec: of the data.
      stage: the name of the codec's stage.

    Raises:
      ConfigError: the codec's model has no codec.
    """
    if codec.codec is None:
        raise ConfigError(
            f"stage {stage!r} has no codec", "name a run whose model encodes and decodes, such as a VAE"
        )
    m = _Latent(prior, codec, codec.codec, spec, stage)
    return Model(
        init=m.init,
        phases={name: m.phase(phase) for name, phase in prior.phases.items()},
        carry=m.carry,
        fit=m.fit,
        finish=m.finish,
        sample=m.sampler(),
        likelihood=None if prior.likelihood is None else m.likelihood,
        deterministic=prior.deterministic,
        likelihood_kind=codec.likelihood_kind if m.bounds else "codes",
        rate_distortion=m.rate_distortion if m.bounds and not m.scaled and prior.likelihood else None,
        denoiser=m.denoiser(),
        learning_rate_multipliers=prior.learning_rate_multipliers,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Latent:
    """Implement the contract. The state is {"prior": the prior's own, "scale": {code: {mean, std}}}."""

    prior: Model
    codec_model: Model
    codec: Codec
    spec: Spec
    stage: str

    @functools.cached_property
    def code_spec(self) -> Spec:
        return self.codec.spec(self.spec)

    @property
    def scaled(self) -> tuple[str, ...]:
        """Return the names of the real-valued codes."""
        return tuple(n for n in self.code_spec.targets if self.code_spec[n].levels is None)

    @property
    def bounds(self) -> bool:
        """Return True if the likelihood bounds that of the data."""
        return self.codec.nats is not None and self.prior.likelihood_kind in ("exact", "bound", "density")

    # --- variables -----------------------------------------------------------------------------------

    def inner(self, variables: Variables) -> Variables:
        """Return the prior's own variables."""
        return variables.replace(state=variables.state["prior"], frozen={})

    def frozen(self, variables: Variables) -> Variables:
        """Return the finished variables of the codec."""
        return variables.frozen[self.stage]

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        own = self.prior.init(key, self.code_spec.example(batch["mask"].shape[0]), {})
        channels = {name: self.code_spec[name].shape[-1:] for name in self.scaled}
        scale = {name: {"mean": jnp.zeros(c), "std": jnp.ones(c)} for name, c in channels.items()}
        return own.replace(state={"prior": own.state, "scale": scale}, frozen=frozen)

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        """Fit the statistics of the codes on these rows, then the state of the prior."""
        codes = self.encode(variables, batch, keys)
        scale = {name: _moments(codes[name], batch["mask"]) for name in self.scaled}
        variables = variables.replace(state={**variables.state, "scale": scale})
        if self.prior.fit is None:
            return variables
        own = self.prior.fit(self.inner(variables), self.normalise(variables, codes), keys)
        return variables.replace(params=own.params, state={**variables.state, "prior": own.state})

    def finish(self, variables: Variables) -> Variables:
        own = self.prior.finish(self.inner(variables))
        return variables.replace(params=own.params, state={**variables.state, "prior": own.state})

    # --- codes ---------------------------------------------------------------------------------------

    def encode(self, variables: Variables, batch: Batch, keys: Keys) -> Batch:
        """Return the codes of a batch, with its mask and the carry of the prior."""
        rest = {k: x for k, x in batch.items() if k != "carry"}
        noise = jax.vmap(jax.random.fold_in, (0, None))(keys, CODEC_STREAM)
        codes = self.codec.encode(self.frozen(variables), rest, noise)
        carry = {"carry": batch["carry"]} if "carry" in batch else {}
        # The codec is frozen: no gradient flows into it, whatever the prior computes from its codes.
        return {**jax.lax.stop_gradient(codes), "mask": batch["mask"], **carry}

    def normalise(self, variables: Variables, codes: Batch) -> Batch:
        scale = variables.state["scale"]
        return {**codes, **{n: (codes[n] - _at(s["mean"], codes[n])) / _at(s["std"], codes[n])
                            for n, s in scale.items()}}  # fmt: skip

    def restore(self, variables: Variables, codes: Batch) -> Batch:
        """Undo `normalise`."""
        scale = variables.state["scale"]
        return {**codes, **{n: codes[n] * _at(s["std"], codes[n]) + _at(s["mean"], codes[n])
                            for n, s in scale.items()}}  # fmt: skip

    def carry(self, batch: Batch) -> Tree:
        return self.prior.carry(self.code_spec.example(batch["mask"].shape[0]))

    # --- learning ------------------------------------------------------------------------------------

    def phase(self, phase: Phase) -> Phase:
        """Return the prior's phase on the codes of the data."""

        def objective(
            variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
        ) -> tuple[Mean, Aux]:
            codes = self.normalise(variables, self.encode(variables, batch, keys))
            loss, aux = phase.objective(self.inner(variables), codes, keys, step=step)
            return loss, aux._replace(state={**variables.state, "prior": aux.state})

        return phase._replace(objective=objective)

    def likelihood(self, variables: Variables, batch: Batch, keys: Keys, **options: Any) -> tuple[Mean, Tree]:
        """Compute nats per row: a bound for the data, or the nats of its codes.

        -log p(x) <= E_q(z|x)[-log p(x|z) + log q(z|x) - log p(z)], here with one draw of z. The density of
        z follows from that of u = (z - mean) / std: -log p(z) = -log p(u) + sum log std.
        """
        assert self.prior.likelihood is not None
        codes = self.encode(variables, batch, keys)
        inputs = self.normalise(variables, codes)
        mean, carry = self.prior.likelihood(self.inner(variables), inputs, keys, **options)
        if not self.bounds:
            return mean, carry
        assert self.codec.nats is not None
        total = mean.total + self.codec.nats(self.frozen(variables), batch, codes, keys)
        for name, statistics in variables.state["scale"].items():
            places = math.prod(self.code_spec[name].shape[:-1])
            total = total + places * jnp.log(statistics["std"]).sum()
        mask = batch["mask"]
        return Mean(jnp.where(mask > 0, total, 0.0), self.units * mask), carry

    def rate_distortion(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Mean]:
        """Compute the prior's nats of the codes and -log p(x | codes) per row; the codes are integers."""
        assert self.prior.likelihood is not None
        assert self.codec.nats is not None
        codes = self.encode(variables, batch, keys)
        rate, _ = self.prior.likelihood(self.inner(variables), codes, keys)
        distortion = self.codec.nats(self.frozen(variables), batch, codes, keys)
        mask = batch["mask"]
        units = self.units * mask
        return Mean(jnp.where(mask > 0, rate.total, 0.0), units), Mean(
            jnp.where(mask > 0, distortion, 0.0), units
        )

    @property
    def units(self) -> int:
        """Return the number of values of a row of data."""
        return sum(math.prod(self.spec[name].shape) for name in self.spec.targets)  # type: ignore[misc]

    # --- sampling ------------------------------------------------------------------------------------

    def sampler(self) -> Any:
        """Return the prior's sampler followed by the codec's decoder, with the prior's options."""
        if self.prior.sample is None:
            return None

        @functools.wraps(self.prior.sample)
        def sample(variables: Variables, keys: Keys, prompt: Batch, **options: Any) -> Batch:
            assert self.prior.sample is not None
            codes = self.prior.sample(self.inner(variables), keys, prompt, **options)
            given = {name: prompt[name] for name in self.spec.conditions if name in prompt}
            return self.codec.decode(self.frozen(variables), self.restore(variables, {**given, **codes}))

        return sample

    def denoiser(self) -> Denoiser | None:
        """Return the prior's denoiser of normalised codes."""
        own = self.prior.denoiser
        if own is None:
            return None

        def of_prior(function: Any) -> Any:
            """Return a function of the prior's variables as one of the model's."""
            return function and (lambda variables, *args: function(self.inner(variables), *args))

        def read(variables: Variables, batch: Batch) -> tuple[jax.Array, Batch]:
            assert own.read is not None
            codes = self.codec.encode(self.frozen(variables), batch, None)
            return own.read(self.inner(variables), self.normalise(variables, codes))

        def expected(variables: Variables, x_0: jax.Array, given: Batch) -> Batch:
            assert own.expected is not None
            assert self.codec.expected is not None
            codes = own.expected(self.inner(variables), x_0, given)
            return self.codec.expected(self.frozen(variables), self.restore(variables, {**given, **codes}))

        return own._replace(
            path=of_prior(own.path),
            denoise=of_prior(own.denoise),
            read=None if own.read is None else read,
            expected=None if own.expected is None or self.codec.expected is None else expected,
            varied=of_prior(own.varied),
            weaker=of_prior(own.weaker),
        )


def _moments(x: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Return mean and standard deviation per channel (the last axis) over rows whose mask is 1."""
    weight = jnp.broadcast_to(mask.reshape(-1, *[1] * (x.ndim - 1)), x.shape)
    axes = tuple(range(x.ndim - 1))
    count = weight.sum(axes)
    mean = (x * weight).sum(axes) / count
    variance = (jnp.square(x - _at(mean, x)) * weight).sum(axes) / count
    return {"mean": mean, "std": jnp.maximum(jnp.sqrt(variance), SMALLEST)}


def _at(per_channel: jax.Array, x: jax.Array) -> jax.Array:
    """Return a value per channel with as many axes as x (rank promotion is an error here)."""
    return per_channel.reshape((1,) * (x.ndim - 1) + per_channel.shape)
