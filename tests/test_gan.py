"""The GAN keeps the contract: players move alone, the penalty by hand, statistics of the whole batch."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from properties import Taken, assert_same_steps

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.data.dataset import Dataset, Split
from genjax.data.rows import Arrays
from genjax.errors import ConfigError
from genjax.functional import pixels
from genjax.models.gan import Config, Discriminator, Generator, build
from genjax.training import Config as Training
from genjax.training.step import Average, create, due, make_step

LEVELS, CLASSES = 17, 10
SMALL = {"latent": 3, "width": 8, "kernel": 2}
PLAYERS = ("discriminator", "generator")


def spec(side: int = 8) -> Spec:
    image = Element((side, side, 1), "uint8", LEVELS, "image", "target")
    return Spec({"image": image, "label": Element((), "int32", CLASSES, "label", "condition")}, rows=100)


def arrays(n: int, side: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, LEVELS, (n, side, side, 1)).astype(np.uint8),
        "label": rng.integers(0, CLASSES, n).astype(np.int32),
    }


def rows(n: int, side: int = 8, seed: int = 0) -> dict[str, jax.Array]:
    return {**jax.tree.map(jnp.asarray, arrays(n, side, seed)), "mask": jnp.ones(n)}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


@functools.cache
def made(**fields) -> tuple[Model, Variables]:
    model = build(Config(**{**SMALL, **fields}), spec())
    variables = jax.jit(lambda key: model.init(key, rows(2), {}))(jax.random.key(1))
    return model, variables


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def nets(**fields):
    """Both players as functions of (variables, x, label), out of their modules: no norm."""
    config = Config(**{**SMALL, **fields})
    one_hot = lambda y: jnp.eye(CLASSES)[y]

    def generator(v: Variables, z: jax.Array, y: jax.Array) -> jax.Array:
        return Generator(config, (8, 8, 1)).apply({"params": v.params["generator"]}, z, one_hot(y), False)  # type: ignore

    def discriminator(v: Variables, x: jax.Array, y: jax.Array) -> jax.Array:
        return Discriminator(config).apply({"params": v.params["discriminator"]}, x, one_hot(y), False)  # type: ignore

    return generator, discriminator


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("conditional", [True, False])
def test_every_size_has_the_datas_form(side, conditional):
    model = build(Config(conditional=conditional), spec(side))
    batch = rows(2, side)
    variables = jax.eval_shape(lambda key: model.init(key, batch, {}), jax.random.key(0))
    out = jax.eval_shape(lambda v: model.sample(v, keys(2), {}), variables)
    assert out["image"].shape == (2, side, side, 1)
    assert out["image"].dtype == jnp.uint8
    assert ("label" in out) == conditional
    for phase in model.phases.values():
        run = lambda v, phase=phase: phase.objective(v, batch, keys(2), step=jnp.int32(0))
        loss, aux = jax.eval_shape(run, variables)
        assert loss.total.shape == ()
        # The next state has the form of the last: the step may be donated and scanned.
        assert jax.tree.map(jnp.shape, aux.state) == jax.tree.map(jnp.shape, variables.state)


def test_a_play_moves_its_own_player_alone():
    model, _ = made(r1=1.0, discriminator_norm="batch")
    opt = {p: optax.sgd(0.1) for p in PLAYERS}
    state = jax.jit(lambda key: create(model, opt, key, rows(8)))(jax.random.key(0))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    owner = {"discriminator": "discriminator", "r1": "discriminator", "generator": "generator"}
    assert {name: phase.player for name, phase in model.phases.items()} == owner
    assert list(model.phases) == ["discriminator", "r1", "generator"]
    before = jax.device_get(state.variables)
    for name, mover in owner.items():
        after = jax.device_get(step(state, {}, rows(8), jax.random.key(1), (name,))[0].variables)
        other = PLAYERS[1 - PLAYERS.index(mover)]
        assert equal(after.params[other], before.params[other])
        assert equal(after.state[other], before.state[other])
        moved = jax.tree.map(lambda x, y: (x != y).any(), after.params[mover], before.params[mover])
        # The penalty is a function of the slope: many biases have no say in it, kernels have.
        kernels = [m for p, m in jax.tree_util.tree_leaves_with_path(moved) if "kernel" in str(p[-1])]
        assert all(jax.tree.leaves(moved) if name != "r1" else kernels)
        assert equal(after.state[mover], before.state[mover]) == (name == "r1")


def test_losses_are_the_non_saturating_ones():
    """Goodfellow et al. 2014, sec. 3, written as log-probabilities of the modules' own outputs."""
    model, variables = made(generator_norm="none")
    generator, discriminator = nets(generator_norm="none")
    batch = {**rows(5), "mask": jnp.array([1.0, 1, 1, 1, 0])}

    @jax.jit
    def run(v):
        z = jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys(5))
        real = discriminator(v, pixels.to_signed(batch["image"], LEVELS), batch["label"])
        fake = discriminator(v, generator(v, z, batch["label"]), batch["label"])
        ours = {n: p.objective(v, batch, keys(5), step=jnp.int32(0)) for n, p in model.phases.items()}
        return real, fake, {n: loss.value for n, (loss, _) in ours.items()}, ours["discriminator"][1].metrics

    real, fake, ours, metrics = jax.device_get(run(variables))
    p, q = 1 / (1 + np.exp(-real[:4].astype(np.float64))), 1 / (1 + np.exp(-fake[:4].astype(np.float64)))
    np.testing.assert_allclose(ours["discriminator"], -np.mean(np.log(p) + np.log(1 - q)), rtol=1e-5)
    np.testing.assert_allclose(ours["generator"], -np.mean(np.log(q)), rtol=1e-5)
    np.testing.assert_allclose(metrics["real_accuracy"].value, (real[:4] > 0).mean())
    np.testing.assert_allclose(metrics["fake_accuracy"].value, (fake[:4] < 0).mean())


