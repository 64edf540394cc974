"""jit, pmap and sharded, whole and accumulated, one and several steps a call: all take the same steps."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import training_toys as toys
from properties import Taken, assert_same_steps

from genjax.errors import ConfigError
from genjax.training import Config, Mesh, optimizers, sharding, step, trees
from genjax.training.engine import Engine, compilations

ONE = jax.devices()[:1]
RULES = (
    (r"inner/kernel$", ("fsdp", "tensor")),
    (r"outer/kernel$", ("tensor", None)),
    ("table$", (None, "fsdp")),
)
TOYS = {
    "mlp": (toys.mlp, "shuffled"),
    "adversarial": (lambda: toys.adversarial(every=2), "shuffled"),
    "recurrent": (toys.recurrent, "lanes"),
    "counts": (toys.counts, "shuffled"),
}
ENGINES = {
    "data": Config(),
    "sharded": Config(mesh=Mesh(data=2, fsdp=2, tensor=2), sharding=RULES),
    "pmap": Config(engine="pmap"),
}


@pytest.fixture(scope="module")
def data():
    return toys.dataset()


@pytest.fixture(scope="module")
def alone(data):
    """Each toy on a single device, the batch whole."""
    kept = {}

    def take(name: str) -> Taken:
        if name not in kept:
            model, order = TOYS[name]
            kept[name] = Taken(model(), data, Config(), batch=16, order=order, devices=ONE)
        return kept[name]

    return take


@pytest.mark.parametrize(
    ("engine", "toy"),
    [
        ("data", "mlp"),
        ("sharded", "mlp"),
        ("sharded", "adversarial"),
        ("sharded", "recurrent"),
        ("pmap", "mlp"),
        ("pmap", "adversarial"),
        ("pmap", "recurrent"),
        ("pmap", "counts"),
    ],
)
def test_engines_take_the_same_steps(data, alone, toy, engine):
    model, order = TOYS[toy]
    taken = Taken(model(), data, ENGINES[engine], batch=16, order=order)
    assert_same_steps(alone(toy), taken)


@pytest.mark.parametrize("toy", ["mlp", "recurrent"])
def test_accumulated_equals_whole(data, alone, toy):
    model, order = TOYS[toy]
    taken = Taken(model(), data, Config(accumulate=4), batch=16, order=order, devices=ONE)
    assert_same_steps(alone(toy), taken)


def test_accumulated_on_a_mesh_equals_whole(data, alone):
    taken = Taken(toys.mlp(), data, Config(accumulate=2, engine="pmap"), batch=16)
    assert_same_steps(alone("mlp"), taken)


def test_the_comparison_sees_a_difference(data, alone):
    other = Taken(toys.mlp(), data, Config(), batch=16, devices=ONE, seed=1)
    with pytest.raises(AssertionError):
        assert_same_steps(alone("mlp"), other)


@pytest.mark.parametrize("toy", ["mlp", "adversarial"])
def test_steps_per_call_equals_calls(data, toy):
    # The two steps of a call are scanned where they make the same phases, and unrolled where they do not.
    model = TOYS[toy][0]
    one = Taken(model(), data, Config(), batch=16, steps=4, devices=ONE)
    two = Taken(model(), data, Config(steps_per_call=2), batch=16, steps=4, devices=ONE)
    for x in two.metrics:  # a phase that is not due counts as nothing there
        for name in [k for k, m in x.items() if not np.any(m.count)]:
            del x[name]
    assert_same_steps(one, two, 1e-6)


OLD_EMITTERS = "--xla_cpu_use_fusion_emitters=false"


def test_equality_to_the_bit_under_the_emitters_that_users_have():
    """The emitters that compile quickly, which the tests use, round a loop's body and a single step apart."""
    flags = os.environ["XLA_FLAGS"]
    if OLD_EMITTERS not in flags:
        return  # the tests to the bit run in this process
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        __file__,
        "-k",
        "equals_single_steps_to_the_bit",
    ]
    env = {**os.environ, "XLA_FLAGS": flags.replace(OLD_EMITTERS, "")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "sss" not in done.stdout


@pytest.mark.skipif(OLD_EMITTERS in os.environ["XLA_FLAGS"], reason="runs in the process of the test above")
@pytest.mark.parametrize(("toy", "every", "k"), [("mlp", 1, 6), ("adversarial", 3, 6), ("adversarial", 2, 4)])
def test_a_scan_over_repeating_cycles_equals_single_steps_to_the_bit(data, toy, every, k):
    """The phases of a call repeat after `every` steps: a cycle is unrolled, its repetitions are scanned."""
    model = toys.mlp() if toy == "mlp" else toys.adversarial(every)
    assert step._cycle([step.due(model, n) for n in range(k)]) == every
    one = Taken(model, data, Config(), batch=16, steps=2 * k, devices=ONE)
    config = Config(steps_per_call=k, log_every=0, checkpoint_every=0)
    many = Taken(model, data, config, batch=16, steps=2 * k, devices=ONE)
    assert many.engine.programs == 1
    assert set(one.leaves) == set(many.leaves)
    for path, x in one.leaves.items():
        assert x.tobytes() == many.leaves[path].tobytes(), path
    for n, (x, y) in enumerate(zip(one.metrics, many.metrics, strict=True)):
        for name, mean in x.items():
            assert mean.total == y[name].total, f"{name} at step {n}"
            assert mean.count == y[name].count, f"{name} at step {n}"
        assert not any(y[name].count for name in set(y) - set(x))  # phases that are not due count nothing


def test_the_length_of_a_cycle():
    a, b = ("a",), ("b",)
    assert step._cycle([a, a, a]) == 1
    assert step._cycle([a, b, a, b]) == 2
    assert step._cycle([a, b, b, a, b, b]) == 3
    assert step._cycle([a, b, a]) == 3
    assert step._cycle([b]) == 1


def test_the_program_of_many_steps_grows_with_the_cycle_alone(data):
    """Twice as many steps in a call make no larger a program, if they repeat the same cycle."""
    model = toys.adversarial(every=3)
    transforms = {p: optimizers.make(optimizers.Config(), 99) for p in model.players}
    inner = step.many(step.make_step(model, transforms))
    rows = {name: x[None] for name, x in example(data).items()}
    state = jax.eval_shape(lambda key: step.create(model, transforms, key, example(data)), jax.random.key(0))
    sizes = []
    for k in (6, 12, 24):
        phases = tuple(step.due(model, n) for n in range(k))
        batch = {name: np.repeat(x, k, 0) for name, x in rows.items()}
        call = lambda s, b, key, phases=phases: inner(s, {}, b, key, phases)
        sizes.append(str(jax.make_jaxpr(call)(state, batch, jax.random.key(1))).count("\n"))
    assert sizes[0] == sizes[1] == sizes[2]


def test_state_is_sharded_from_birth(data):
    config = ENGINES["sharded"]
    engine = Engine(
        toys.mlp(), {"mlp": optimizers.make(optimizers.Config(name="adam"), 9)}, config, example(data)
    )
    state = engine.create()
    kernel = state.variables.params["mlp"]["inner"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    assert kernel.addressable_shards[0].data.shape == (toys.D // 2, 8)
    moments = trees.named(state.opt)
    sharded = [p for p, x in moments.items() if not x.sharding.is_fully_replicated]
    assert any("mu/inner/kernel" in p for p in sharded)
    assert any("nu/outer/kernel" in p for p in sharded)


def example(data, batch: int = 16):
    return data.train.stream(batch=batch)[0]


def test_sharding_rules_that_do_not_fit_are_named():
    mesh = sharding.make_mesh(Mesh(data=2, fsdp=2, tensor=2), jax.devices())
    with pytest.raises(ConfigError, match=r"axis 1 of params/kernel \(6, 7\) 2 ways"):
        sharding.spec("params/kernel", (6, 7), [("kernel", ("fsdp", "tensor"))], mesh)
    with pytest.raises(ConfigError, match="names 'model'"):
        sharding.spec("params/kernel", (6, 8), [("kernel", ("model",))], mesh)
    with pytest.raises(ConfigError, match="3 axes"):
        sharding.spec("params/kernel", (6, 8), [("kernel", (None, None, "fsdp"))], mesh)
    spec = jax.sharding.PartitionSpec
    assert sharding.spec("params/kernel", (4, 6, 8), [("kernel", ("fsdp",))], mesh) == spec(
        None, None, "fsdp"
    )
    assert sharding.spec("params/bias", (6,), [("kernel", ("fsdp",))], mesh) == spec()
    assert sharding.spec("opt/kernel", (1, 8), [("kernel", ("fsdp", "data"))], mesh) == spec(None, "data")
    with pytest.raises(ConfigError, match="does not divide 8 devices"):
        sharding.make_mesh(Mesh(data=-1, fsdp=3), jax.devices())


def test_batch_that_cannot_be_divided_is_named(data):
    with pytest.raises(ConfigError, match="a batch of 12 rows cannot be divided over 8 devices"):
        Engine(
            toys.counts(), {"unigram": optimizers.make(optimizers.Config(), 9)}, Config(), example(data, 12)
        )


@pytest.mark.parametrize("engine", ["jit", "pmap"])
def test_state_is_donated_and_nothing_recompiles_after_a_cycle(data, engine):
    model, stream = toys.adversarial(every=3), data.train.stream(batch=16)
    transforms = {p: optimizers.make(optimizers.Config(), 9) for p in ("critic", "generator")}
    devices = jax.devices()[:2]
    engine = Engine(model, transforms, Config(engine=engine), stream[0], devices=devices)
    state, counts = engine.create(), []
    for n in range(9):
        before, count = jax.tree.leaves(state), compilations()
        state, packed = engine.step(state, engine.put([stream[n]]), (step.due(model, n),))
        jax.block_until_ready(packed)
        counts.append(compilations() - count)
        assert all(x.is_deleted() for x in before)
    assert engine.programs == 2  # all phases, and all but the lazy one
    assert counts[0] > 0
    assert counts[1] > 0
    assert counts[2:] == [0] * 7


def test_average_against_numpy(data):
    from genjax.training import Average

    half_life, ramp, batch = 100.0, 0.5, 16
    config = Config(averages={"ema": Average(half_life=half_life, ramp_up=ramp)})
    model, stream = toys.mlp(), data.train.stream(batch=batch)
    engine = Engine(model, {"mlp": optimizers.make(optimizers.Config(), 9)}, config, stream[0], devices=ONE)
    state = engine.create()
    ema = np.asarray(state.variables.params["mlp"]["inner"]["kernel"], np.float64)
    for n in range(8):
        state, _ = engine.step(state, engine.put([stream[n]]), (step.due(model, n),))
        decay = 0.5 ** (batch / min(half_life, ramp * (n + 1) * batch))
        ema = decay * ema + (1 - decay) * np.asarray(
            state.variables.params["mlp"]["inner"]["kernel"], np.float64
        )
    kept = state.variables.ema["ema"]["mlp"]["inner"]["kernel"]
    np.testing.assert_allclose(kept, ema, rtol=1e-5, atol=1e-6)
    assert not np.allclose(kept, state.variables.params["mlp"]["inner"]["kernel"], atol=1e-6)


def test_evaluation_is_exact_and_does_not_depend_on_the_batch(data):
    """Over the whole ragged split, in batches of 8 and of 16, on one device and on eight."""
    values = []
    for batch, devices in ((8, ONE), (16, jax.devices()), (21, ONE)):
        transforms = {"mlp": optimizers.make(optimizers.Config(), 9)}
        engine = Engine(toys.mlp(), transforms, Config(), example(data), devices=devices)
        variables = engine.variables(engine.create())
        means = engine.evaluate(variables, data.eval.stream(order="once", batch=batch))
        values.append(float(means["mlp/loss"].value))
        assert float(means["mlp/loss"].count) == data.eval.rows(range(21))["valid"].sum()
    np.testing.assert_allclose(values, values[0], rtol=1e-6)
