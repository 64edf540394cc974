"""RealNVP (Dinh et al. 2017, arXiv:1605.08803) with ActNorm, for small quantised images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Aux, Batch, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError

MARGIN = 0.05
"""Dequantised values are mapped into [MARGIN, 1 - MARGIN] before the logit (Dinh et al. 2017, sec. 4.1)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a RealNVP.

    Attributes:
      couplings: coupling layers; each transforms one half of the dimensions given the other.
      width: of the hidden layers of each coupling's network.
    """

    couplings: int = 6
    width: int = 128


class Coupling(nn.Module):
    """Predict log scale and shift of the free half from the fixed half and the class."""

    width: int
    outputs: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B D"], label: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B H"], Float[Array, "B H"]]:
        h = jnp.concatenate([x, label], -1)
        h = nn.relu(nn.Dense(self.width)(h))
        h = nn.relu(nn.Dense(self.width)(h))
        out = nn.Dense(2 * self.outputs, kernel_init=nn.initializers.zeros)(h)
        log_scale, shift = jnp.split(out, 2, -1)
        return 2.0 * jnp.tanh(log_scale / 2.0), shift


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the flow for the first target of a spec.

    Raises:
      ConfigError: the target is not quantised.
    """
    element = spec[spec.targets[0]]
    if not element.levels:
        raise ConfigError("realnvp needs a target with levels", "choose quantised images")
    size = math.prod(element.shape)
    nets = tuple(Coupling(config.width, size // 2) for _ in range(config.couplings))
    m = _RealNVP(config, spec, spec.targets[0], size, nets)
    return Model(
        init=m.init,
        phases={"nll": Phase("flow", m.objective)},
        fit=m.fit,
        sample=m.sample,
        likelihood=m.likelihood,
        likelihood_kind="bound",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _RealNVP:
    """Implement the contract. ActNorm's statistics are fitted on real rows and live in the state."""

    config: Config
    spec: Spec
    target: str
    size: int
    nets: tuple[Coupling, ...]

    @property
    def levels(self) -> int:
        return self.spec[self.target].levels or 0

    def label(self, batch: Mapping[str, Any], rows: int) -> Float[Array, "B K"]:
        """Return the one-hot class; zeros without one."""
        name = self.spec.label
        if name is None or name not in batch:
            return jnp.zeros((rows, max(self.spec.classes(), 1)))
        return jax.nn.one_hot(batch[name], self.spec.classes())

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        half, label = jnp.zeros((1, self.size // 2)), self.label({}, 1)
        keys = jax.random.split(key, len(self.nets))
        params = {
            f"coupling_{i}": net.init(keys[i], half, label)["params"] for i, net in enumerate(self.nets)
        }
        norm = {"shift": jnp.zeros(self.size), "log_scale": jnp.zeros(self.size)}
        return Variables({"flow": params}, {f"norm_{i}": norm for i in range(len(self.nets))}, frozen=frozen)

    def dequantise(self, batch: Batch, keys: Keys) -> tuple[Float[Array, "B D"], Float[Array, " B"]]:
        """Return logits of uniformly dequantised values, and the log determinant of the map from levels."""
        x = batch[self.target].reshape(len(batch["mask"]), -1).astype(jnp.float32)
        noise = jax.vmap(lambda key: jax.random.uniform(key, (self.size,)))(keys)
        p = MARGIN + (1 - 2 * MARGIN) * (x + noise) / self.levels
        log_det = -jnp.log(p) - jnp.log1p(-p) + math.log((1 - 2 * MARGIN) / self.levels)
        return jnp.log(p) - jnp.log1p(-p), log_det.sum(-1)

    def forward(self, v: Variables, x: Array, label: Array, fit: Array | None = None) -> tuple[Any, ...]:
        """Return (z, log |det dz/dx|, state). With a row mask `fit`, ActNorm is fitted on the way."""
        total = jnp.zeros(x.shape[0])
        state = dict(v.state)
        for i in range(len(self.nets)):
            if fit is not None:
                state[f"norm_{i}"] = _statistics(x, fit)
            norm = state[f"norm_{i}"]
            x = (x - norm["shift"][None]) * jnp.exp(-norm["log_scale"])[None]
            fixed, free = jnp.split(x, 2, -1)
            log_scale, shift = self.coupling(v, i, fixed, label)
            # The halves change places, so that the next coupling transforms the other one.
            x = jnp.concatenate([free * jnp.exp(log_scale) + shift, fixed], -1)
            total = total + log_scale.sum(-1) - norm["log_scale"].sum()
        return x, total, state

    def coupling(self, v: Variables, i: int, fixed: Array, label: Array) -> Any:
        """Return log scale and shift of coupling layer i."""
        return self.nets[i].apply({"params": v.params["flow"][f"coupling_{i}"]}, fixed, label)

    def inverse(self, v: Variables, z: Array, label: Array) -> Array:
        for i in reversed(range(len(self.nets))):
            moved, fixed = jnp.split(z, 2, -1)
            log_scale, shift = self.coupling(v, i, fixed, label)
            z = jnp.concatenate([fixed, (moved - shift) * jnp.exp(-log_scale)], -1)
            norm = v.state[f"norm_{i}"]
            z = z * jnp.exp(norm["log_scale"])[None] + norm["shift"][None]
        return z

    def fit(self, variables: Variables, batch: Batch, keys: Keys) -> Variables:
        x, _ = self.dequantise(batch, keys)
        _, _, state = self.forward(variables, x, self.label(batch, len(x)), fit=batch["mask"])
        return variables.replace(state=state)

    def nats(self, variables: Variables, batch: Batch, keys: Keys) -> Float[Array, " B"]:
        x, log_det = self.dequantise(batch, keys)
        z, more, _ = self.forward(variables, x, self.label(batch, len(x)))
        log_p = -0.5 * (jnp.square(z) + math.log(2 * math.pi)).sum(-1)
        return -(log_p + more + log_det)

    def objective(self, variables: Variables, batch: Batch, keys: Keys, *, step: Any) -> tuple[Mean, Aux]:
        return Mean.of(self.nats(variables, batch, keys), batch["mask"]), Aux(variables.state)

    def likelihood(self, variables: Variables, batch: Batch, keys: Keys) -> tuple[Mean, Any]:
        """Bound -log P(x): uniform dequantisation gives E[-log p(x + u)] >= -log P(x) (Theis et al. 2016)."""
        total = jnp.where(batch["mask"] > 0, self.nats(variables, batch, keys), 0.0)
        return Mean(total, self.size * batch["mask"]), {}

    def sample(self, variables: Variables, keys: Keys, prompt: Batch, *, temperature: float = 1.0) -> Batch:
        z = temperature * jax.vmap(lambda key: jax.random.normal(key, (self.size,)))(keys)
        x = self.inverse(variables, z, self.label(prompt, len(z)))
        p = (nn.sigmoid(x) - MARGIN) / (1 - 2 * MARGIN)
        value = jnp.clip(jnp.floor(p * self.levels), 0, self.levels - 1)
        element = self.spec[self.target]
        return {self.target: value.reshape(-1, *element.shape).astype(element.dtype)}


def _statistics(x: Float[Array, "B D"], mask: Float[Array, " B"]) -> dict[str, Array]:
    """Return ActNorm's shift and log scale: zero mean, unit variance (Kingma & Dhariwal 2018, sec. 3.1)."""
    weight = (mask / mask.sum())[:, None]
    mean = (x * weight).sum(0)
    variance = (jnp.square(x - mean[None]) * weight).sum(0)
    return {"shift": mean, "log_scale": 0.5 * jnp.log(variance + 1e-4)}
