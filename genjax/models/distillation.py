"""Train a diffusion that samples in few steps, from a finished one (a stage) or by itself.

    stages.teacher = {"config": "digits/diffusion"}     trains first, or reuses a finished run
    model = {"name": "distillation", "student": {"name": "diffusion", ...}, "kind": "progressive", "steps": 8}

"progressive" (Salimans & Ho 2022, arXiv:2202.00512): one step of the student is two of the teacher. Repeat it
with the student as the next teacher. "consistency" (Song et al. 2023, arXiv:2303.01469): the student's
estimates at the two ends of a step are equal; the step is the teacher's, or without one it leads between two
noisy forms of the same row. "reflow" (Liu et al. 2023, arXiv:2209.03003, sec. 2.2): flow matching between
noise and the rows that the teacher makes of it, whose paths cross less and become straight. A student with
the teacher's parameters starts from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax import plugins
from genjax.config import Count, Folder, Signed, check, coerce
from genjax.config import build as build_config
from genjax.core import Aux, Batch, Denoiser, Keys, Mean, Model, Phase, Spec, Variables
from genjax.errors import ConfigError
from genjax.functional import diffusion as gaussian
from genjax.functional import distillation, noise, schedules
from genjax.functional.noise import fold
from genjax.sampling.diffusion import Denoise, guided, integrate
from genjax.sampling.methods import METHODS

PACKAGE = "genjax.models"
LEARNING = (
    *("times", "times_mean", "times_std", "weighting", "gamma", "bias", "label_dropout", "dropout"),
    *("self_condition", "variance_weight"),
)
"""Fields of a student that have no effect here: of its own objective."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a distillation.

    Attributes:
      student: `name` of an architecture with a denoiser, and fields of its own Config. Those that say how it
        would learn by itself (LEARNING) are refused.
      teacher: the stage of the teacher; None for consistency training without one.
      kind: "progressive", "consistency" or "reflow".
      steps: of the student ("progressive"); of the grid on which neighbours agree ("consistency"); of the
        teacher, for each training row ("reflow").
      guidance: of the teacher, which the student learns to have at guidance 1.
    """

    student: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "diffusion"})
    teacher: Folder | None = "teacher"
    kind: Literal["progressive", "consistency", "reflow"] = "progressive"
    steps: Count = 4
    guidance: Signed = 1.0

    def __post_init__(self):
        check(self)
        # Complete, so that config.json states every default of the student.
        fields = dict(self.student)
        name = fields.pop("name", None)
        if name is None:
            raise ConfigError("model.student.name is missing", "name an architecture, e.g. diffusion")
        name = coerce(Annotated[str, plugins.Entry(PACKAGE, "model")], name, "model.student.name")
        own = build_config(_module(name).Config, fields, "model.student")
        object.__setattr__(self, "student", {"name": name, **dataclasses.asdict(own)})
        if self.teacher is None:
            if self.kind != "consistency":
                raise ValueError(f"teacher=None: kind={self.kind!r} learns from a teacher")
            if self.guidance != 1:
                raise ValueError(f"guidance={self.guidance} is of the teacher, and teacher is None")


def _module(name: str) -> Any:
    return plugins.load(PACKAGE, name, "model", ("Config", "build"))


def build(config: Config, spec: Spec, stages: Mapping[str, Model] | None = None) -> Model:
    """Build the student with the loss of the distillation; it samples as the student's architecture does.

    Raises:
      ConfigError: the stage is missing, or student or teacher is no diffusion of data.
    """
    fields = dict(config.student)
    module = _module(fields.pop("name"))
    student = module.build(build_config(module.Config, fields, "model.student"), spec, {})
    teacher = None
    if config.teacher is not None:
        teacher = (stages or {}).get(config.teacher)
        if teacher is None:
            raise ConfigError(
                f"model distillation needs a teacher in stages.{config.teacher}",
                f'set stages.{config.teacher} to a run directory, or to {{"config": NAME}}',
            )
    for what, model in (("student", student), ("teacher", teacher)):
        if model is not None and (model.denoiser is None or model.denoiser.read is None):
            raise ConfigError(f"the {what} is no diffusion of data", "name a run or a config of diffusion")
    assert student.denoiser is not None
    _check(config, student, teacher)
    m = _Distillation(config, student, student.denoiser, teacher)
    (player,) = student.players
    return student.replace(
        init=m.init,
        phases={"distil": Phase(player, m.objective)},
        likelihood=None,
        rate_distortion=None,
    )


def _check(config: Config, student: Model, teacher: Model | None) -> None:
    """Refuse students that the losses do not train, and teachers of other rows.

    Raises:
      ConfigError: such a student or teacher.
    """
    own = student.denoiser
    assert own is not None
    name = config.student["name"]
    fields = {f.name: f.default for f in dataclasses.fields(_module(name).Config)}
    for field in LEARNING:
        if field in fields and config.student[field] != fields[field]:
            raise ConfigError(f"model.student.{field} has no effect in a distillation", "leave it out")
    if len(student.players) != 1 or not own.alone:
        raise ConfigError(
            f"model.student: {name!r} learns more than its denoiser, which distillation does not teach",
            "use the model diffusion with a fixed schedule",
        )
    if teacher is None:
        return
    assert teacher.denoiser is not None
    if teacher.denoiser.shape != own.shape:
        raise ConfigError(
            f"the teacher models rows of {teacher.denoiser.shape}, and the student of {own.shape}",
            "name a teacher of the same data; a run of the model latent models codes",
        )
    if config.kind != "reflow" and not _same_path(own, teacher.denoiser):
        raise ConfigError(
            f"kind={config.kind!r}: the student's schedule differs from the teacher's",
            "give model.student.schedule and timesteps of the teacher",
        )


def _same_path(a: Denoiser, b: Denoiser) -> bool:
    """Return whether two fixed paths agree; a learned one has none of its own before it is trained."""
    t = jnp.linspace(0.1, 0.9, 9)
    with jax.ensure_compile_time_eval():
        try:
            both = [np.stack([np.asarray(c) for c in d.path(Variables())(t)]) for d in (a, b)]
        except KeyError:
            return False
    return np.allclose(both[0], both[1], rtol=1e-3)


@dataclasses.dataclass(frozen=True, eq=False)
class _Distillation:
    """Implement the contract."""

    config: Config
    student: Model
    denoiser: Denoiser
    teacher: Model | None

    def init(self, key: jax.Array, batch: Batch, frozen: dict[str, Variables]) -> Variables:
        own = self.student.init(key, batch, {})
        if self.config.teacher is not None:
            given = frozen[self.config.teacher].params
            shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
            if jax.tree.structure(given) == jax.tree.structure(own.params) and shapes(given) == shapes(
                own.params
            ):
                # A copy: the student's parameters are donated to its steps, the teacher's are not.
                own = own.replace(params=jax.tree.map(jnp.copy, given))
        return own.replace(frozen=frozen)

    def taught(self, variables: Variables, batch: Batch) -> Denoise:
        """Return the teacher's estimate as a function of (x_t, t), given its own conditions of the rows."""
        assert self.teacher is not None
        assert self.config.teacher is not None
        own = variables.frozen[self.config.teacher]
        denoiser = self.teacher.denoiser
        assert denoiser is not None
        assert denoiser.read is not None
        given = denoiser.read(own, batch)[1]
        null = denoiser.hidden(given) if given else None
        weaker = denoiser.weaker and denoiser.weaker(own)
        one = lambda x, t, prompt: jax.lax.stop_gradient(denoiser.denoise(own, x, t, prompt))
        return guided(one, self.config.guidance, given, null, weaker=weaker)

    def taught_by(self, variables: Variables) -> schedules.Path:
        """Return the path of the teacher, or without one the student's."""
        if self.teacher is None or self.config.teacher is None:
            return self.denoiser.path(variables)
        assert self.teacher.denoiser is not None
        return self.teacher.denoiser.path(variables.frozen[self.config.teacher])

    def objective(
        self, variables: Variables, batch: Batch, keys: Keys, *, step: jax.Array | None
    ) -> tuple[Mean, Aux]:
        del step
        assert self.denoiser.read is not None
        x_0, given = self.denoiser.read(variables, batch)
        own = lambda x, at: self.denoiser.denoise(variables, x, at, given)
        teach = None if self.teacher is None else self.taught(variables, batch)
        error = self.error(variables, own, teach, x_0, keys)
        loss = Mean.of(error, batch["mask"])
        return loss, Aux(variables.state, {"error": loss})

    def error(
        self,
        variables: Variables,
        own: Denoise,
        teach: Denoise | None,
        x_0: Float[Array, "B *shape"],
        keys: Keys,
    ) -> Float[Array, " B"]:
        """Return the loss of each row."""
        N = self.config.steps
        epsilon = noise.normal(fold(keys, 1), x_0.shape[1:])
        path = self.taught_by(variables)
        if self.config.kind == "reflow":
            assert teach is not None
            return self.of_pairs(variables, own, teach, epsilon, keys)
        i = noise.integers(fold(keys, 0), 1, N + 1)
        t = i / N
        s = (i - 1) / N
        x_t = gaussian.diffuse(x_0, epsilon, path(t))
        if self.config.kind == "progressive":
            assert teach is not None
            target = jax.lax.stop_gradient(distillation.halved(teach, path, x_t, t, s))
            # The weight is max(SNR, 1) (sec. 4).
            snr = jnp.exp(schedules.log_snr(*path(t)))
            return jnp.maximum(snr, 1.0) * _mean_square(own(x_t, t) - target)
        if teach is None:
            x_s = gaussian.diffuse(x_0, epsilon, path(s))
        else:
            x_s = distillation.ddim_step(teach, path, x_t, t, s)
        # Without noise a row is its own estimate.
        clean = gaussian.spread(s, x_s) <= 0
        target = jnp.where(clean, x_s, own(x_s, jnp.maximum(s, 1e-5)))
        return distillation.pseudo_huber(own(x_t, t), jax.lax.stop_gradient(target))

    def of_pairs(
        self,
        variables: Variables,
        own: Denoise,
        teach: Denoise,
        epsilon: Float[Array, "B *shape"],
        keys: Keys,
    ) -> Float[Array, " B"]:
        """Return the error of the flow's velocity between noise and the row that the teacher makes of it."""
        assert self.teacher is not None
        assert self.teacher.denoiser is not None
        assert self.teacher.denoiser.times is not None
        along = self.taught_by(variables)
        times = self.teacher.denoiser.times(self.config.steps, None)
        begin = along(jnp.float32(times[0]))[1] * epsilon
        made = jax.lax.stop_gradient(integrate(teach, along, begin, keys, times, METHODS["ddim"]()))
        at = self.denoiser.path(variables)
        t = jnp.maximum(noise.uniform(fold(keys, 0)), 1e-3)
        alpha, sigma = at(t)
        estimate = own(gaussian.diffuse(made, epsilon, (alpha, sigma)), t)
        # The velocity noise - x_0 changes by (alpha + sigma) / sigma times the change of x_0 at a fixed x_t.
        return ((alpha + sigma) / sigma) ** 2 * _mean_square(estimate - made)


def _mean_square(x: Float[Array, "B *shape"]) -> Float[Array, " B"]:
    return jnp.square(x).reshape(x.shape[0], -1).mean(1)
