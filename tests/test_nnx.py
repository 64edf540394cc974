"""A network of Flax NNX inside the contract, trained, saved and restored as every other."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from outside import nnx_flow

from genjax import settings
from genjax.core import Variables, row_keys
from genjax.training.trees import named
from genjax.workflows import assemble, train

CONFIG = f"{Path(__file__).parent / 'outside' / 'nnx_config.py'}:smoke"
QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> assemble.Trained:
    directory = tmp_path_factory.mktemp("runs") / "nnx"
    train.train(settings.complete(settings.load(CONFIG, QUIET)), directory, devices=jax.devices()[:1])
    return assemble.restore(directory)


def initial(trained: assemble.Trained) -> Variables:
    model = trained.experiment.model
    example = trained.experiment.dataset.spec.example(2)
    return jax.jit(model.init)(jax.random.key(0), example, {})


def test_gradients_learn_the_params_and_nothing_else(trained: assemble.Trained):
    before, after = named(initial(trained).params), named(trained.variables.params)
    assert before.keys() == after.keys()
    assert "flow/blocks/1/up/kernel" in after, "paths have the names that freezing and sharding match"
    still = [name for name in after if np.array_equal(before[name], after[name])]
    assert still == []
    assert {type(leaf) for leaf in after.values()} <= {np.ndarray, type(jax.numpy.zeros(()))}


def test_other_variables_of_the_module_are_state(trained: assemble.Trained):
    rows = trained.experiment.dataset.train.rows(np.arange(len(trained.experiment.dataset.train)))
    held = named(trained.variables.state)
    assert set(held) == {"mean", "std"}
    # The fit sees at most 1,024 rows of the training split.
    mean = rows["image"].reshape(-1, 64).mean(0)
    np.testing.assert_allclose(held["mean"], mean, atol=0.5)
    assert held["mean"].max() > 5


def test_the_merged_module_computes_what_the_module_did(trained: assemble.Trained):
    module = nnx_flow.Velocity(nnx_flow.Config(width=16, blocks=2), 64, 10, nnx.Rngs(3))
    _, params, rest = nnx.split(module, nnx.Param, ...)
    variables = Variables({"flow": nnx.to_pure_dict(params)}, nnx.to_pure_dict(rest))
    # The bound methods of a model know the object that implements it.
    merged = trained.experiment.model.init.__self__.network(variables)
    x = jax.random.normal(jax.random.key(1), (4, 64))
    t, label = jax.numpy.linspace(0, 1, 4), jax.numpy.arange(4)
    np.testing.assert_array_equal(merged(x, t, label), module(x, t, label))


def test_samples_depend_on_the_class_and_on_their_own_key_alone(trained: assemble.Trained):
    model, variables = trained.experiment.model, trained.ready("none")
    keys = row_keys(jax.random.key(0), 0, jax.numpy.arange(4))
    draw = jax.jit(model.sample)
    images = draw(variables, keys, {"label": jax.numpy.array([0, 1, 2, 3])})["image"]
    other = draw(variables, keys, {"label": jax.numpy.array([0, 1, 2, 7])})["image"]
    np.testing.assert_array_equal(images[:3], other[:3])
    assert (np.asarray(images[3]) != np.asarray(other[3])).any()
