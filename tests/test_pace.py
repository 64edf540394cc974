"""A run of a number of seconds: it spends them, on any machine, and repeats its decisions when it resumes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resume_worker
import training_toys as toys
from properties import Killed, assert_equal_runs, killer, leaves, lines, trainer

from genjax.config import build
from genjax.core import Aux, Mean
from genjax.errors import CheckpointError, ConfigError
from genjax.training import Config, optimizers, pace
from genjax.training.checkpoint import saved_steps
from genjax.training.loop import Hooks
from genjax.training.pace import FILE, Limits, Pace

ONE = jax.devices()[:1]


class Clock:
    """A clock that shows what it is told."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def pause(self) -> None: ...

    def start(self) -> None: ...

    def at_least(self, seconds: float) -> None:
        self.seconds = max(self.seconds, seconds)


Cost = Callable[[int, float], float]
"""(step, seconds so far) -> seconds of the next step."""


def run(limits: Limits, directory: Path, cost: Cost, start=(0, 0.0), stop: int | None = None):
    """Take the steps of a run on a machine of this speed; the first call compiles and is not timed.

    Returns:
      (steps taken, seconds spent, the fraction of the schedule before each step).
    """
    clock = Clock(start[1])
    own = Pace(limits, directory)
    own.restart(start[0], clock)
    step = start[0]
    fractions = []
    while step < own.end and (stop is None or step < stop):
        for _ in range(limits.per_call):
            fractions.append(own.current.at(step))
            clock.seconds += cost(step, clock.seconds) if step >= start[0] + limits.per_call else 0.0
            step += 1
        if step == start[0] + limits.per_call:
            own.untimed(limits.per_call)
        own.update(step, clock, lambda: None)
    return step, clock.seconds, fractions


SLOW = [0.0003, 0.004, 0.07, 0.6]
"""Seconds of a step: budgets of 60 s are a hundred steps or two hundred thousand."""


