"""Checkpoints: what is kept, what is refused, and what happens when a disk fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resume_worker
import training_toys as toys
from properties import leaves, lines, trainer

from genjax.core import Variables
from genjax.errors import CheckpointError
from genjax.training import Config, checkpoint
from genjax.training.checkpoint import FOLDER, Checkpoints, load, saved_steps
from genjax.training.loop import Hooks
from genjax.training.step import TrainState

ONE = jax.devices()[:1]


def state(n: int = 1, **params) -> TrainState:
    params = params or {"kernel": jnp.arange(6.0).reshape(2, 3) + n, "empty": jnp.zeros((0, 3))}
    return TrainState(jnp.asarray(n, jnp.int32), Variables({"p": params}), {}, {})


def save(directory: Path, *states: TrainState, **how) -> None:
    kept = Checkpoints(directory, **how)
    for s in states:
        kept.save(s, {"identity": {"model": {"width": 3}}})
    kept.close()


def restore(directory: Path, like: TrainState, identity=None):
    kept = Checkpoints(directory)
    try:
        return kept.restore(jax.eval_shape(lambda: like), jax.tree.map(lambda x: x.sharding, like), identity)
    finally:
        kept.close()


def files(directory: Path, step: int) -> list[Path]:
    return [p for p in (directory / FOLDER / str(step) / "state").rglob("*") if p.is_file()]


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    kept = Checkpoints(tmp_path, keep_last=2)
    for n in range(1, 7):
        kept.save(state(n), {}, best=n == 2)
    kept.close()
    assert saved_steps(tmp_path) == [2, 5, 6]
    assert load(tmp_path, "best").step == 2
    assert load(tmp_path, 5).variables.params["p"]["kernel"][0, 0] == 5
    newest = load(tmp_path, like=state().variables)
    assert newest.step == 6
    assert newest.variables.params["p"]["empty"].shape == (0, 3)
    again = Checkpoints(tmp_path, keep_last=2)  # a later sitting still knows which was the best
    again.save(state(7), {})
    again.close()
    assert saved_steps(tmp_path) == [2, 6, 7]
    with pytest.raises(CheckpointError, match="no checkpoint of step 3"):
        load(tmp_path, 3)
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        load(tmp_path / "nowhere")


def test_saving_in_the_background_is_not_disturbed_by_donation(tmp_path):
    go = jax.jit(lambda s: jax.tree.map(lambda x: x + jnp.ones((), x.dtype), s), donate_argnums=0)
    s = go(state(0, kernel=jnp.zeros((1000, 1000))))
    kept = Checkpoints(tmp_path)
    kept.save(s, {})
    for _ in range(50):
        s = go(s)
    kept.close()
    assert np.unique(leaves(tmp_path, 1)["variables/params/p/kernel"]).tolist() == [1.0]


# Orbax leaves the coroutines of a read that failed behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["half", "missing", "flipped", "record"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, damage):
    rows = jax.random.normal(jax.random.key(0), (50, 40))
    save(tmp_path, state(1, kernel=rows), state(2, kernel=rows + 1))
    victim = max(files(tmp_path, 2), key=lambda p: p.stat().st_size)
    content = victim.read_bytes()
    if damage == "half":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "missing":
        victim.unlink()
    elif damage == "flipped":  # one bit in the middle of an array
        n = len(content) // 2
        victim.write_bytes(content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :])
    else:
        (tmp_path / FOLDER / "2" / "record" / "metadata").write_text('{"step": 2, "tr')
    found = restore(tmp_path, state(kernel=rows))
    assert found is not None
    assert found.step == 1
    np.testing.assert_array_equal(found.state.variables.params["p"]["kernel"], rows)
    assert "checkpoint 2 in" in caplog.text
    assert "going on from checkpoint 1" in caplog.text
    save(tmp_path, state(2, kernel=rows))  # its place is free again
    assert saved_steps(tmp_path) == [1, 2]


def test_an_unfinished_checkpoint_is_named_and_left_out(tmp_path, caplog):
    save(tmp_path, state(1), state(2))
    (tmp_path / FOLDER / "2").rename(tmp_path / FOLDER / "2.orbax-checkpoint-tmp")
    found = restore(tmp_path, state())
    assert found is not None
    assert found.step == 1
    assert "checkpoint 2 in" in caplog.text
    assert "was not finished" in caplog.text


def test_no_readable_checkpoint_is_an_error_not_a_new_start(tmp_path, caplog):
    save(tmp_path, state(1))
    for file in files(tmp_path, 1):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"checkpoint 1 in .* cannot be read .*there is no other"):
        restore(tmp_path, state())


def test_another_models_checkpoint_is_refused_by_its_first_difference(tmp_path):
    save(tmp_path, state(1))
    other = state(1, kernel=jnp.zeros((2, 4)), empty=jnp.zeros((0, 3)))
    with pytest.raises(CheckpointError) as error:
        restore(tmp_path, other, {"model": {"width": 4}})
    assert "model.width is 3 there and 4 here" in str(error.value)
    assert "leaf variables/params/p/kernel is float32(2, 3) there and float32(2, 4) here" in str(error.value)
    with pytest.raises(CheckpointError, match="it has no leaf variables/params/p/bias"):
        restore(tmp_path, state(1, bias=jnp.zeros(3), kernel=jnp.zeros((2, 3)), empty=jnp.zeros((0, 3))))
    with pytest.raises(CheckpointError, match="its leaf variables/params/p/empty"):
        restore(tmp_path, state(1, kernel=jnp.zeros((2, 3))))
    with pytest.raises(CheckpointError, match="leaf variables/params/p/kernel"):
        load(tmp_path, like=other.variables)
    assert restore(tmp_path, state(1), {"model": {"width": 3}}) is not None


def test_prng_keys_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="variables/params/p/key is a PRNG key"):
        save(tmp_path, state(1, key=jax.random.key(0)))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="no checkpoints can be kept"):
        Checkpoints(tmp_path)
    run = trainer(toys.counts(), toys.dataset(), resume_worker.config(), batch=16, devices=ONE)
    with pytest.raises(CheckpointError, match="cannot be created"):
        run(Path("/proc/no/run"), Hooks())


FULL = """
import resource, signal, sys
from pathlib import Path
import jax, jax.numpy as jnp
sys.path.insert(0, {tests!r})
import test_checkpoint as t
from genjax.errors import CheckpointError
kept = t.Checkpoints(Path({directory!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows = jax.random.normal(jax.random.key(0), (500, 400))
kept.save(t.state(1, kernel=rows), {{}})
kept.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # the disk is full from here on
try:
    kept.save(t.state(2, kernel=rows), {{}})  # fails in the background
    print("going on", flush=True)
    kept.close()
except CheckpointError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_save_that_fails_in_the_background_is_an_error(tmp_path):
    script = FULL.format(tests=str(Path(__file__).parent), directory=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "going on" in done.stdout
    assert "the checkpoint of step 2 could not be written" in done.stdout
    assert "the checkpoint of step 1 is kept" in done.stdout
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stdout
    assert saved_steps(tmp_path) == [1]


def test_best_of_a_run(tmp_path):
    config = resume_worker.config(
        steps=12, eval_every=3, checkpoint_every=0, keep_last=1, keep_best="mlp/loss@ema", log_every=4
    )
    run = trainer(toys.mlp(), toys.dataset(), config, batch=16, devices=ONE)
    result = run(tmp_path, Hooks(on_eval=lambda variables, n: {"mine": float(n)}))
    evals = [line for line in lines(tmp_path) if line["split"] == "eval"]
    assert [line["mine"] for line in evals] == [3, 6, 9, 12]
    best = min(evals, key=lambda line: line["mlp/loss@ema"])
    assert load(tmp_path, "best").step == best["step"]
    assert result.metrics["mlp/loss@ema"] == evals[-1]["mlp/loss@ema"]
    record = load(tmp_path).record
    assert record["identity"]["data"]["fingerprint"] == toys.dataset().fingerprint
    other = toys.dataset(seed=5)
    with pytest.raises(CheckpointError, match=r"data.fingerprint is .* there and .* here"):
        trainer(toys.mlp(), other, config, batch=16, devices=ONE)(tmp_path, Hooks())


def test_frozen_stages_are_used_and_never_saved(tmp_path):
    model = toys.mlp()
    plain = model.phases["mlp"]

    def loss(variables, batch, keys, *, step):
        mean, aux = plain.objective(variables, batch, keys, step=step)
        return mean + type(mean)(variables.frozen["codec"].params["w"].sum(), jnp.zeros(())), aux

    model = model.replace(phases={"mlp": plain._replace(objective=loss)})
    codec = Variables({"w": jnp.ones(3)})
    identity = {"stages": {"codec": {"path": "runs/codec", "digest": checkpoint.digest(codec)}}}
    config = Config(steps=2, **resume_worker.QUIET)
    run = trainer(
        model, toys.dataset(), config, batch=16, devices=ONE, frozen={"codec": codec}, identity=identity
    )
    result = run(tmp_path, Hooks())
    assert result.variables.frozen["codec"].params["w"].tolist() == [1, 1, 1]
    assert not codec.params["w"].is_deleted()
    assert not any("frozen" in path or "codec" in path for path in leaves(tmp_path))
    changed = Variables({"w": jnp.ones(3) * 2})
    identity = {"stages": {"codec": {"path": "runs/codec", "digest": checkpoint.digest(changed)}}}
    with pytest.raises(CheckpointError, match=r"stages.codec.digest is"):
        trainer(
            model, toys.dataset(), config, batch=16, devices=ONE, frozen={"codec": changed}, identity=identity
        )(tmp_path, Hooks())
    assert json.loads(json.dumps(identity)) == identity