@pytest.mark.parametrize("every", [1, 4])
def test_r1_is_the_penalty_by_hand(every):
    """gamma/2 E|grad D(x)|^2 on real images (Mescheder et al. 2018, eq. 9), times the steps between."""
    gamma = 3.0
    model, variables = made(r1=gamma, r1_interval=every, generator_norm="none")
    _, discriminator = nets()
    batch = rows(4)
    x = pixels.to_signed(batch["image"], LEVELS)
    y = batch["label"]
    slope = jax.jit(jax.grad(lambda x: discriminator(variables, x, y).sum()))(x)
    # Each image by itself: no row's slope has another's in it.
    alone = jax.vmap(jax.grad(lambda x, y: discriminator(variables, x[None], y[None])[0]))
    np.testing.assert_allclose(jax.jit(alone)(x, y), slope, rtol=1e-4, atol=1e-5)
    expected = every * gamma / 2 * np.square(slope).sum((1, 2, 3)).mean()
    phase = model.phases["r1"]
    loss, _ = jax.jit(lambda v: phase.objective(v, batch, keys(4), step=jnp.int32(0)))(variables)
    assert expected > 0
    np.testing.assert_allclose(loss.value, expected, rtol=1e-5)
    assert phase.interval == every
    assert [n for n in range(9) if "r1" in due(model, n)] == list(range(0, 9, every))


def test_no_penalty_no_play():
    assert list(made()[0].phases) == ["discriminator", "generator"]