@pytest.mark.parametrize("each", SLOW)
@pytest.mark.parametrize("steps", [20, 900])
def test_the_seconds_are_spent_at_any_speed(each: float, steps: int, tmp_path: Path):
    end, seconds, fractions = run(Limits(60.0, steps), tmp_path, lambda step, now: each)
    assert seconds == pytest.approx(60.0, rel=0.02)
    assert end == pytest.approx(60.0 / each, rel=0.03)
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0, abs=0.03)
    jumps = np.diff(fractions)
    assert (jumps >= 0).all(), "the schedule goes back"
    # The fraction of the schedule follows that of the time, whatever number of steps was expected.
    assert np.abs(np.asarray(fractions) - np.arange(end) / end).max() < 0.06


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("when", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_machine_that_changes_keeps_the_seconds(factor: float, when: float, tmp_path: Path):
    """Another process takes half of the machine, or leaves it."""
    changes = lambda step, now: 0.05 * (factor if now > when * 60 else 1.0)
    end, seconds, fractions = run(Limits(60.0, 900), tmp_path, changes)
    assert seconds == pytest.approx(60.0, rel=0.03)
    assert fractions[-1] == pytest.approx(1.0, abs=0.05)
    expected = 20 * 60 * (when + (1 - when) / factor)
    assert end == pytest.approx(expected, rel=0.04)


def test_steps_of_uneven_length(tmp_path: Path):
    """One step in 16 takes five times as long (a lazy regulariser), and every step varies."""
    noise = np.random.default_rng(0).lognormal(0.0, 0.3, 100_000)
    uneven = lambda step, now: 0.01 * noise[step] * (5 if step % 16 == 0 else 1)
    assert run(Limits(20.0, 2000), tmp_path, uneven)[1] == pytest.approx(20.0, rel=0.03)


def test_few_long_steps(tmp_path: Path):
    """The nearest number of steps, and one step at least."""
    end, seconds, _ = run(Limits(10.0, 900), tmp_path / "few", lambda step, now: 3.0)
    assert abs(seconds - 10.0) <= 1.5
    assert end in (4, 5)
    assert run(Limits(0.001, 900), tmp_path / "one", lambda step, now: 3.0)[0] in (1, 2)


def test_calls_of_several_steps_and_a_limit_of_steps(tmp_path: Path):
    end, seconds, _ = run(Limits(10.0, 30, None, 8), tmp_path / "calls", lambda step, now: 0.01)
    assert end % 8 == 0
    assert seconds == pytest.approx(10.0, rel=0.03)
    end, seconds, fractions = run(Limits(10.0, 900, 24), tmp_path / "most", lambda step, now: 0.01)
    assert end == 24
    assert seconds < 0.3
    assert fractions[-1] > 0.9


def test_a_resumed_run_repeats_the_decisions_and_then_decides_again(tmp_path: Path):
    """Killed at step 700 and resumed from a checkpoint of step 500, on a machine of half the speed."""
    limits = Limits(60.0, 900)
    at, _, before = run(limits, tmp_path, lambda step, now: 0.05, stop=700)
    assert at == 700
    recorded = json.loads((tmp_path / FILE).read_text())["decisions"]
    end, seconds, after = run(limits, tmp_path, lambda step, now: 0.1, start=(500, 25.0))
    decided = json.loads((tmp_path / FILE).read_text())["decisions"]
    assert decided[: len(recorded)] == recorded
    assert len(decided) > len(recorded)
    last = recorded[-1]["step"]
    assert 500 < last < 700
    assert after[: last - 500] == before[500:last]
    assert seconds == pytest.approx(60.0, rel=0.03)  # the steps that were repeated included
    # Given these decisions, a run from the start takes the same steps at the same fractions.
    for each in (0.001, 0.5):  # whatever its speed
        shutil.copytree(tmp_path, tmp_path.parent / f"again-{each}")
        whole, _, fractions = run(limits, tmp_path.parent / f"again-{each}", lambda step, now, x=each: x)
        assert (whole, fractions[500:]) == (end, after)


def test_other_limits_and_a_lost_record_are_refused(tmp_path: Path):
    run(Limits(60.0, 900), tmp_path, lambda step, now: 0.05, stop=700)
    with pytest.raises(ConfigError, match=r"train\.seconds=60\.0, and this config has 30\.0"):
        Pace(Limits(30.0, 900), tmp_path).restart(500, Clock())
    with pytest.raises(ConfigError, match=r"train\.steps=900, and this config has 800"):
        Pace(Limits(60.0, 800), tmp_path).restart(500, Clock())
    fresh = Pace(Limits(30.0, 900), tmp_path)  # nothing was saved: the run starts again
    fresh.restart(0, Clock())
    assert fresh.current == pace.first(Limits(30.0, 900))
    (tmp_path / FILE).write_text('{"limits": 3}')
    with pytest.raises(CheckpointError, match=r"pace\.json cannot be read"):
        Pace(Limits(60.0, 900), tmp_path).restart(500, Clock())
    (tmp_path / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"pace\.json is missing"):
        Pace(Limits(60.0, 900), tmp_path).restart(500, Clock())


def test_passes_need_seconds():
    with pytest.raises(ConfigError, match="without seconds, set steps"):
        build(Config, {"passes": 1.0}, "train")


# --- the schedule --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_a_stretched_optimizer_follows_the_fraction(name: str):
    """At the fraction n / total it takes the step that the ordinary one takes at update n."""
    config = optimizers.Config(
        name=name, learning_rate=0.1, schedule="cosine", warmup=0.25, end=0.1, clip=1.0, eps=1e-3
    )
    total = 16
    params = {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "bias": jnp.ones(3)}
    plain = optimizers.make(config, total)
    stretched = optimizers.stretched(config, total)
    a: Any = plain.init(params)
    b: Any = stretched.init(params)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    sizes = []
    for n in range(total):
        g = jax.tree.map(lambda x, n=n: jnp.cos(x + n), params)
        one, a = plain.update(g, a, params)
        two, b = stretched.update(g, b, params, progress=jnp.float32(n / total))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), one, two)
        sizes.append(max(float(jnp.abs(x).max()) for x in jax.tree.leaves(one)))
    assert sizes[0] == 0.0
    assert max(sizes) > 0


