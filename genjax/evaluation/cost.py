"""What a model costs: parameters, FLOPs, speed and memory.

FLOPs are counted on the jaxpr (evaluation/flops.py). A training example has those of the gradients of the
phases, each weighted by 1 / interval (the average over a cycle), without what is paid once a step rather than
per example: the optimizer's update, averages, and collectives. Phases that share a forward pass are counted
apart, though the compiler may merge it.

Speed is the median of repeats of a compiled program that was run once before; it depends on the machine,
which is in the protocol. Memory is what the compiled program reserves: arguments, results and temporaries.
A device's own high-water mark (memory_stats) is of the process, not of the program: it goes into the detail
where there is one.
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

from genjax.core import Batch, Keys, Model, Spec, Tree, Variables, row_keys
from genjax.evaluation import flops
from genjax.evaluation.flops import Flops


class Speed(NamedTuple):
    """Of one sampler at one batch size.

    Attributes:
      batch: samples drawn at once.
      per_second: samples a second, at the median of the repeats.
      slowest, fastest: samples a second, over the repeats.
      memory: bytes that the compiled program reserves, or None; `method` says how it was found.
    """

    batch: int
    per_second: float
    slowest: float
    fastest: float
    memory: int | None
    method: str


def parameters(variables: Variables) -> dict[str, int]:
    """{player: how many numbers it has learned by gradient}, and "state" for what it has accumulated."""
    counts = {player: size(tree) for player, tree in variables.params.items()}
    return {**counts, "state": size(variables.state)}


def size(tree: Tree) -> int:
    """Numbers in a tree (arrays or shapes); keys and other non-numbers are 0."""
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree) if hasattr(x, "shape"))


def training_flops(model: Model, variables: Variables, spec: Spec, batch: int = 32) -> Flops:
    """FLOPs of the gradients per training example, averaged over the cycle of phases.

    Nothing is run: variables may be shapes. `batch` rows are traced at once, as batch statistics need.
    """
    shapes = _shapes(variables)
    total = flops.ZERO
    example = jax.eval_shape(lambda: spec.example(batch))
    example = {**example, "carry": jax.eval_shape(model.carry, example)}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    for phase in model.phases.values():
        params = shapes.params[phase.player]
        # No gradient is taken where there is nothing to learn by it (a counting model).
        derive = jax.grad if jax.tree.leaves(params) else (lambda f, has_aux: f)

        def gradient(p: Tree, v: Variables, b: Batch, k: Keys, s: jax.Array, phase=phase, derive=derive):
            def loss_of(p: Tree):
                w = v.replace(params={**v.params, phase.player: p})
                loss, aux = phase.objective(w, b, k, step=s)
                return loss.total.astype(jnp.float32), (loss.count, aux)

            return derive(loss_of, has_aux=True)(p)

        total = total + flops.count(gradient, params, shapes, example, keys, step).times(1 / phase.interval)
    return total.times(1 / batch)


def sampling_flops(
    model: Model, variables: Variables, prompt: Batch, knobs: Mapping[str, Any], batch: int = 8
) -> Flops:
    """FLOPs per sample of model.sample with these knobs; `prompt` has `batch` rows."""
    if model.sample is None:
        raise ValueError("this model has no sampler")
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    draw = functools.partial(model.sample, **knobs)
    return flops.count(draw, _shapes(variables), keys, _shapes(prompt)).times(1 / batch)


def _shapes(tree: Tree) -> Any:
    return jax.eval_shape(lambda t: t, tree)


def speed(
    model: Model,
    variables: Variables,
    prompts: Callable[[int], Batch],
    knobs: Mapping[str, Any],
    batch: int,
    *,
    repeats: int = 3,
    seed: int = 0,
    compiled: Any = None,
) -> Speed:
    """Samples a second of the compiled sampler, and the memory that it reserves.

    Args:
      prompts: batch size -> the prompt of that many rows.
      repeats: timed runs, after one that is not.
      compiled: the sampler's program (variables, keys, prompt) for this batch, where there is one already.
    """
    keys = row_keys(jax.random.key(seed), 0, jnp.arange(batch))
    prompt = prompts(batch)
    if compiled is None:
        compiled = compile_sampler(model, variables, keys, prompt, knobs)
    jax.block_until_ready(compiled(variables, keys, prompt))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(variables, keys, prompt))
        seconds.append(time.perf_counter() - start)
    memory, method = program_memory(compiled)
    middle = statistics.median(seconds)
    return Speed(batch, batch / middle, batch / max(seconds), batch / min(seconds), memory, method)


def compile_sampler(
    model: Model, variables: Variables, keys: Keys, prompt: Batch, knobs: Mapping[str, Any]
) -> Any:
    """The compiled program (variables, keys, prompt) -> batch, for these shapes."""
    if model.sample is None:
        raise ValueError("this model has no sampler")
    return jax.jit(functools.partial(model.sample, **knobs)).lower(variables, keys, prompt).compile()


def program_memory(compiled: Any) -> tuple[int | None, str]:
    """(bytes that a compiled program holds at its peak, how they were found).

    The compiler's own account where the backend gives one; else the resident memory of this process, which
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
    """The first device's high-water mark in bytes since the process began; None where it keeps none."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def machine() -> dict[str, str | int]:
    """What a speed depends on, for its protocol."""
    device = jax.devices()[0]
    return {
        "backend": jax.default_backend(),
        "device": device.device_kind if device.platform != "cpu" else platform.machine(),
        "devices": 1,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def median_seconds(function: Callable[..., Any], args: Sequence[Any], repeats: int = 5) -> float:
    """Median seconds of `function(*args)` until its results are ready, after one run to warm it up."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
