"""Hooks: they come after the checkpoint, may fail, and are called again after a restart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jax
import pytest
import resume_worker
import training_toys as toys
from properties import Killed, lines, trainer

from genjax.errors import ConfigError, HookError
from genjax.training import checkpoint
from genjax.training.loop import Hooks

ONE = jax.devices()[:1]


def run(directory: Path, hooks: Hooks, **changes: Any) -> Any:
    base = {"steps": 8, "log_every": 1, "checkpoint_every": 4, "eval_every": 4, "sample_every": 4}
    config = resume_worker.config(**{**base, **changes})
    return trainer(toys.mlp(), toys.dataset(), config, batch=16, devices=ONE)(directory, hooks)


def raising(at: int, seen: list[int], error: BaseException | None = None) -> Any:
    def hook(variables: Any, step: int) -> None:
        seen.append(step)
        if step == at:
            raise error or OSError("the disk of pictures is full")

    return hook


@pytest.mark.parametrize("name", ["on_sample", "on_eval"])
def test_a_hook_that_fails_costs_neither_steps_nor_checkpoints(tmp_path, caplog, name):
    seen: list[int] = []
    warned: list[int] = []

    def watch(variables: Any, step: int) -> None:
        if caplog.records and not warned:
            warned.append(step)

    hook = raising(4, seen)
    other = "on_eval" if name == "on_sample" else "on_sample"
    hooks = {name: lambda v, n: hook(v, n) or {}, other: lambda v, n: watch(v, n) or {}}
    caplog.set_level(logging.WARNING, "genjax")
    with pytest.raises(
        HookError, match=rf"1 hook call\(s\) failed, the first: {name} failed at step 4"
    ) as error:
        run(tmp_path, Hooks(**hooks))
    assert error.value.exit_code == 8
    assert seen == [4, 8]
    assert checkpoint.saved_steps(tmp_path) == [4, 8]
    assert [r["step"] for r in lines(tmp_path) if r["split"] == "train"] == [*range(1, 9)]
    assert f"the hook {name} failed at step 4: OSError: the disk of pictures is full" in caplog.text
    # The warning comes at once, not with the error at the end.
    assert warned == [4 if name == "on_eval" else 8]


def test_the_checkpoint_is_written_before_the_hook_is_called(tmp_path):
    found: list[list[int]] = []

    def hook(variables: Any, step: int) -> None:
        raise Killed(step)

    with pytest.raises(Killed):
        run(tmp_path, Hooks(on_sample=hook))
    found.append(checkpoint.saved_steps(tmp_path))
    assert found == [[4]]


def test_a_failed_hook_is_called_again_when_the_run_is_resumed(tmp_path):
    seen: list[int] = []
    with pytest.raises(HookError):
        run(tmp_path, Hooks(on_sample=raising(8, seen)))
    assert seen == [4, 8]
    assert json.loads((tmp_path / "hooks.json").read_text())["step"] == 4
    before = (tmp_path / "metrics.jsonl").read_text()
    again: list[int] = []
    run(tmp_path, Hooks(on_sample=raising(0, again)))
    assert again == [8]
    assert (tmp_path / "metrics.jsonl").read_text() == before
    run(tmp_path, Hooks(on_sample=raising(0, again)))
    assert again == [8]  # finished: not once more


def test_a_run_killed_inside_a_hook_calls_it_again(tmp_path):
    seen: list[int] = []
    with pytest.raises(Killed):
        run(tmp_path, Hooks(on_sample=raising(4, seen, Killed(4))))
    run(tmp_path, Hooks(on_sample=raising(0, seen)))
    assert seen == [4, 4, 8]


def test_an_evaluation_killed_inside_its_hook_is_written_once(tmp_path):
    calls: list[int] = []

    def on_eval(variables: Any, step: int) -> dict[str, float]:
        calls.append(step)
        if len(calls) == 1:
            raise Killed(step)
        return {"mine": float(step)}

    with pytest.raises(Killed):
        run(tmp_path, Hooks(on_eval=on_eval))
    result = run(tmp_path, Hooks(on_eval=on_eval))
    assert calls == [4, 4, 8]
    evaluations = [r for r in lines(tmp_path) if r["split"] == "eval"]
    assert [(r["step"], r["mine"]) for r in evaluations] == [(4, 4.0), (8, 8.0)]
    assert result.metrics["mine"] == 8.0


@pytest.mark.parametrize("hooks", [Hooks(), Hooks(on_sample=lambda variables, n: None)])
def test_an_unknown_metric_to_keep_the_best_by_is_refused_before_step_1(tmp_path, hooks):
    with pytest.raises(ConfigError, match="no metric 'mlp/los'") as error:
        run(tmp_path, hooks, keep_best="mlp/los")
    assert "mlp/loss@ema" in error.value.hint
    assert not (tmp_path / "metrics.jsonl").exists()
    assert checkpoint.saved_steps(tmp_path) == []


def test_the_best_can_be_kept_by_a_hooks_value(tmp_path):
    values = {4: 1.0, 8: 2.0, 12: 3.0}
    hooks = Hooks(on_eval=lambda variables, n: {"mine": values[n]})
    run(tmp_path, hooks, steps=12, keep_best="mine", keep_last=1)
    assert checkpoint.load(tmp_path, "best").step == 4
    assert checkpoint.saved_steps(tmp_path) == [4, 12]


def test_a_metric_that_the_hook_does_not_return_is_refused_at_its_first_evaluation(tmp_path):
    hooks = Hooks(on_eval=lambda variables, n: {"mine": 1.0})
    with pytest.raises(ConfigError, match="no metric 'other'") as error:
        run(tmp_path, hooks, keep_best="other")
    assert "mine" in error.value.hint
    assert max(r["step"] for r in lines(tmp_path)) == 4
