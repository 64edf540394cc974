"""Train MeanFlow, a network of average velocities: it samples in one step.

Geng et al. 2025 (arXiv:2505.13447). On the straight path x_t = (1 - t) x_0 + t noise, u(x_t, r, t) is the
average velocity between the times r and t, so that x_r = x_t - (t - r) u(x_t, r, t): one evaluation crosses
any interval. It is learned from real rows alone, or from the velocities of a finished diffusion (a stage).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.config import Count, Folder, NotNegative, Positive, Share, Signed, check
from genjax.config import build as build_config
from genjax.core import Aux, Batch, Denoiser, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import derivatives, noise, schedules
from genjax.functional import diffusion as gaussian
from genjax.functional.noise import fold
from genjax.nn import conditions
from genjax.nn.conditions import ClassLabel
from genjax.nn.denoisers import config as diffusion
from genjax.nn.denoisers.network import Network
from genjax.nn.denoisers.target import Target
from genjax.sampling.diffusion import guided, matched, normal

PLAYER = "denoiser"


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure MeanFlow.

    Attributes:
      network: fields of the network: `network`, `width`, `blocks` ... of the model "diffusion".
      teacher: the stage of a diffusion whose velocities are learned; None for those of the rows.
      mean, std: of the logit of both training times.
      share: of the rows whose interval has a length; the others learn the velocity at one time.
      guidance: omega, of the velocities that are learned (sec. 4.2): samples have it for one evaluation.
      label_dropout: share of training rows whose label is hidden.
      power: p, of the adaptive weight 1 / (squared error + 0.001)^p.
    """

    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    teacher: Folder | None = None
    mean: Signed = -0.4
    std: Positive = 1.0
    share: Share = 0.25
    guidance: Signed = 1.0
    label_dropout: Share = 0.1
    power: NotNegative = 1.0

    def __post_init__(self):
        check(self)
        wrong = sorted(set(self.network) - set(diffusion.NETWORK))
        if wrong:
            raise ConfigError(
                f"model.network.{wrong[0]} is no field of a network", f"it has {', '.join(diffusion.NETWORK)}"
            )
        own = build_config(diffusion.Config, dict(self.network), "model.network")
        fields = {name: getattr(own, name) for name in diffusion.NETWORK}
        object.__setattr__(self, "network", fields)


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the model of the spec's first target that is an image or a real-valued vector.

    Raises:
      ConfigError: the data has no such target, it does not fit the network, there is guidance without a
        label, or the stage is missing.
    """
    target = Target.of(spec)
    own = diffusion.Config(**config.network, schedule="straight", prediction="flow_velocity")
    own = dataclasses.replace(own, network=diffusion.network_of(own, target.name, target.element))
    diffusion.check_fit(own, target.element)
    label = ClassLabel.of(spec)
    if config.guidance != 1 and not label.classes:
        raise ConfigError(f"model.guidance={config.guidance}: the data has no label", "leave it out")
    if own.network in ("ldm_unet", "edm2_unet"):
        raise ConfigError(
            f"model.network.network={own.network!r} reads one time", "use unet, transformer or mlp"
        )
    network = Network(own, target.element.shape[-1], label.classes, spans=True)
    teacher = None
    if config.teacher is not None:
        teacher = (stages or {}).get(config.teacher)
        denoiser = teacher and teacher.denoiser
        if denoiser is None or denoiser.shape != target.shape:
            raise ConfigError(
                f"model meanflow needs a diffusion in stages.{config.teacher}",
                f'set stages.{config.teacher} to a run directory, or to {{"config": NAME}}',
            )
    m = _MeanFlow(config, target, label, network, teacher)
    return Model(
        init=m.init,
        phases={"flow": Phase(PLAYER, m.objective)},
        sample=jax.jit(m.sample, static_argnames=("steps",)),
        denoiser=Denoiser(
            m.path,
            m.denoise,
            m.read,
            m.expected,
            m.times,
            m.hidden,
            shape=target.shape,
            limit=1.0 if target.element.levels else None,
            alone=False,
        ),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _MeanFlow:
    """Implement the contract."""

    config: Config
    target: Target
    label: ClassLabel
    network: Network
    teacher: Model | None

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        x = jnp.zeros((1, *self.target.shape))
        time = jnp.zeros((1,))
        params = self.network.init(key, x, time, self.label.index({}, 1), None, time)["params"]
        return Variables(params={PLAYER: params}, frozen=frozen)

    def average(
        self,
        variables: Variables,
        x: Array,
        r: Array,
        t: Array,
        label: Array,
        keys: Keys | None = None,
    ) -> Array:
        """Return u(x_t, r, t)."""
        params = {"params": variables.params[PLAYER]}
        return self.network.apply(params, x, t, label, keys, t - r)  # type: ignore[return-value]

    # --- learning --------------------------------------------------------------------------------------

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        c = self.config
        x_0 = self.target.read(batch)
        label = self.label.index(batch, x_0.shape[0])
        if step is not None and c.label_dropout > 0:
            label = conditions.hidden(fold(keys, 2), label, c.label_dropout)
        r, t = self.interval(keys)
        epsilon = noise.normal(fold(keys, 1), self.target.shape)
        x_t = gaussian.diffuse(x_0, epsilon, (1.0 - t, t))
        v = jax.lax.stop_gradient(self.velocity(variables, batch, x_0, epsilon, x_t, t, label))
        dropping = None if step is None else fold(keys, 5)
        u_of = lambda x, r, t: self.average(variables, x, r, t, label, dropping)
        # d/dt u along the path: x moves by v, t by 1, and r stays (eq. 8).
        u, change = derivatives.along(u_of, (x_t, r, t), (v, jnp.zeros_like(r), jnp.ones_like(t)))
        goal = jax.lax.stop_gradient(v - gaussian.spread(t - r, x_t) * change)
        squared = jnp.square(u - goal).reshape(x_t.shape[0], -1)
        total = squared.sum(1)
        weight = jax.lax.stop_gradient((total + 1e-3) ** -c.power)
        loss = Mean.of(weight * total, batch["mask"])
        return loss, Aux(variables.state, {"mse": Mean.of(squared.mean(1), batch["mask"])})

    def interval(self, keys: Keys) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Draw r <= t; they are equal but for a share of the rows."""
        c = self.config
        both = jnp.stack([c.mean + c.std * noise.normal(fold(keys, n), ()) for n in (0, 3)])
        low, high = jnp.sort(jax.nn.sigmoid(both), axis=0)
        long = noise.bernoulli(fold(keys, 4), c.share)
        return jnp.where(long, low, high), high

    def velocity(
        self,
        variables: Variables,
        batch: Batch,
        x_0: Array,
        epsilon: Array,
        x_t: Array,
        t: Array,
        label: Array,
    ) -> Float[Array, "B *shape"]:
        """Return the velocity at x_t that is learned: of the pair or the teacher, guided (eq. 19)."""
        if self.teacher is not None:
            assert self.config.teacher is not None
            assert self.teacher.denoiser is not None
            denoiser = self.teacher.denoiser
            own = variables.frozen[self.config.teacher]
            assert denoiser.read is not None
            given = denoiser.read(own, batch)[1]
            if self.label.name in given:
                given = {**given, self.label.name: label}  # hidden in some of the rows
            one = matched(denoiser, own, schedules.straight)
            null = denoiser.hidden(given) if given else None
            x_0 = guided(one, self.config.guidance, given, null)(x_t, t)
            return (x_t - x_0) / gaussian.spread(t, x_t)
        v = epsilon - x_0
        if self.config.guidance == 1 or self.label.name is None:
            return v
        null = jnp.full_like(label, conditions.NULL)
        free = self.average(variables, x_t, t, t, null)
        guided_v = free + self.config.guidance * (v - free)
        # A row whose label is hidden has nothing to lead away from.
        return jnp.where(gaussian.spread(label == conditions.NULL, v), v, guided_v)

    # --- sampling --------------------------------------------------------------------------------------

    def sample(self, variables: Variables, keys: Keys, prompt: Batch, *, steps: Count = 1) -> Batch:
        """Draw rows like the data's, one per key, in `steps` even steps (one evaluation each)."""
        label = self.label.index(prompt, keys.shape[0])

        def move(x: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
            t, r = (jnp.full((x.shape[0],), e) for e in ends)
            return x - gaussian.spread(t - r, x) * self.average(variables, x, r, t, label), None

        times = jnp.linspace(1.0, 0.0, steps + 1)
        x, _ = jax.lax.scan(move, normal(keys, self.target.shape), (times[:-1], times[1:]))
        given = self.label.given(prompt)
        return {self.target.name: self.target.written(x), **given}

    def path(self, variables: Variables) -> schedules.Path:
        del variables
        return schedules.straight

    def denoise(self, variables: Variables, x: Array, t: Array, prompt: Batch) -> Array:
        """Return E[x_0 | x_t] of the velocity at one time."""
        label = self.label.index(prompt, x.shape[0])
        return x - gaussian.spread(t, x) * self.average(variables, x, t, t, label)

    def read(self, variables: Variables, batch: Batch) -> tuple[Float[Array, "B *shape"], Batch]:
        del variables
        return self.target.read(batch), self.label.given(batch)

    def expected(self, variables: Variables, x_0: Float[Array, "B *shape"], given: Batch) -> Batch:
        del variables, given
        return {self.target.name: self.target.expected(x_0)}

    def times(self, steps: int, spacing: schedules.Spacing | None = None) -> np.ndarray:
        """Return times along the straight path, in a chain of 1,000."""
        return schedules.times(steps, max(steps, 1000), spacing or "trailing", schedules.straight)

    def hidden(self, given: Batch) -> Batch:
        """Return the conditions without a label."""
        return {name: jnp.full_like(x, conditions.NULL) for name, x in given.items()}
