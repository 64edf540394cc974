"""A run that was killed and resumed equals one that was not, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import resume_worker
import training_toys as toys
from properties import (
    Killed,
    assert_equal_runs,
    assert_resumes,
    killer,
    leaves,
    lines,
    trainer,
)

from genjax.errors import NonFiniteError
from genjax.training import Config, Mesh, checkpoint, optimizers
from genjax.training.checkpoint import FOLDER, saved_steps
from genjax.training.loop import Hooks, train

ONE = jax.devices()[:1]
WORKER = Path(resume_worker.__file__)


@pytest.mark.parametrize("name", ["mlp", "recurrent"])
def test_broken_off_between_checkpoints(tmp_path, name):
    model, changes, order = {"mlp": (toys.mlp, {"accumulate": 2}, "shuffled"), **resume_worker.CASES}[name]
    changes = {**changes, "steps": 14, "checkpoint_every": 4, "sample_every": 1}
    run = trainer(
        model(), toys.dataset(), resume_worker.config(**changes), batch=16, order=order, devices=ONE
    )
    assert_resumes(run, tmp_path, kills=[3, 6, 11])


def test_a_broken_restore_is_seen(tmp_path, monkeypatch):
    """The proof that the comparison above can fail: moments, averages or data position left behind."""
    restore = checkpoint.Checkpoints.restore
    zeroed = {"opt": None, "ema": None}

    def forgetful(self, *args, what):
        found = restore(self, *args)
        if found is None:
            return None
        zero = lambda tree: jax.tree.map(lambda x: jax.numpy.zeros_like(x) if x.ndim else x, tree)
        state = found.state
        if what == "opt":
            return found._replace(state=state.replace(opt=zero(state.opt)))
        return found._replace(
            state=state.replace(variables=state.variables.replace(ema=zero(state.variables.ema)))
        )

    config = resume_worker.config(steps=8, checkpoint_every=4, sample_every=1, eval_every=0)
    run = trainer(toys.mlp(), toys.dataset(), config, batch=16, devices=ONE)
    run(tmp_path / "whole", Hooks())
    for what in zeroed:
        with monkeypatch.context() as patch:
            patch.setattr(
                checkpoint.Checkpoints, "restore", lambda self, *a, what=what: forgetful(self, *a, what=what)
            )
            with pytest.raises(Killed):
                run(tmp_path / what, killer(6))
            run(tmp_path / what, Hooks())
        with pytest.raises(AssertionError):
            assert_equal_runs(tmp_path / "whole", tmp_path / what)


def test_restores_on_fewer_devices_and_under_another_engine(tmp_path):
    """8 devices sharded -> 4 under pmap -> 1: the same batches, losses to 1e-5."""
    rules = ((r"cell/kernel$", ("fsdp",)), ("table$", ("fsdp",)))
    sgd = {"rnn": optimizers.Config(name="sgd", learning_rate=0.1, momentum=0.9)}

    def sit(directory, steps, devices, **changes):
        config = resume_worker.config(steps=steps, checkpoint_every=4, eval_every=4, **changes)
        where = jax.devices()[:devices]
        return train(
            toys.recurrent(),
            toys.dataset(),
            config,
            sgd,
            directory=directory,
            batch=16,
            order="lanes",
            devices=where,
        )

    moved, alone = tmp_path / "moved", tmp_path / "alone"
    sit(moved, 4, 8, mesh=Mesh(data=4, fsdp=2), sharding=rules)
    sit(moved, 8, 4, engine="pmap")
    sit(moved, 12, 1)
    sit(alone, 12, 1)
    ours, theirs = lines(moved), lines(alone)
    assert len(ours) == len(theirs) == 12 + 3
    for a, b in zip(ours, theirs, strict=True):
        assert a["step"] == b["step"]
        np.testing.assert_allclose(a["rnn/loss"], b["rnn/loss"], rtol=1e-5)
    x, y = leaves(moved), leaves(alone)
    for path in x:
        np.testing.assert_allclose(x[path], y[path], rtol=1e-5, atol=1e-5, err_msg=path)


def bad_row_config(**changes) -> Config:
    base = {"steps": 12, "checkpoint_every": 2, "eval_every": 0, "sample_every": 1}
    return resume_worker.config(**{**base, **changes})


def bad_data():
    """One row is NaN: it comes first at step 4, and then once in every epoch of 6.25 batches."""
    return toys.dataset(bad=int(toys.dataset().train.stream(batch=16).plan(4).indices[0]))


def test_nonfinite_stops_and_is_named(tmp_path):
    data, at = bad_data(), 4
    run = trainer(toys.mlp(), data, bad_row_config(), batch=16, devices=ONE)
    with pytest.raises(NonFiniteError) as error:
        run(tmp_path, Hooks())
    text = str(error.value)
    assert f"mlp/loss is nan at step {at}" in text
    assert "batch['point']" in text
    assert error.value.exit_code == 5
    assert saved_steps(tmp_path) == [2, 4]  # the bad step is the fifth, counted from 0 the fourth
    assert "the checkpoint of step 4 is kept" in text
    assert all(np.isfinite(x).all() for x in leaves(tmp_path).values())


def test_nonfinite_batches_are_skipped_and_stay_skipped(tmp_path, caplog):
    """With a kill in between: the skipped batches are in the checkpoint and replay identically."""
    data = bad_data()
    run = trainer(toys.mlp(), data, bad_row_config(on_nonfinite="skip"), batch=16, devices=ONE)
    assert_resumes(run, tmp_path, kills=[11])
    record = json.loads((tmp_path / "whole" / FOLDER / "12" / "record" / "metadata").read_text())
    stream = data.train.stream(batch=16)
    bad = [n for n in range(14) if np.isnan(stream[n]["point"]).any()]
    assert bad == record["skipped"]
    assert len(bad) >= 2
    assert "is left out from now on" in caplog.text
    assert [line["step"] for line in lines(tmp_path / "whole") if line["split"] == "train"] == list(
        range(1, 13)
    )


def test_skipping_has_a_limit(tmp_path, caplog):
    data = bad_data()
    config = bad_row_config(on_nonfinite="skip", skip_limit=1)
    with pytest.raises(NonFiniteError):
        trainer(toys.mlp(), data, config, batch=16, devices=ONE)(tmp_path, Hooks())
    assert "is left out from now on" in caplog.text
