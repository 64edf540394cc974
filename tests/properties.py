"""Properties that training has for every model, as functions of (model, dataset, ...): assertions inside.

The tests of training use them on toys; the conformance suite on every model's smoke config.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from genjax.core import Decoder, Model, Variables
from genjax.training import Config, optimizers, step, trees
from genjax.training.checkpoint import FOLDER, saved_steps
from genjax.training.engine import Engine
from genjax.training.logbook import WALL_CLOCK
from genjax.training.loop import Hooks, train

SGD = optimizers.Config(name="sgd", learning_rate=0.1, momentum=0.0)


class Taken:
    """What some steps of an engine came to: losses by step, final state and metrics as numpy by path."""

    def __init__(
        self,
        model: Model,
        dataset: Any,
        config: Config,
        *,
        batch: int,
        steps: int = 3,
        order: str = "shuffled",
        optimizer: optimizers.Config = SGD,
        devices: Sequence[Any] | None = None,
        frozen: Mapping[str, Variables] | None = None,
        seed: int = 0,
        engine: Engine | None = None,
    ):
        """Take the steps, in an engine that was made with the same arguments if there is one."""
        stream = dataset.train.stream(order=order, batch=batch, seed=seed)
        players = {phase.player for phase in model.phases.values()}
        transforms = {p: optimizers.make(optimizer, steps) for p in players}
        how: dict[str, Any] = {"frozen": frozen, "seed": seed, "devices": devices}
        engine = engine or Engine(model, transforms, config, stream[0], **how)
        state, self.metrics, k = engine.create(), [], config.steps_per_call
        for n in range(0, steps, k):
            phases = tuple(step.due(model, n + i) for i in range(k))
            state, packed = engine.step(state, engine.put([stream[n + i] for i in range(k)]), phases)
            self.metrics += engine.read(jax.device_get(packed), phases)
        self.engine, self.state = engine, state
        self.leaves = {p: np.asarray(x) for p, x in trees.named(engine.canonical(state)).items()}


def assert_same_steps(a: Taken, b: Taken, tolerance: float = 1e-5) -> None:
    """Both took the same steps: metrics (losses, gradient norms) and every leaf of the state agree."""
    assert len(a.metrics) == len(b.metrics)
    for n, (x, y) in enumerate(zip(a.metrics, b.metrics, strict=True)):
        assert set(x) == set(y)
        for name in x:
            for part in ("total", "count"):
                left, right = getattr(x[name], part), getattr(y[name], part)
                np.testing.assert_allclose(
                    left, right, rtol=tolerance, atol=tolerance, err_msg=f"{name}.{part} at step {n}"
                )
    assert set(a.leaves) == set(b.leaves)
    for path, x in a.leaves.items():
        np.testing.assert_allclose(
            x.astype(np.float64),
            b.leaves[path].astype(np.float64),
            rtol=tolerance,
            atol=tolerance,
            err_msg=path,
        )


def shaken(tree: Any, scale: float, seed: int = 0) -> Any:
    """Add normal noise to every array of floats. NumPy draws it: JAX would compile one program per shape."""
    rng = np.random.default_rng(seed)

    def moved(x: Any) -> Any:
        noise = rng.normal(size=x.shape)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return jnp.asarray((np.asarray(x, np.float64) + scale * noise).astype(x.dtype))

    return jax.tree.map(moved, tree)


def compiled(model: Model) -> Model:
    """The model with its functions compiled whole: op by op, every shape would be a program of its own."""

    def whole(function: Any, *static: int) -> Any:
        if function is None:
            return None
        options = [n for n, p in inspect.signature(function).parameters.items() if p.kind == p.KEYWORD_ONLY]
        return jax.jit(function, static_argnums=static, static_argnames=options)

    d = model.decoder
    decoder = None if d is None else Decoder(whole(d.start, 2, 3), whole(d.step), whole(d.commit))
    return model.replace(decoder=decoder, likelihood=whole(model.likelihood), sample=whole(model.sample))


class Killed(BaseException):
    """Break the loop in place of a kill: hooks may raise an Exception and the run goes on."""


def killer(at: int) -> Hooks:
    """Hooks that break the loop off at the first samples taken at or after step `at`."""

    def on_sample(variables: Variables, n: int) -> None:
        del variables
        if n >= at:
            raise Killed(n)

    return Hooks(on_sample=on_sample)


def assert_resumes(
    run: Callable[[Path, Hooks], Any],
    directory: Path,
    kills: Sequence[int],
    on_kill: Callable = lambda d: None,
) -> None:
    """A run broken off at the steps `kills` and resumed each time equals one that was not, bit for bit.

    Args:
      run: (directory, hooks) trains in that directory; its config must have sample_every such that each
        of `kills` is a multiple of it and, to prove anything, no multiple of checkpoint_every.
      on_kill: (directory) done after each kill.
    """
    whole, broken = directory / "whole", directory / "broken"
    with one_engine():
        run(whole, Hooks(on_sample=lambda variables, n: None))
        for at in kills:
            try:
                run(broken, killer(at))
            except Killed:
                on_kill(broken)
            else:
                raise AssertionError(f"not killed at step {at}")
        run(broken, Hooks(on_sample=lambda variables, n: None))
    assert_equal_runs(whole, broken)


@contextlib.contextmanager
def one_engine() -> Iterator[None]:
    """Let runs of the same arguments share their engine, which has programs and no state."""
    made: list[Engine] = []

    def engine(*args: Any, **how: Any) -> Engine:
        if not made:
            made.append(Engine(*args, **how))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genjax.training.run.Engine", engine)
        yield


def killed_and_resumed(
    command: Sequence[str],
    directory: Path,
    at: int,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> int:
    """Runs `command`, which trains in `directory`, SIGKILLs it once step `at` is logged, and runs it again.

    Returns:
      the last step that was logged when it was killed.
    """
    environment = {**os.environ, **(env or {})}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + timeout
    while process.poll() is None and last_step(directory) < at and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, (
        f"ended with {process.returncode} before step {at}: {errors}"
    )
    reached = last_step(directory)
    subprocess.run(command, env=environment, check=True, timeout=timeout)
    return reached


def last_step(directory: Path) -> int:
    """The last step in metrics.jsonl; -1 where there is none yet."""
    try:
        return max((line["step"] for line in lines(directory)), default=-1)
    except (OSError, ValueError):
        return -1


def lines(directory: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the wall clock."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in rows]


def leaves(directory: Path, n: int | None = None) -> dict[str, np.ndarray]:
    """Every leaf of a run's checkpoint, the last where `n` is None, by its path."""
    n = saved_steps(directory)[-1] if n is None else n
    folder = directory.absolute() / FOLDER / str(n)
    tree = json.loads((folder / "record" / "metadata").read_text())["tree"]
    item = {p: np.zeros(shape, dtype) for p, (shape, dtype) in tree.items() if 0 not in shape}
    restore = {p: ocp.RestoreArgs(restore_type=np.ndarray) for p in item}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(folder / "state", args=ocp.args.PyTreeRestore(item, restore_args=restore))


