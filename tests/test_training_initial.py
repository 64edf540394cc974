"""The state that step 1 starts from: fitted on real rows, copied from another run; and frozen parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resume_worker
import training_toys as toys
from properties import Killed, Taken, assert_equal_runs, killer, leaves, trainer

from genjax.core import Model, Variables
from genjax.errors import ConfigError
from genjax.training import Average, Config, Mesh, checkpoint, optimizers
from genjax.training.loop import Hooks

ONE = jax.devices()[:1]
KERNELS = ("mlp/inner/kernel", "mlp/inner/bias", "mlp/outer/kernel", "mlp/outer/bias")


def short(**changes: Any) -> Config:
    return resume_worker.config(**{"steps": 6, "checkpoint_every": 4, "sample_every": 1, **changes})


def run(model: Model, directory: Path, config: Config, hooks: Hooks = Hooks(), **how: Any) -> Any:
    return trainer(model, toys.dataset(), config, **{"batch": 16, "devices": ONE, **how})(directory, hooks)


# --- Model.fit ---------------------------------------------------------------------------------------


def fitted(noise: float = 0.1) -> Model:
    """The toy with a state that is fitted: the mean of the points, with noise by row, and their number."""
    plain = toys.mlp()

    def init(key, batch, frozen):
        variables = plain.init(key, batch, frozen)
        return variables.replace(state={"mean": jnp.zeros(toys.D), "rows": jnp.zeros(())})

    def fit(variables, batch, keys):
        noises = jax.vmap(lambda k: jax.random.normal(k, (toys.D,)))(keys)
        mean = (batch["point"] + noise * noises).mean(0)
        return variables.replace(state={"mean": mean, "rows": batch["mask"].sum()})

    return plain.replace(init=init, fit=fit)


def state(directory: Path, n: int | None = None) -> dict[str, np.ndarray]:
    found = leaves(directory, n)
    return {name: found[f"variables/state/{name}"] for name in ("mean", "rows")}


def test_fitting_sees_training_rows_and_is_saved(tmp_path):
    run(fitted(noise=0.0), tmp_path, short(fit_rows=64))
    rows = toys.dataset().train.stream(order="shuffled", batch=64, seed=0)[0]
    assert state(tmp_path)["rows"] == 64
    np.testing.assert_allclose(state(tmp_path)["mean"], rows["point"].mean(0), rtol=1e-5, atol=1e-6)


def test_fitting_takes_the_whole_split_where_it_is_smaller(tmp_path):
    run(fitted(noise=0.0), tmp_path, short(fit_rows=1024))
    rows = toys.dataset().train.rows(range(100))
    assert state(tmp_path)["rows"] == 100
    np.testing.assert_allclose(state(tmp_path)["mean"], rows["point"].mean(0), rtol=1e-5, atol=1e-6)


def test_fitting_is_deterministic_and_depends_on_the_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(fitted(), tmp_path / name, short(), seed=seed, data_seed=0)
    assert_equal_runs(tmp_path / "a", tmp_path / "b")
    assert not np.array_equal(state(tmp_path / "a")["mean"], state(tmp_path / "c")["mean"])


def test_a_run_killed_before_its_first_checkpoint_fits_the_same_state_again(tmp_path):
    run(fitted(), tmp_path / "whole", short(), killer(99))
    with pytest.raises(Killed):
        run(fitted(), tmp_path / "broken", short(), killer(2))
    assert checkpoint.saved_steps(tmp_path / "broken") == []
    run(fitted(), tmp_path / "broken", short(), killer(99))
    assert_equal_runs(tmp_path / "whole", tmp_path / "broken")


def test_a_restored_state_is_not_fitted_again(tmp_path):
    run(fitted(), tmp_path, short(steps=4))
    before = state(tmp_path)

    def fail(variables, batch, keys):
        raise AssertionError("fitted again")

    run(fitted().replace(fit=fail), tmp_path, short(steps=8))
    np.testing.assert_array_equal(state(tmp_path, 8)["mean"], before["mean"])


def test_fitting_may_change_the_state_alone(tmp_path):
    wrong = fitted().replace(
        fit=lambda variables, batch, keys: variables.replace(state={"mean": jnp.ones(2)})
    )
    with pytest.raises(TypeError, match=r"Model.fit returned other variables.*state/"):
        run(wrong, tmp_path, short())


def test_fitting_on_a_mesh_equals_one_device(tmp_path):
    run(fitted(), tmp_path / "one", short(steps=0, fit_rows=64))
    run(fitted(), tmp_path / "eight", short(steps=0, fit_rows=64), devices=None)
    for name, x in state(tmp_path / "one").items():
        np.testing.assert_allclose(x, state(tmp_path / "eight")[name], rtol=1e-5, atol=1e-6)


# --- init_from ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Variables:
    """What another run of the fitted toy has learned: another seed, and a state that no fit gives."""
    directory = tmp_path_factory.mktemp("other")
    found = run(fitted(), directory, short(), seed=7).variables
    return found.replace(ema={}, frozen={}, state={"mean": jnp.full(toys.D, 5.0), "rows": jnp.ones(())})


def started(directory: Path, model: Model, initial: Variables, **changes: Any) -> dict[str, np.ndarray]:
    """The leaves that step 1 starts from: those of a run of no steps."""
    run(model, directory, short(steps=0, **changes), initial=initial)
    return leaves(directory, 0)


def _named(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in jax.tree.leaves_with_path(tree)
    }


def test_a_whole_run_is_copied_with_its_state_and_the_averages_follow(tmp_path, other):
    found = started(tmp_path, fitted(), other)
    for path in KERNELS:
        expected = np.asarray(_named(other.params)[path])
        np.testing.assert_array_equal(found[f"variables/params/{path}"], expected)
        np.testing.assert_array_equal(found[f"variables/ema/ema/{path}"], expected)
    np.testing.assert_array_equal(found["variables/state/mean"], np.full(toys.D, 5.0))  # not fitted anew


def test_a_regex_chooses_the_leaves_that_are_copied(tmp_path, other):
    found = started(tmp_path / "some", fitted(), other, init_match="^params/.*kernel$")
    run(fitted(), tmp_path / "fresh", short(steps=0))
    fresh = leaves(tmp_path / "fresh", 0)
    for path in KERNELS:
        expected = np.asarray(_named(other.params)[path]) if path.endswith("kernel") else None
        own = fresh[f"variables/params/{path}"]
        value = found[f"variables/params/{path}"]
        np.testing.assert_array_equal(value, own if expected is None else expected)
        assert expected is None or not np.array_equal(own, expected)
    np.testing.assert_array_equal(found["variables/state/mean"], fresh["variables/state/mean"])


def test_leaves_that_do_not_fit_are_refused_by_name(tmp_path, other):
    with pytest.raises(
        ConfigError, match=r"leaf params/mlp/inner/bias is float32\(16,\) there and .*\(24,\)"
    ):
        run(toys.mlp(width=24), tmp_path, short(), initial=other)
    with pytest.raises(ConfigError, match="the other run has no leaf params/rnn/cell/bias"):
        run(toys.recurrent(), tmp_path, short(), initial=other)
    with pytest.raises(ConfigError, match="init_match='nothing' matches no leaf"):
        run(fitted(), tmp_path, short(init_match="nothing"), initial=other)
    with pytest.raises(ValueError, match=r"init_match: '\(' is not a regular expression"):
        short(init_match="(")
    assert checkpoint.saved_steps(tmp_path) == []


def test_leaves_that_do_not_fit_can_be_left_out(tmp_path, other):
    run(toys.mlp(width=24), tmp_path, short(init_match="outer/bias"), initial=other)
    assert checkpoint.saved_steps(tmp_path)[-1] == 6


def test_a_checkpoint_comes_before_the_initial_variables(tmp_path, other):
    run(fitted(), tmp_path / "whole", short(), killer(99), initial=other)
    with pytest.raises(Killed):
        run(fitted(), tmp_path / "parts", short(), killer(5), initial=other)
    run(fitted(), tmp_path / "parts", short(), killer(99), initial=None)
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


# --- freeze ------------------------------------------------------------------------------------------

DECAYED = {"mlp": optimizers.Config(name="adamw", learning_rate=0.05, weight_decay=0.5)}


@pytest.mark.parametrize("engine", ["jit", "pmap", "accumulate"])
def test_frozen_parameters_keep_every_bit_and_the_others_move(tmp_path, engine):
    changes: dict[str, Any] = {"accumulate": 2} if engine == "accumulate" else {"engine": engine}
    freeze = {"freeze": "^mlp/inner", "averages": {"ema": Average(half_life=20.0)}}
    run(toys.mlp(), tmp_path / "fresh", short(steps=0))
    run(toys.mlp(), tmp_path / "run", short(**freeze, **changes), optimizer=DECAYED)
    before = leaves(tmp_path / "fresh", 0)
    after = leaves(tmp_path / "run")
    for path in KERNELS:
        for tree in ("params", "ema/ema"):
            name = f"variables/{tree}/{path}"
            assert (before[name].tobytes() == after[name].tobytes()) == ("inner" in path), name


def test_frozen_parameters_do_not_change_how_the_others_are_clipped():
    """The norm that a gradient is clipped to is that of the parameters that learn."""
    config = Config(freeze="inner")
    taken = Taken(toys.mlp(), toys.dataset(), config, batch=16, devices=ONE)
    free = Taken(toys.mlp(), toys.dataset(), Config(), batch=16, devices=ONE)
    norms = [float(t.metrics[0]["mlp/grad_norm"].value) for t in (taken, free)]
    assert 0 < norms[0] < norms[1]


def test_a_sharded_run_freezes_too():
    rules = ((r"inner/kernel$", (None, "fsdp")),)
    config = Config(freeze="inner/kernel", mesh=Mesh(data=4, fsdp=2), sharding=rules)
    taken = Taken(toys.mlp(), toys.dataset(), config, batch=16)
    fresh = Taken(toys.mlp(), toys.dataset(), config, batch=16, steps=0)
    moved = {
        p: not np.array_equal(x, fresh.leaves[f"variables/params/{p}"]) for p, x in _params(taken).items()
    }
    assert moved == {path: path != "mlp/inner/kernel" for path in KERNELS}


def _params(taken: Taken) -> dict[str, np.ndarray]:
    top = "variables/params/"
    return {path.removeprefix(top): x for path, x in taken.leaves.items() if path.startswith(top)}


def test_a_regex_that_freezes_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="freeze='encoder' matches no parameter") as error:
        run(toys.mlp(), tmp_path, short(freeze="encoder"))
    assert "mlp/inner/bias" in error.value.hint
    assert checkpoint.saved_steps(tmp_path) == []
    with pytest.raises(ValueError, match=r"freeze: '\[' is not a regular expression"):
        short(freeze="[")
