"""The loop: what it writes, when it compiles, and how it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import resume_worker
import training_toys as toys
from compiling import QUICK
from properties import last_step, lines, trainer

from genjax.config import build
from genjax.errors import BusyError, ConfigError
from genjax.training import Config, run_lock
from genjax.training.checkpoint import saved_steps
from genjax.training.engine import compilations
from genjax.training.logbook import Logbook
from genjax.training.loop import Hooks, Result

ONE = jax.devices()[:1]


def test_nothing_compiles_after_the_first_cycle(tmp_path):
    """Phases every 1 and every 3: two programs, and none after them, nor for logs and checkpoints."""
    counts = {}
    config = resume_worker.config(steps=20, eval_every=0, checkpoint_every=4, sample_every=1, log_every=2)
    hooks = Hooks(on_sample=lambda variables, n: counts.setdefault(n, compilations()))
    trainer(toys.adversarial(every=3), toys.dataset(), config, batch=16, devices=ONE)(tmp_path, hooks)
    assert counts[2] > counts[1]  # the second program
    assert len({counts[n] for n in range(5, 20)}) == 1  # the first checkpoint, at 4, compiles its checks


def test_lines(tmp_path):
    config = resume_worker.config(steps=10, log_every=3, eval_every=5, checkpoint_every=0, tensorboard=True)
    seen = []
    hooks = Hooks(on_eval=lambda variables, n: {"extra": 1.5}, on_sample=lambda variables, n: seen.append(n))
    run = trainer(toys.mlp(), toys.dataset(), config, batch=16, devices=ONE)
    result = run(tmp_path, hooks)
    rows = lines(tmp_path)
    assert [(r["step"], r["split"]) for r in rows] == [
        *((3, "train"), (5, "eval"), (6, "train"), (9, "train"), (10, "eval"))
    ]
    train, evaluation = rows[0], rows[-1]
    assert set(train) == {"step", "split", "mlp/loss", "mlp/size", "mlp/grad_norm", "learning_rate/mlp"}
    assert train["learning_rate/mlp"] == pytest.approx(0.01)
    assert {"mlp/loss", "mlp/loss@ema", "extra"} <= set(evaluation)
    assert result.metrics == {k: v for k, v in evaluation.items() if k not in ("step", "split")}
    assert result.seconds > 0
    assert seen == [10]
    assert list((tmp_path / "tb").glob("events*"))
    # `size` is a mean of the data alone, so it can be had without a model.
    batches = [toys.dataset().train.stream(batch=16)[n] for n in range(3)]
    total = sum((np.abs(b["point"]) * b["valid"]).sum() for b in batches)
    assert train["mlp/size"] == pytest.approx(total / sum(b["valid"].sum() for b in batches), rel=1e-6)
    held = toys.dataset().eval.rows(range(21))
    size = (np.abs(held["point"]) * held["valid"]).sum() / held["valid"].sum()
    assert evaluation["mlp/size"] == pytest.approx(size, rel=1e-6)


def test_lines_of_later_steps_and_torn_ones_are_cut_off(tmp_path):
    rows = [{"step": n, "split": "train", "x": float(n)} for n in range(1, 6)]
    text = "".join(json.dumps(r) + "\n" for r in rows) + '{"step": 3, "spl'
    (tmp_path / "metrics.jsonl").write_text(text)
    book = Logbook(tmp_path, tensorboard=False, step=3)
    book.write(4, "train", {"x": np.float32(np.nan), "classes": np.asarray([1.0, np.inf])})
    book.close()
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [*rows[:3], {"step": 4, "split": "train", "x": None, "classes": [1.0, None]}]


def test_a_finished_run_does_nothing_and_can_be_lengthened(tmp_path):
    data = toys.dataset()
    samples: list[int] = []
    hooks = Hooks(on_sample=lambda variables, n: samples.append(n))

    def run(steps: int) -> Result:
        config = resume_worker.config(steps=steps, averages={})
        return trainer(toys.counts(), data, config, batch=16, devices=ONE)(tmp_path, hooks)

    first = run(4)
    before = (tmp_path / "metrics.jsonl").read_text()
    saved = {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").rglob("*")}
    again = run(4)
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").rglob("*")} == saved
    assert again.metrics == first.metrics
    assert again.step == 4
    assert samples == [4]  # neither stepped, evaluated, saved nor sampled a second time
    longer = run(6)
    assert longer.step == 6
    assert samples == [4, 6]
    assert int(longer.variables.state["counts"].sum()) == 6 * 16 * toys.T


def test_data_that_ends_ends_the_run(tmp_path):
    """One pass over 100 rows in batches of 16, whose last has 4: every token is counted once."""
    config = resume_worker.config(steps=50, averages={}, eval_every=0)
    run = trainer(toys.counts(), toys.dataset(), config, batch=16, order="once", devices=ONE)
    result = run(tmp_path, Hooks())
    assert result.step == 7
    assert saved_steps(tmp_path)[-1] == 7
    assert int(result.variables.state["counts"].sum()) == 100 * toys.T


def test_a_second_process_is_refused(tmp_path):
    script = "import sys, time, pathlib\nfrom genjax.training import run_lock\n"
    script += (
        "with run_lock.exclusive(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        config = resume_worker.config(steps=1, averages={})
        run = trainer(toys.counts(), toys.dataset(), config, batch=16, devices=ONE)
        with pytest.raises(BusyError, match=f"written by process {holder.pid}") as error:
            run(tmp_path, Hooks())
        assert error.value.exit_code == 7
    finally:
        holder.kill()
        holder.communicate()
    run(tmp_path, Hooks())  # killed, it holds nothing any more
    with run_lock.exclusive(tmp_path):
        pass


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import resume_worker
from genjax.errors import GenjaxError
try:
    resume_worker.main(Path(sys.argv[1]))
except GenjaxError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_75(tmp_path, number):
    script = INTERRUPTED.format(tests=os.path.dirname(__file__))
    env = {**os.environ, "XLA_FLAGS": QUICK}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True
    )
    first = next(iter(resume_worker.CASES))
    end = time.monotonic() + 200
    while last_step(tmp_path / first) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 75, out
    step = saved_steps(tmp_path / first)[-1]
    assert f"stopped by {number.name} after step {step}" in out
    assert last_step(tmp_path / first) == step


def test_a_config_that_does_not_fit_is_an_error():
    with pytest.raises(ConfigError, match="multiple of steps_per_call=4"):
        build(Config, {"steps_per_call": 4, "log_every": 6}, "train")
    with pytest.raises(ConfigError, match="pmap"):
        build(Config, {"engine": "pmap", "mesh": {"fsdp": 2}}, "train")
    with pytest.raises(ConfigError, match="did you mean 'accumulate'"):
        build(Config, {"acumulate": 2}, "train")
    built = build(Config, {"sharding": [["kernel$", [None, "fsdp"]]], "averages": {"ema": {"half_life": 10}}})
    assert built.sharding == (("kernel$", (None, "fsdp")),)
    assert built.averages["ema"].half_life == 10.0


def test_a_profile_is_traced(tmp_path):
    config = resume_worker.config(steps=4, averages={}, profile=(1, 3), eval_every=0)
    trainer(toys.counts(), toys.dataset(), config, batch=16, devices=ONE)(tmp_path, Hooks())
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
