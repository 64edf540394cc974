"""Truncated backpropagation under the real loop: engines, micro-batches, resuming, what a carry is for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import training_toys as toys
from properties import Taken, assert_resumes, assert_same_steps, trainer

from genjax.core import Element, Spec
from genjax.data.dataset import Dataset, Split
from genjax.data.rows import Windows
from genjax.evaluation.likelihood import likelihood
from genjax.models import rnn
from genjax.training import Config, optimizers
from genjax.training.loop import train

QUIET = Config(tensorboard=False, progress=False, compilation_cache=False)


def build(dataset: Dataset, **fields):
    return rnn.build(rnn.Config(**{"layers": 1, "width": 8, "dropout": 0.2, **fields}), dataset.spec, {})


def test_engines_and_micro_batches_carry_alike():
    dataset = toys.dataset()
    model = build(dataset)
    take = lambda config, **how: Taken(model, dataset, config, batch=8, steps=3, order="lanes", **how)
    one = take(QUIET, devices=jax.devices()[:1])
    assert {p.split("/")[0] for p in one.leaves if "carry" in p} == {"carry"}
    assert max(np.abs(x).max() for p, x in one.leaves.items() if "carry" in p) > 0
    assert_same_steps(one, take(dataclasses.replace(QUIET, engine="pmap")))
    assert_same_steps(one, take(dataclasses.replace(QUIET, accumulate=4), devices=jax.devices()[:1]))


def test_a_run_over_lanes_that_was_killed_equals_one_that_was_not(tmp_path: Path):
    dataset = toys.dataset(rows=30)
    schedule = {"steps": 7, "log_every": 2, "eval_every": 3, "checkpoint_every": 3, "sample_every": 1}
    config = dataclasses.replace(QUIET, **schedule)
    run = trainer(build(dataset), dataset, config, batch=4, order="lanes", devices=jax.devices()[:1])
    assert_resumes(run, tmp_path, kills=(5,))


def lagged(num: int, seed: int) -> np.ndarray:
    """A text of fair coins, each followed by what the coin before it was."""
    coins = np.random.default_rng(seed).integers(0, 2, num)
    return np.stack([coins, 2 + np.roll(coins, 1)], axis=1).reshape(-1).astype(np.uint8)


def test_what_lies_before_a_row_is_known_through_the_carry(tmp_path: Path):
    """Rows of 4 inputs have two repetitions; the first one's coin lies in the row before."""
    parts = [Windows(lagged(n, seed), 4) for n, seed in ((3000, 0), (400, 1))]
    spec = Spec({"tokens": Element((5,), "int32", 4, "tokens", "target")}, len(parts[0]))
    dataset = Dataset("lagged", spec, Split("train", parts[0]), Split("eval", parts[1]), fingerprint="lagged")
    adam = optimizers.Config(name="adam", learning_rate=1e-2, clip=1.0, schedule="linear")
    fields = {"width": 32, "dropout": 0.0, "condition_dropout": 0.0}
    config = dataclasses.replace(QUIET, steps=300, steps_per_call=20, log_every=300)
    how = {"directory": tmp_path, "devices": jax.devices()[:1], "order": "lanes", "batch": 16}
    state = train(build(dataset, **fields), dataset, config, {"model": adam}, **how)
    found = {
        carry: likelihood(build(dataset, **fields, carry=carry), state.variables, dataset.eval, batch=4)
        for carry in (True, False)
    }
    # Coins cost log 2 each; repetitions nothing where they are remembered, log 2 or more where they are not.
    assert found[True].per_unit().value < 0.42
    assert found[False].per_unit().value > 0.5
    assert (found[True].part, found[False].part) == ("lane", "row")
