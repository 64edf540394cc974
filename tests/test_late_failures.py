"""Errors late in a run cost no step: what can be known is refused before step 1, the rest after a save."""

from __future__ import annotations

import dataclasses
import errno
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import resume_worker
import training_toys as toys
from properties import assert_equal_runs, lines, saved_steps, trainer

from genjax.data.dataset import Split
from genjax.data.rows import Rows
from genjax.errors import ConfigError, GenjaxError, HookError
from genjax.settings import complete, load
from genjax.training import checkpoint
from genjax.training.evaluations import Evaluations
from genjax.training.hooks import Caller
from genjax.training.loop import Hooks
from genjax.workflows.train import train

ONE = jax.devices()[:1]


class Failing(Rows):
    """Rows that raise from some call on, as those of a disk that was unplugged."""

    memory = False

    def __init__(self, rows: Any, at: int, error: Exception):
        self.rows = rows
        self.left = at
        self.error = error

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, indices: np.ndarray) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.rows(indices)


def failing(part: str, at: int, error: Exception) -> Any:
    """Return the toy data, of which one part raises from its call `at` on, counted from 0."""
    data = toys.dataset()
    split = Split(part, Failing(getattr(data, part).source, at, error))
    return dataclasses.replace(data, **{part: split})


def run(directory: Path, data: Any = None, hooks: Hooks = Hooks(), **changes: Any) -> Any:
    base = {"steps": 8, "log_every": 1, "checkpoint_every": 0, "eval_every": 0}
    config = resume_worker.config(**{**base, **changes})
    return trainer(toys.mlp(), data or toys.dataset(), config, batch=16, devices=ONE)(directory, hooks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps, evaluated after each 4, without failures."""
    directory = tmp_path_factory.mktemp("whole")
    run(directory, eval_every=4, keep_best="mlp/loss", best="max", keep_last=1)
    return directory


def saved_before(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "was saved before" in r.getMessage()]


@pytest.mark.parametrize(("eval_every", "calls", "at"), [(0, 0, 8), (4, 0, 4), (4, 2, 8), (4, 1, 4)])
def test_an_evaluation_that_fails_costs_no_step_and_is_repeated(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, eval_every: int, calls: int, at: int
):
    changes = {"eval_every": 4, "keep_best": "mlp/loss", "best": "max", "keep_last": 1}
    error = RuntimeError("the held-out rows are gone")
    batches = 2 * 2  # of 21 rows, at the parameters and at one average
    data = failing("eval", calls // 2 * batches + calls % 2, error)
    with pytest.raises(RuntimeError, match="held-out rows are gone"):
        run(tmp_path, data, **{**changes, "eval_every": eval_every})
    assert saved_steps(tmp_path)[-1] == at
    assert saved_before(caplog) == [f"step {at} was saved before this error:"]
    assert [x["step"] for x in lines(tmp_path) if x["split"] == "train"] == [*range(1, at + 1)]
    if eval_every:
        run(tmp_path, **changes)
        assert_equal_runs(whole, tmp_path)
        assert checkpoint.load(tmp_path, "best").step == checkpoint.load(whole, "best").step


def test_rows_that_cannot_be_read_cost_no_step(whole: Path, tmp_path: Path, caplog: Any):
    changes = {"eval_every": 4, "keep_best": "mlp/loss", "best": "max", "keep_last": 1}
    data = failing("train", 8, FileNotFoundError("shard-00003 is missing"))
    with pytest.raises(FileNotFoundError, match="shard-00003 is missing"):
        run(tmp_path, data, **changes)
    (said,) = saved_before(caplog)
    (at,) = saved_steps(tmp_path)[-1:]
    assert 5 <= at < 8  # batches are read a few steps ahead
    assert f"step {at} was saved" in said
    run(tmp_path, **changes)
    assert_equal_runs(whole, tmp_path)


def test_a_picture_that_fails_at_the_end_costs_no_step(tmp_path: Path):
    def picture(variables: Any, step: int) -> None:
        raise ValueError("no room for the picture")

    with pytest.raises(HookError, match="on_sample failed at step 8: ValueError: no room") as error:
        run(tmp_path, hooks=Hooks(on_sample=picture))
    assert error.value.exit_code == 8
    assert saved_steps(tmp_path) == [8]


def test_a_full_disk_is_not_answered_with_one_more_save(tmp_path: Path, monkeypatch: Any, caplog: Any):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Caller, "finished", full)
    with pytest.raises(GenjaxError, match="No space left on device"):
        run(tmp_path, hooks=Hooks(on_sample=lambda variables, step: None), sample_every=2)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_rescue_that_fails_is_reported_and_the_first_error_raised(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cannot be saved")

    monkeypatch.setattr(checkpoint.Checkpoints, "save", broken)
    monkeypatch.setattr(Evaluations, "measure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path)
    assert "step 8 could not be saved: cannot be saved" in caplog.text


REFUSED = {
    "sample.temperature=-1": ("digits/gpt", "temperature"),
    "sample.temperature=warm": ("digits/gpt", "temperature"),
    "sample.top_k=2.5": ("digits/gpt", "top_k"),
    "sample.nonsense=1": ("digits/gpt", "nonsense"),
    "sample.guidance=2.0": ("ring/diffusion", "guidance"),
    "sample.length=100": ("shakespeare/gpt2", "length"),
    "train.keep_best=los": ("digits/gpt", "no metric 'los'"),
    "evaluate.average=other": ("digits/gpt", "other"),
    "evaluate.metrics=('frecht',)": ("digits/gpt", "frecht"),
}
QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.mark.parametrize("override", REFUSED)
def test_what_can_be_known_is_refused_before_step_1(tmp_path: Path, override: str):
    config, says = REFUSED[override]
    with pytest.raises(ConfigError, match=says) as error:
        train(complete(load(f"{config}:smoke", (*QUIET, override))), tmp_path / "run")
    assert error.value.hint or "choose" in error.value.message
    assert not (tmp_path / "run").exists()


def test_a_sampler_that_cannot_run_is_found_before_step_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without any option: the sampler is traced before training."""

    def broken(self: Any, variables: Any, keys: Any, prompt: Any) -> Any:
        raise ConfigError("this sampler does not fit the data", "mend it")

    monkeypatch.setattr("genjax.models.vae._VAE.sample", broken)
    with pytest.raises(ConfigError, match="does not fit"):
        train(complete(load("digits/vae:smoke", QUIET)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