@pytest.mark.parametrize("generator_norm", ["none", "batch", "group"])
@pytest.mark.parametrize("discriminator_norm", ["none", "batch", "group"])
def test_batch_statistics_are_declared(generator_norm, discriminator_norm):
    config = Config(**SMALL, r1=1.0, generator_norm=generator_norm, discriminator_norm=discriminator_norm)
    flags = {name: phase.rowwise for name, phase in build(config, spec()).phases.items()}
    own, both = discriminator_norm != "batch", "batch" not in (generator_norm, discriminator_norm)
    assert flags == {"discriminator": both, "r1": own, "generator": both}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_rows_see_each_other_where_declared(norm):
    """Pixels beside a row change its loss under batch norm, and not under another."""
    model, variables = made(r1=1.0, generator_norm=norm, discriminator_norm=norm)
    first = {**rows(4), "mask": jnp.eye(4)[0]}
    other = {**first, "image": rows(4, seed=1)["image"].at[0].set(first["image"][0])}
    run = jax.jit(
        lambda b: {
            n: p.objective(variables, b, keys(4), step=jnp.int32(0))[0].total for n, p in model.phases.items()
        }
    )
    a, b = jax.device_get((run(first), run(other)))
    for name in ("discriminator", "r1"):
        assert np.isclose(a[name], b[name], rtol=1e-5) == model.phases[name].rowwise


def test_sampling_reads_the_label_and_each_key_alone():
    model, variables = made()
    variables = variables.replace(params=jax.tree.map(lambda x: 2 * x, variables.params))
    sample = jax.jit(model.sample)
    same = jnp.broadcast_to(keys(1), (CLASSES,))
    labels = {"label": jnp.arange(CLASSES)}
    out = jax.device_get(sample(variables, same, labels))
    np.testing.assert_array_equal(out["label"], np.arange(CLASSES))
    assert len(np.unique(out["image"].reshape(CLASSES, -1), axis=0)) == CLASSES
    one = jax.device_get(sample(variables, keys(CLASSES), labels))["image"]
    changed = keys(CLASSES, 7).at[2].set(keys(CLASSES)[2])
    other = jax.device_get(sample(variables, changed, labels))["image"]
    np.testing.assert_array_equal(one[2], other[2])
    assert (one[1] != other[1]).any()


def test_unprompted_labels_are_drawn_and_used():
    model, variables = made()
    drawn = jax.device_get(jax.jit(lambda v, k: model.sample(v, k, {}))(variables, keys(500)))
    np.testing.assert_allclose(np.bincount(drawn["label"], minlength=CLASSES) / 500, 0.1, atol=0.05)
    told = jax.jit(model.sample)(variables, keys(500), {"label": jnp.asarray(drawn["label"])})
    np.testing.assert_array_equal(told["image"], drawn["image"])


def test_running_statistics_serve_sampling_and_only_training_writes_them():
    model, variables = made()
    phase = model.phases["generator"].objective
    run = jax.jit(lambda v, step: phase(v, rows(8), keys(8), step=step)[1].state)
    after = run(variables, jnp.int32(0))
    assert not equal(after["generator"], variables.state["generator"])
    evaluated = jax.jit(lambda v: phase(v, rows(8), keys(8), step=None)[1].state)(variables)
    assert equal(evaluated, variables.state)
    sample = jax.jit(lambda v: model.sample(v, keys(4), {})["image"])
    assert (np.asarray(sample(variables)) != np.asarray(sample(variables.replace(state=after)))).any()


def test_the_average_is_of_the_generator_alone():
    model, _ = made()
    opt = {p: optax.adam(1e-2) for p in PLAYERS}
    averages = {"ema": Average(("generator",), half_life=16.0, ramp_up=None)}
    state = jax.jit(lambda key: create(model, opt, key, rows(8), averages=averages))(jax.random.key(0))
    before = jax.device_get(state.variables)
    step = jax.jit(make_step(model, opt, averages=averages), static_argnums=4)
    after = jax.device_get(step(state, {}, rows(8), jax.random.key(1), due(model, 0))[0].variables)
    assert set(after.ema["ema"]) == {"generator"}
    weight = 0.5 ** (8 / 16)
    expected = jax.tree.map(
        lambda old, new: weight * old + (1 - weight) * new,
        before.params["generator"],
        after.params["generator"],
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        after.ema["ema"]["generator"],
        expected,
    )
    averaged = after.at("ema").params
    assert equal(averaged["discriminator"], after.params["discriminator"])
    assert not equal(averaged["generator"], after.params["generator"])


