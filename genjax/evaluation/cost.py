"""Measure the cost of a model: parameters, FLOPs, speed and memory.

FLOPs are counted on the jaxpr (evaluation/flops.py). A training example has those of the gradients of the
phases, each weighted by 1 / interval (the average over a cycle), without the work that is done once a step
rather than per example: the optimizer's update, averages, and collectives. Phases that share a forward pass
are counted apart, though the compiler may merge it.

Speed is the median of repeats of a compiled program that was run once before; it depends on the machine,
which is in the protocol. Memory is that of the compiled program: arguments, results and temporaries.
A device's own high-water mark (memory_stats) is of the process, not of the program: it goes into the detail
if the device has one.
"""

from __future__ import annotations

import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from genjax.core import Batch, Keys, Model, Phase, Spec, Tree, Variables
from genjax.evaluation import flops
from genjax.evaluation.flops import Flops


class Speed(NamedTuple):
    """Hold the speed of one sampler at one batch size.

    Attributes:
      batch: samples drawn at once.
      per_second: samples a second, at the median of the repeats.
      slowest, fastest: samples a second, over the repeats.
      memory: bytes that the compiled program reserves, or None.
      method: by which the memory was found.
    """

    batch: int
    per_second: float
    slowest: float
    fastest: float
    memory: int | None
    method: str


def parameters(variables: Variables) -> dict[str, int]:
    """Count the numbers that each player has learned by gradient, and those of the state, as "state"."""
    counts = {player: size(tree) for player, tree in variables.params.items()}
    return {**counts, "state": size(variables.state)}


def size(tree: Tree) -> int:
    """Count the numbers in a tree of arrays or shapes."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree) if hasattr(x, "shape"))


def training_flops(model: Model, variables: Variables, spec: Spec, batch: int = 32) -> Flops:
    """Count the FLOPs of the gradients per training example, averaged over the cycle of phases.

    Nothing is run: variables may be shapes. What an objective computes with its frozen stages (encoding, a
    teacher) counts, so `variables.frozen` must hold them. `batch` rows are traced at once, as batch
    statistics need.
    """
    total = flops.ZERO
    for name, each in phase_flops(model, variables, spec, batch).items():
        total = total + each.times(1 / model.phases[name].interval)
    return total.times(1 / batch)


def run_flops(model: Model, variables: Variables, spec: Spec, steps: int, batch: int) -> float:
    """Count the FLOPs of the gradients of a whole training run; variables may be shapes.

    Args:
      steps: of the run; a phase is made at every step that is a multiple of its interval, 0 included.
      batch: training examples per step.
    """
    counted = phase_flops(model, variables, spec, batch)
    made = {name: -(-steps // phase.interval) for name, phase in model.phases.items()}
    return float(sum(each.total * made[name] for name, each in counted.items()))


def phase_flops(model: Model, variables: Variables, spec: Spec, batch: int) -> dict[str, Flops]:
    """Count the FLOPs of one gradient of each phase on `batch` rows."""
    shapes = _shapes(variables)
    example = jax.eval_shape(lambda: spec.example(batch))
    example = {**example, "carry": jax.eval_shape(model.carry, example)}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return {
        name: flops.count(_gradient(phase, shapes), shapes.params[phase.player], shapes, example, keys, step)
        for name, phase in model.phases.items()
    }


def _gradient(phase: Phase, shapes: Variables) -> Callable[..., Any]:
    """Return (params of the player, variables, batch, keys, step) -> gradient of the phase's total loss."""

    def gradient(p: Tree, v: Variables, b: Batch, k: Keys, s: jax.Array):
        def loss_of(p: Tree):
            w = v.replace(params={**v.params, phase.player: p})
            loss, aux = phase.objective(w, b, k, step=s)
            return loss.total.astype(jnp.float32), (loss.count, aux)

        # No gradient is taken if nothing is learned by it (a counting model).
        if not jax.tree.leaves(shapes.params[phase.player]):
            return loss_of(p)
        return jax.grad(loss_of, has_aux=True)(p)

    return gradient


def sampling_flops(
    model: Model, variables: Variables, prompt: Batch, options: Mapping[str, Any], batch: int = 8
) -> Flops:
    """Count the FLOPs per sample of model.sample with these options; `prompt` has `batch` rows.

    Raises:
      ValueError: the model has no sampler.
    """
    if model.sample is None:
        raise ValueError("this model has no sampler")
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    draw = functools.partial(model.sample, **options)
    return flops.count(draw, _shapes(variables), keys, _shapes(prompt)).times(1 / batch)


def _shapes(tree: Tree) -> Any:
    return jax.eval_shape(lambda t: t, tree)


def speed(program: Any, variables: Variables, keys: Keys, prompt: Batch, *, repeats: int = 3) -> Speed:
    """Measure samples a second of a compiled sampler, and the memory that it reserves.

    Args:
      program: compiled, (variables, keys, prompt) -> batch, for these shapes.
      repeats: timed runs, after one that is not timed.
    """
    seconds = _timed(program, (variables, keys, prompt), repeats)
    memory, method = program_memory(program)
    batch = keys.shape[0]
    middle = statistics.median(seconds)
    return Speed(batch, batch / middle, batch / max(seconds), batch / min(seconds), memory, method)


def _timed(function: Callable[..., Any], args: Sequence[Any], repeats: int) -> list[float]:
    """Return the seconds of `repeats` calls until their results are ready, after one call to warm up."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - start)
    return seconds


def program_memory(compiled: Any) -> tuple[int | None, str]:
    """Return (bytes that a compiled program holds at its peak, the method by which they were found).

    The compiler's own account if the backend gives one; else the resident memory of this process, which
    is more than the program's.
    """
    try:
        m = compiled.memory_analysis()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        m = None
    if m is not None:
        used = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
        return int(used - m.alias_size_in_bytes), "compiler: arguments + results + temporaries"
    return int(psutil.Process().memory_info().rss), "process: resident set"


def device_memory_peak() -> int | None:
    """Return the first device's high-water mark in bytes since the process began; None if it keeps none."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def machine() -> dict[str, str | int]:
    """Describe the machine that a speed depends on, for its protocol."""
    device = jax.devices()[0]
    return {
        "backend": jax.default_backend(),
        "device": device.device_kind if device.platform != "cpu" else platform.machine(),
        "devices": 1,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def median_seconds(function: Callable[..., Any], args: Sequence[Any], repeats: int = 5) -> float:
    """Measure the median seconds of `function(*args)` until its results are ready, after a warm-up call."""
    return statistics.median(_timed(function, args, repeats))