def assert_equal_runs(a: Path, b: Path) -> None:
    """Two runs ended the same, bit for bit: every leaf, what is beside them, and every line of metrics."""
    assert saved_steps(a)[-1] == saved_steps(b)[-1]
    x, y = leaves(a), leaves(b)
    assert set(x) == set(y)
    for path in x:
        assert x[path].dtype == y[path].dtype
        assert x[path].tobytes() == y[path].tobytes(), f"{path} differs by {np.abs(x[path] - y[path]).max()}"
    records = [
        json.loads((d / FOLDER / str(saved_steps(d)[-1]) / "record" / "metadata").read_text()) for d in (a, b)
    ]
    for record in records:
        record.pop("seconds")
    assert records[0] == records[1]
    assert lines(a) == lines(b)


def trainer(model: Model, dataset: Any, config: Config, **how: Any) -> Callable[[Path, Hooks], Any]:
    """(directory, hooks) -> train(...), with adam for every player unless `optimizer` says otherwise."""
    adam = optimizers.Config(name="adam", learning_rate=1e-2)
    players = {phase.player for phase in model.phases.values()}
    how.setdefault("optimizer", dict.fromkeys(players, adam))

    def run(directory: Path, hooks: Hooks) -> Any:
        return train(model, dataset, config, directory=directory, hooks=hooks, **how)

    return run
