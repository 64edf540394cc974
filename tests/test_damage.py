"""Damaged run directories and full disks: one message that names the file, and no lost checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resume_worker
import test_checkpoint as checkpoints
import training_toys as toys
from properties import assert_equal_runs, trainer

from genjax.errors import CheckpointError, GenjaxError
from genjax.settings import complete, load
from genjax.training import foreign, hooks, metricslog, pace
from genjax.training.checkpoint import FOLDER, Checkpoints, saved_steps
from genjax.training.checkpoint import load as load_checkpoint
from genjax.training.events import Events
from genjax.training.logbook import Logbook
from genjax.training.loop import Hooks
from genjax.workflows import assemble
from genjax.workflows.train import train

ONE = jax.devices()[:1]


def run(directory: Path, **changes: Any) -> Any:
    base = {"steps": 8, "log_every": 1, "checkpoint_every": 4, "eval_every": 4, "averages": {}}
    config = resume_worker.config(**{**base, **changes})
    return trainer(toys.counts(), toys.dataset(), config, batch=16, devices=ONE)(directory, Hooks())


# --- metrics.jsonl -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged run of 8 steps."""
    directory = tmp_path_factory.mktemp("whole")
    run(directory)
    return directory


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first 4 steps, to be copied."""
    directory = tmp_path_factory.mktemp("half")
    run(directory, steps=4)
    return directory


@pytest.fixture
def broken(half: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "run"))


DAMAGE = {
    "torn": b'{"step": 5, "split": "tra',
    "torn inside of a character": b'{"step": 5, "split": "\xc3',
    "not UTF-8": b"\xff\xfe\x00\x01\n",
    "zeros": b"\0" * 4096,
    "wrong shapes": b'[]\n3\n"step"\nnull\n{}\n{"step": "x", "split": "train"}\n{"step": 2}\n',
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("place", ["end", "middle"])
def test_damaged_lines_are_removed_with_one_warning_and_the_run_goes_on(
    whole: Path, broken: Path, caplog: pytest.LogCaptureFixture, what: str, place: str
):
    path = broken / metricslog.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    after = len(lines) if place == "end" else 2
    damage = DAMAGE[what] if place == "end" else DAMAGE[what].rstrip(b"\n") + b"\n"
    path.write_bytes(b"".join([*lines[:after], damage, *lines[after:]]))
    caplog.set_level(logging.WARNING)
    run(broken)
    (warning,) = [r.getMessage() for r in caplog.records]
    assert f"{path}: removed line {after + 1}" in warning
    assert_equal_runs(whole, broken)


def test_an_undamaged_log_is_kept_as_it_is(whole: Path, broken: Path, caplog: pytest.LogCaptureFixture):
    before = (broken / metricslog.FILE).read_bytes()
    run(broken)
    assert (broken / metricslog.FILE).read_bytes().startswith(before)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert_equal_runs(whole, broken)


# --- records of another form -------------------------------------------------------------------------

SHAPES = {
    "empty": "",
    "list": "[]",
    "number": "3",
    "text": '"x"',
    "null": "null",
    "object": "{}",
    "section": '{"model": 5}',
    "nested": '{"name": [], "model": {"name": 5}, "train": [], "step": "x", "stages": 1, "limits": 2}',
    "cut": '{"step": 4, "na',
    "bytes": "\udcff",
}


def write(path: Path, shape: str) -> None:
    path.write_bytes(SHAPES[shape].encode("utf-8", "surrogateescape"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the workflow."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    train(settings(), directory)
    return directory


def settings() -> Any:
    quiet = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")
    return complete(load("pydoc/ngram:smoke", quiet))


@pytest.mark.parametrize("name", ["config.json", "dataset.json", "origins.json"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_record_of_another_form_is_one_error_that_names_the_file(
    trained: Path, tmp_path: Path, name: str, shape: str
):
    where = Path(shutil.copytree(trained, tmp_path / "run"))
    path = where / name
    write(path, shape)
    with pytest.raises(GenjaxError) as error:
        assemble.restore(where)
    assert str(path) in str(error.value)
    assert error.value.hint
    if name == "config.json":
        with pytest.raises(GenjaxError, match=re.escape(str(path))):
            train(settings(), where)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pace_of_another_form_is_named(tmp_path: Path, shape: str):
    write(tmp_path / pace.FILE, shape)
    with pytest.raises(CheckpointError, match=r"pace\.json cannot be read"):
        pace.read(tmp_path / pace.FILE)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_record_of_hooks_of_another_form_is_named_and_hooks_are_called_again(
    tmp_path: Path, shape: str, caplog: pytest.LogCaptureFixture
):
    write(tmp_path / hooks.FILE, shape)
    assert hooks.Caller(Hooks(), tmp_path).resume(4, 4)
    (warning,) = [r.getMessage() for r in caplog.records]
    assert str(tmp_path / hooks.FILE) in warning


def test_a_checkpoint_whose_record_has_another_form_is_left_out(tmp_path: Path, caplog: Any):
    for number, text in enumerate(("[]", "{}", "3", '{"step": 2}', '{"step": "2", "tree": []}')):
        directory = tmp_path / str(number)
        checkpoints.save(directory, checkpoints.state(1), checkpoints.state(2))
        (directory / FOLDER / "2" / "record" / "metadata").write_text(text)
        assert load_checkpoint(directory).step == 1
        caplog.clear()
        found = checkpoints.restore(directory, checkpoints.state())
        assert found is not None
        assert found.step == 1
        (warning,) = [r.getMessage() for r in caplog.records]
        assert "checkpoint 2 in" in warning
        assert "going on from checkpoint 1" in warning


# --- checkpoints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [(1,), (1, 2)])
def test_a_file_in_place_of_a_checkpoint_is_refused_by_name(tmp_path: Path, kept: tuple[int, ...]):
    run(tmp_path, steps=4, keep_last=2)
    victim = tmp_path / FOLDER / "4"
    shutil.rmtree(victim)
    victim.write_text("not a folder")
    if len(kept) > 1:
        (tmp_path / FOLDER / "2").mkdir()
    before = (tmp_path / metricslog.FILE).read_bytes()
    for action in (lambda: run(tmp_path), lambda: load_checkpoint(tmp_path)):
        with pytest.raises(CheckpointError, match=f"{victim} is not a checkpoint"):
            action()
    assert (tmp_path / metricslog.FILE).read_bytes() == before


def many(n: int) -> Any:
    """Return a state of many arrays, which Orbax reads at once."""
    return checkpoints.state(n, **{f"leaf_{i}": jnp.full((200, 30), n + i, jnp.float32) for i in range(12)})


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("two")
    checkpoints.save(directory, many(1), many(2))
    return directory


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", ["every file in turn", "state", "record", "all", "every second file"])
def test_a_half_deleted_checkpoint_falls_back_with_one_warning(
    two: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], part: str
):
    names = sorted(p.relative_to(two) for p in (two / FOLDER / "2").rglob("*") if p.is_file())
    single = [[name] for name in names]
    cases = {
        "every file in turn": single,
        "state": [[n for n in names if "state" in n.parts]],
        "record": [[n for n in names if "record" in n.parts]],
        "all": [names],
        "every second file": [names[::2]],
    }
    fell_back = 0
    for number, missing in enumerate(cases[part]):
        where = Path(shutil.copytree(two, tmp_path / str(number)))
        for name in missing:
            (where / name).unlink()
        caplog.clear()
        found = checkpoints.restore(where, many(0))
        assert found is not None
        warnings = [r.getMessage() for r in caplog.records]
        np.testing.assert_array_equal(found.state.variables.params["p"]["leaf_3"], found.step + 3)
        if found.step == 2:
            assert not warnings
            continue
        fell_back += 1
        (warning,) = warnings
        assert f"checkpoint 2 in {where / FOLDER} cannot be read" in warning
        assert "going on from checkpoint 1" in warning
    assert fell_back
    assert capfd.readouterr().err == ""


def test_what_others_print_is_left_alone(capsys: pytest.CaptureFixture[str], caplog: Any):
    foreign.silence()
    logging.getLogger("asyncio").error("Task exception was never retrieved: of another library")
    logging.getLogger("asyncio").error("Future exception was never retrieved: orbax/checkpoint/x.py")
    assert [r.getMessage()[-2:] for r in caplog.records] == ["ry"]


# --- full disks --------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(where)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode
    except OSError:
        done = 1
    if done or not os.path.ismount(where):
        pytest.skip("mounting a file system needs root")
    yield where
    subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_full_disk_is_one_error_and_keeps_the_last_checkpoint(
    disk: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tensorboard: bool
):
    directory = disk / "run"
    changes = {"steps": 4000, "keep_last": 1000, "checkpoint_every": 4, "eval_every": 0}
    with pytest.raises(CheckpointError) as error:
        run(directory, tensorboard=tensorboard, **changes)
    kept = saved_steps(directory)
    assert kept == list(range(4, kept[-1] + 1, 4))
    text = error.value.message
    named = int(text.partition("of step ")[2].split()[0])
    assert kept[-1] < named <= kept[-1] + 8
    assert str(directory) in text
    assert "space" in text
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "Traceback" not in capfd.readouterr().err
    for step in kept[: len(kept) // 2]:
        shutil.rmtree(directory / FOLDER / str(step))
    run(directory, steps=kept[-1] + 2, keep_last=1000)
    assert load_checkpoint(directory).step == kept[-1] + 2


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file can grow beyond 20 kB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_event_files_raise_where_they_are_written(tmp_path: Path):
    events = Events(tmp_path, 0)
    with pytest.raises(OSError, match="large"):
        events.scalars(1, {f"loss_{i}": 1.0 for i in range(2000)})
    with contextlib.suppress(OSError):
        events.close()


@pytest.mark.usefixtures("small_files")
def test_a_line_that_cannot_be_written_names_its_step(tmp_path: Path):
    logbook = Logbook(tmp_path, tensorboard=False)
    logbook.write(1, "train", {"loss": 1.0})
    with pytest.raises(CheckpointError, match=f"the log of step 2 in {tmp_path}"):
        logbook.write(2, "train", {f"loss_{i}": 1.0 for i in range(2000)})
    with contextlib.suppress(CheckpointError):
        logbook.close()
    lines, damaged = metricslog.read(tmp_path)
    assert [line["step"] for line in lines] == [1]
    assert damaged == [2]


def test_a_save_that_fails_is_named_by_its_own_step(tmp_path: Path):
    rows = jax.random.normal(jax.random.key(0), (100, 100))
    kept = Checkpoints(tmp_path)
    kept.save(checkpoints.state(1, kernel=rows), {})
    kept.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        kept.save(checkpoints.state(2, kernel=rows), {})
        with pytest.raises(CheckpointError, match=r"of step 2 could .*step 1 is kept"):
            kept.save(checkpoints.state(3, kernel=rows), {})
        kept.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in (tmp_path / FOLDER).iterdir()] == ["1"]
    assert json.loads((tmp_path / FOLDER / "1" / "record" / "metadata").read_text())["step"] == 1


def test_a_read_that_orbax_abandoned_is_collected_in_silence():
    """Without the filter pytest turns the error of the collection into a failure."""
    source = "async def read(wait):\n try:\n  await wait\n finally:\n  raise RuntimeError('closed')\n"
    scope: dict[str, Any] = {}
    exec(compile(source, "/somewhere/orbax/checkpoint/serialization.py", "exec"), scope)
    foreign.silence()
    loop = asyncio.new_event_loop()
    reading = scope["read"](asyncio.Future(loop=loop))
    reading.send(None)
    loop.close()
    del reading
    gc.collect()