def test_batch_statistics_over_devices_are_the_single_devices():
    model, _ = made(r1=1.0, discriminator_norm="batch")
    data = Dataset(
        "noise", spec(), *(Split(s, Arrays(arrays(40))) for s in ("train", "eval")), fingerprint="0"
    )
    alone = Taken(model, data, Training(), batch=16, steps=2, devices=jax.devices()[:1])
    pmapped = Taken(model, data, Training(engine="pmap"), batch=16, steps=2)
    statistics = [p for p in alone.leaves if "state" in p and p.endswith(("mean", "var"))]
    assert len(statistics) >= 4
    assert all(np.abs(alone.leaves[p] - p.endswith("var")).max() > 1e-3 for p in statistics)
    assert_same_steps(alone, pmapped, tolerance=2e-4)


def test_elements_are_found_by_form_and_role():
    image = Element((8, 8, 1), "uint8", LEVELS, None, "target")
    label = Element((), "int32", CLASSES, "label", "condition")
    model = build(Config(**SMALL), Spec({"scan": image, "digit": label}))
    batch = {"scan": rows(2)["image"], "digit": rows(2)["label"], "mask": jnp.ones(2)}
    variables = jax.eval_shape(lambda key: model.init(key, batch, {}), jax.random.key(0))
    out = jax.eval_shape(lambda v: model.sample(v, keys(2), {"digit": batch["digit"]}), variables)
    assert set(out) == {"scan", "digit"}
    assert jax.eval_shape(lambda: made()[1].params) == variables.params
    for phase in model.phases.values():
        run = lambda v, phase=phase: phase.objective(v, batch, keys(2), step=jnp.int32(0))
        assert jax.eval_shape(run, variables)[0].total.shape == ()
    del batch["digit"]
    with pytest.raises(ConfigError, match="digit"):
        jax.eval_shape(lambda v: model.phases["generator"].objective(v, batch, keys(2), step=None), variables)


def test_wrong_configs_and_data_are_refused():
    with pytest.raises(ConfigError, match="tokens"):
        build(Config(), Spec({"tokens": Element((5,), "int32", 7)}))
    with pytest.raises(ConfigError, match="halved"):
        build(Config(), spec(7))
    with pytest.raises(ValueError, match="group"):
        Config(width=12, generator_norm="group")


def test_the_generator_answers_the_updated_discriminator():
    model, _ = made(generator_norm="none")
    opt = {p: optax.sgd(0.5) for p in ("generator", "discriminator")}
    state = jax.jit(lambda key: create(model, opt, key, rows(8)))(jax.random.key(0))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    both, _ = step(state, {}, rows(8), jax.random.key(0), due(model, 0))
    first, _ = step(state, {}, rows(8), jax.random.key(0), ("discriminator",))
    again = first.replace(step=state.step)
    second, _ = step(again, {}, rows(8), jax.random.key(0), ("generator",))
    for a, b in zip(jax.tree.leaves(both.variables), jax.tree.leaves(second.variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_no_bias_before_a_norm():
    for norm, biased in (("batch", False), ("group", False), ("none", True)):
        _, variables = made(generator_norm=norm, discriminator_norm=norm)
        assert ("bias" in variables.params["generator"]["up_0"]) is biased
        assert ("bias" in variables.params["generator"]["in"]) is biased
        assert ("bias" in variables.params["discriminator"]["down_0"]) is biased


def test_the_discriminator_learns_of_the_classes_that_it_has_seen():
    model, variables = made()

    def total(params):
        v = variables.replace(params={**variables.params, "discriminator": params})
        return model.phases["discriminator"].objective(v, rows(4), keys(4), step=None)[0].total

    slope = jax.jit(jax.grad(total))(variables.params["discriminator"])["class"]["kernel"]
    used = np.nonzero(np.abs(slope).sum(-1) > 0)[0]
    np.testing.assert_array_equal(used, np.unique(rows(4)["label"]))