def test_the_compiled_line_is_the_recorded_one():
    decision = pace.decide(Limits(60.0, 900), pace.first(Limits(60.0, 900)), 18, 1.3, 0.07)
    own = Pace(Limits(60.0, 900), Path("nowhere"))
    own.current = decision
    arguments = {k: jnp.asarray(x) for k, x in own.arguments().items()}
    for step in (18, 100, decision.end):
        assert float(pace.progress(arguments, jnp.int32(step))) == pytest.approx(decision.at(step), abs=1e-6)


# --- real runs -----------------------------------------------------------------------------------------


def paced(seconds: float = 1.2, **changes) -> Callable[[Path, Hooks], object]:
    adam = optimizers.Config(name="adam", learning_rate=0.02, schedule="cosine", warmup=0.1)
    config = resume_worker.config(
        seconds=seconds, steps=40, eval_every=0, checkpoint_every=25, sample_every=1, **changes
    )
    return trainer(toys.mlp(), toys.dataset(), config, batch=16, devices=ONE, optimizer={"mlp": adam}, seed=1)


def test_a_run_that_was_killed_equals_one_that_was_not(tmp_path: Path):
    """Given the recorded decisions, bit for bit: parameters, moments, averages, and learning rates."""
    train = paced()
    broken, whole, other = tmp_path / "broken", tmp_path / "whole", tmp_path / "other"
    with pytest.raises(Killed):
        train(broken, killer(40))
    before = json.loads((broken / FILE).read_text())["decisions"]
    assert saved_steps(broken) == [25]
    train(broken, Hooks())
    record = json.loads((broken / FILE).read_text())
    assert record["decisions"][: len(before)] == before
    whole.mkdir()
    shutil.copy(broken / FILE, whole / FILE)
    train(whole, Hooks())
    assert_equal_runs(whole, broken)
    rates = [line["learning_rate/mlp"] for line in lines(whole) if line["split"] == "train"]
    assert rates[0] == 0.0
    assert max(rates) > 0.015
    assert rates[-1] < 0.5 * max(rates)
    # The comparison can fail: other decisions give other bits.
    for decision in record["decisions"]:
        decision["fraction"] *= 0.9
    other.mkdir()
    (other / FILE).write_text(json.dumps(record))
    train(other, Hooks())
    assert any(x.tobytes() != leaves(other)[path].tobytes() for path, x in leaves(whole).items())


def test_compilation_costs_no_seconds_and_a_limit_stays(tmp_path: Path):
    """Tracing that takes long, as compiling does on a slow machine, leaves the budget alone."""
    model = toys.mlp()
    inner = model.phases["mlp"].objective

    def slow(variables, batch, keys, *, step) -> tuple[Mean, Aux]:
        time.sleep(1.0)  # while it is traced, and never again
        return inner(variables, batch, keys, step=step)

    model = model.replace(phases={"mlp": model.phases["mlp"]._replace(objective=slow)})
    config = resume_worker.config(seconds=0.3, steps=40, eval_every=0, checkpoint_every=0)
    began = time.perf_counter()
    result = trainer(model, toys.dataset(), config, batch=16, devices=ONE)(tmp_path, Hooks())
    assert time.perf_counter() - began > 1.0
    assert 0.25 < result.seconds < 0.9  # tests run beside others: one step may take long
    endless = resume_worker.config(steps=result.step + 10)
    with pytest.raises(ConfigError, match=r"limited by train\.seconds"):
        trainer(toys.mlp(), toys.dataset(), endless, batch=16, devices=ONE)(tmp_path, Hooks())
