"""Configure a training. Standard library only: configs are read before JAX is imported."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from genjax.config import Count, Folder, Name, Natural, Positive, Probability, Range, Regex, check, unused


class NotZero:
    """Declare that a number is not 0."""

    def fault(self, value: int) -> str | None:
        return None if value else f"is out of range, it must be {self}"

    def __str__(self) -> str:
        return "other than 0"


Axis = Annotated[int, Range(least=-1, most=2**20), NotZero()]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Set the size of each axis of the device mesh; one of them may be -1, for the remaining devices.

    Attributes:
      data: copies of the model; each sees its own rows of the batch.
      fsdp: shards of parameters and optimizer state that also divide the batch (ZeRO-3).
      tensor: shards of the matrix products inside layers.
    """

    data: Axis = -1
    fsdp: Axis = 1
    tensor: Axis = 1

    def __post_init__(self):
        sizes = (self.data, self.fsdp, self.tensor)
        check(self)
        if sizes.count(-1) > 1:
            raise ValueError(f"data, fsdp and tensor are {sizes}: at most one of them may be -1")

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """Return (data, fsdp, tensor) for this many devices.

        Raises:
          ValueError: the sizes do not multiply to the number of devices.
        """
        sizes = [self.data, self.fsdp, self.tensor]
        known = 1
        for n in sizes:
            known *= n if n > 0 else 1
        if sizes.count(-1) > 1 or any(n == 0 or n < -1 for n in sizes) or devices % known:
            raise ValueError(f"mesh {tuple(sizes)} does not divide {devices} devices")
        sizes = [devices // known if n == -1 else n for n in sizes]
        if sizes[0] * sizes[1] * sizes[2] != devices:
            raise ValueError(f"mesh {tuple(sizes)} is not {devices} devices")
        return sizes[0], sizes[1], sizes[2]


@dataclasses.dataclass(frozen=True)
class Average:
    """Configure an exponential moving average of parameters, kept beside them.

    Attributes:
      players: the players whose parameters are averaged; all if None.
      half_life: in examples.
      ramp_up: the half-life is at most this fraction of the examples seen so far; None for no limit.
      sigma_rel: in place of a half-life, the width of a power of the step: the standard deviation of the
        profile as a share of the training so far. Other widths can be reconstructed from two of them
        (training/posthoc.py).
    """

    players: tuple[Name, ...] | None = None
    half_life: Positive = 500_000.0
    ramp_up: Probability | None = 0.05
    sigma_rel: Annotated[float, Range(above=0, below=0.2886)] | None = None

    def __post_init__(self):
        check(self)
        if self.sigma_rel is not None:
            unused(self, "sigma_rel", "half_life", "ramp_up")


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure how long and how a model is trained.

    Attributes:
      steps: steps in all, those of earlier sessions included. With `seconds`, the steps for which the
        schedule of the learning rate is written.
      seconds: train so long in place of `steps` (see training/pace.py). Neither compilation nor evaluation,
        sampling and saving count.
      passes: with `seconds`, at most so many passes over the training rows (a counting model needs one).
      accumulate: micro-batches that a batch is divided into.
      steps_per_call: steps in one compiled call (a scan), for steps so short that dispatch dominates.
      engine: "jit" over the mesh, or "pmap" (data parallel only).
      mesh: the device mesh; with pmap, fsdp and tensor must be 1.
      sharding: (regex, spec) pairs; the first regex that is found in a leaf's path gives its partition
        spec, aligned at the right ("blocks/.*/kernel", (None, "fsdp")). Other leaves are replicated.
      logical: (logical axis, mesh axis or None) pairs for the axes that layers name in activations.
      averages: {name: Average}.
      fit_rows: training rows that a model's state is fitted on before step 1 (Model.fit), at most all.
      init_from: directory of the run whose variables a new run starts from.
      init_match: regex; leaves whose path (params/PLAYER/... or state/...) it is found in are copied from
        that run. Empty for all leaves.
      freeze: regex; parameters whose path (PLAYER/...) it is found in are never updated. None for none.
      log_every: steps from one log line to the next; 0 for no lines.
      eval_every, sample_every, checkpoint_every: in steps; 0 for the last step only. The last step always
        evaluates, samples and saves.
      diagnose: samples that are drawn at every evaluation to look for mode collapse; 0 for none.
      eval_batches: batches of an evaluation; None for the whole split.
      keep_last: number of checkpoints to keep.
      keep_best: also keep the checkpoint that is best by this metric of the evaluation, e.g. "vae/loss" or
        "vae/loss@ema".
      best: "min" if smaller values of that metric are better, "max" if larger ones are.
      on_nonfinite: "stop" at a non-finite loss or gradient, or "skip": return to the last checkpoint
        and leave that batch out.
      skip_limit: number of batches that may be left out.
      profile: (first, last) steps of a jax.profiler trace, written to `profile` in the run directory.
      compilation_cache: keep compiled programs between processes (in JAX_COMPILATION_CACHE_DIR, if set).
      tensorboard: write event files.
      wandb: a Weights & Biases project to log to; None for none.
      progress: show a progress bar (plain lines where there is no terminal).
    """

    steps: Natural = 1000
    seconds: Positive | None = None
    passes: Positive | None = None
    accumulate: Count = 1
    steps_per_call: Count = 1
    engine: Literal["jit", "pmap"] = "jit"
    mesh: Mesh = Mesh()
    sharding: tuple[tuple[Regex, Any], ...] = ()
    logical: tuple[tuple[str, Any], ...] = (("batch", ("data", "fsdp")),)
    averages: dict[Folder, Average] = dataclasses.field(default_factory=dict)
    fit_rows: Count = 1024
    init_from: Name | None = None
    init_match: Regex = ""
    freeze: Regex | None = None
    log_every: Natural = 50
    eval_every: Natural = 0
    eval_batches: Count | None = None
    sample_every: Natural = 0
    diagnose: Natural = 0
    checkpoint_every: Natural = 1000
    keep_last: Count = 3
    keep_best: Name | None = None
    best: Literal["min", "max"] = "min"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    skip_limit: Natural = 10
    profile: tuple[Natural, Natural] | None = None
    compilation_cache: bool = True
    tensorboard: bool = True
    wandb: Name | None = None
    progress: bool = True

    def __post_init__(self):
        check(self)
        for name in ("log_every", "eval_every", "sample_every", "checkpoint_every"):
            every = getattr(self, name)
            if every % self.steps_per_call:
                raise ValueError(
                    f"{name}={every} must be 0 or a multiple of steps_per_call={self.steps_per_call}"
                )
        if self.passes is not None and self.seconds is None:
            raise ValueError(
                f"passes={self.passes} limits a run of train.seconds; without seconds, set steps"
            )
        if self.profile is not None and not self.profile[0] < self.profile[1]:
            raise ValueError(
                f"profile must be (first, last) steps, the first before the last: {self.profile}"
            )
        if self.profile is not None and self.seconds is None and self.profile[0] >= self.steps:
            raise ValueError(f"profile={self.profile} begins after the last of {self.steps} steps")
        if "none" in self.averages:
            raise ValueError("averages: 'none' stands for the last weights, choose another name")
        if self.engine == "pmap" and (self.mesh.fsdp, self.mesh.tensor) != (1, 1):
            raise ValueError(
                "engine 'pmap' is data parallel: set mesh.fsdp and mesh.tensor to 1, or engine 'jit'"
            )
        for name in ("sharding", "logical"):  # lists where the config came from JSON
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        for rule, axes in self.sharding:
            _check_axes(f"sharding: rule {rule!r}", axes)
        for axis, axes in self.logical:
            _check_axes(f"logical: axis {axis!r}", (axes,))


def _check_axes(what: str, axes: Any) -> None:
    """Raise ValueError unless `axes` is a tuple whose items are None, a mesh axis or a tuple of mesh axes."""
    known = [f.name for f in dataclasses.fields(Mesh)]
    if not isinstance(axes, tuple):
        raise ValueError(f"{what} needs a list of mesh axes, got {axes!r}")
    for axis in axes:
        for one in axis if isinstance(axis, tuple) else (axis,):
            if one is not None and one not in known:
                raise ValueError(f"{what} names {one!r}, the mesh axes are {', '.join(known)}")


def _tuples(x: Any) -> Any:
    return tuple(_tuples(v) for v in x) if isinstance(x, (list, tuple)) else x
