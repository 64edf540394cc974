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
from genjax.functional import adversarial, augment, pixels, spectral
from genjax.models._gan_config import Augment
from genjax.models.gan import Config, build
from genjax.nn.critics import Critic
from genjax.nn.gans import dcgan
from genjax.training import Config as Training
from genjax.training.step import Average, create, due, make_objectives, make_step

LEVELS, CLASSES = 17, 10
NETWORK = {"name": "dcgan", "width": 8, "kernel": 2}
SMALL = {"latent": 3}
NORMS = ("generator_norm", "critic_norm")
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


def config(**fields) -> Config:
    """A config with the fields of the model, and `generator_norm` and `critic_norm` of the network."""
    norms = {k: fields.pop(k) for k in NORMS if k in fields}
    return Config(**{**SMALL, "network": {**NETWORK, **norms}, **fields})


@functools.cache
def made(**fields) -> tuple[Model, Variables]:
    model = build(config(**fields), spec())
    variables = jax.jit(lambda key: model.init(key, rows(2), {}))(jax.random.key(1))
    return model, variables


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def nets(**norms):
    """Both players as functions of (variables, x, label), out of their modules: no norm."""
    own = dcgan.Config(width=8, kernel=2, **{"generator_norm": "none", **norms})
    one_hot = lambda y: jnp.eye(CLASSES)[y]
    critic = Critic(dcgan.critic(own, (8, 8, 1)), "projection")

    def generator(v: Variables, z: jax.Array, y: jax.Array) -> jax.Array:
        tree = {"params": v.params["generator"]}
        return dcgan.generator(own, (8, 8, 1)).apply(tree, z, one_hot(y), False)  # type: ignore[return-value]

    def discriminator(v: Variables, x: jax.Array, y: jax.Array) -> jax.Array:
        return critic.apply({"params": v.params["discriminator"]}, x, one_hot(y), False).logit  # type: ignore

    return generator, discriminator


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("conditional", [True, False])
def test_every_size_has_the_datas_form(side, conditional):
    model = build(config(conditional=conditional), spec(side))
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
    model, _ = made(r1=1.0, interval=2, critic_norm="batch")
    opt = {p: optax.sgd(0.1) for p in PLAYERS}
    state = jax.jit(lambda key: create(model, opt, key, rows(8)))(jax.random.key(0))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    owner = {"discriminator": "discriminator", "penalty": "discriminator", "generator": "generator"}
    assert {name: phase.player for name, phase in model.phases.items()} == owner
    assert list(model.phases) == ["discriminator", "penalty", "generator"]
    before = jax.device_get(state.variables)
    for name, mover in owner.items():
        after = jax.device_get(step(state, {}, rows(8), jax.random.key(1), (name,))[0].variables)
        other = PLAYERS[1 - PLAYERS.index(mover)]
        assert equal(after.params[other], before.params[other])
        assert equal(after.state[other], before.state[other])
        moved = jax.tree.map(lambda x, y: (x != y).any(), after.params[mover], before.params[mover])
        # The penalty is a function of the slope: many biases have no say in it, kernels have.
        kernels = [m for p, m in jax.tree_util.tree_leaves_with_path(moved) if "kernel" in str(p[-1])]
        assert all(jax.tree.leaves(moved) if name != "penalty" else kernels)
        assert equal(after.state[mover], before.state[mover]) == (name == "penalty")


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
@pytest.mark.parametrize("name", ["r1", "r2"])
def test_r1_and_r2_are_the_penalties_by_hand(name, every):
    """gamma/2 E|grad D(x)|^2 (Mescheder et al. 2018, eq. 9 and 10), times the steps between penalties."""
    gamma = 3.0
    model, variables = made(**{name: gamma}, interval=every, generator_norm="none")
    plain, _ = made(generator_norm="none")
    generator, discriminator = nets()
    batch = rows(4)
    y = batch["label"]
    z = jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys(4))
    x = pixels.to_signed(batch["image"], LEVELS) if name == "r1" else generator(variables, z, y)
    slope = jax.jit(jax.grad(lambda x: discriminator(variables, x, y).sum()))(x)
    # Each image by itself: no row's slope has another's in it.
    alone = jax.vmap(jax.grad(lambda x, y: discriminator(variables, x[None], y[None])[0]))
    np.testing.assert_allclose(jax.jit(alone)(x, y), slope, rtol=1e-4, atol=1e-5)
    expected = every * gamma / 2 * np.square(slope).sum((1, 2, 3)).mean()
    assert expected > 0
    value = lambda m, phase: jax.jit(
        lambda v: m.phases[phase].objective(v, batch, keys(4), step=jnp.int32(0))[0].value
    )(variables)
    if every == 1:
        assert "penalty" not in model.phases
        found = value(model, "discriminator") - value(plain, "discriminator")
    else:
        found = value(model, "penalty")
        assert model.phases["penalty"].interval == every
        assert [n for n in range(9) if "penalty" in due(model, n)] == list(range(0, 9, every))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_penalty_is_the_formula_between_the_rows():
    model, variables = made(gradient_penalty=10.0, interval=2, generator_norm="none")
    generator, discriminator = nets()
    batch, k = rows(4), keys(4)
    y = batch["label"]
    z = jax.vmap(lambda key: jax.random.normal(key, (3,)))(k)
    fake = generator(variables, z, y)
    share = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 5)))(k)[:, None, None, None]
    x = share * pixels.to_signed(batch["image"], LEVELS) + (1 - share) * fake
    slope = jax.jit(jax.grad(lambda x: discriminator(variables, x, y).sum()))(x)
    norm = np.sqrt(np.square(slope).sum((1, 2, 3)))
    loss, _ = jax.jit(lambda v: model.phases["penalty"].objective(v, batch, k, step=jnp.int32(0)))(variables)
    np.testing.assert_allclose(loss.value, 2 * 10 * np.square(norm - 1).mean(), rtol=1e-4)


@pytest.mark.parametrize("field", ["consistency", "consistency_fake"])
def test_the_change_of_the_logit_under_a_shift_is_paid_for(field):
    plain, variables = made(generator_norm="none")
    model, _ = made(generator_norm="none", **{field: 2.0})
    generator, discriminator = nets()
    batch, k = rows(4), keys(4)
    y = batch["label"]
    real = pixels.to_signed(batch["image"], LEVELS)
    fake = generator(variables, jax.vmap(lambda key: jax.random.normal(key, (3,)))(k), y)
    x, site = (real, 41) if field == "consistency" else (fake, 42)
    shifted = augment.translated(jax.vmap(jax.random.fold_in, (0, None))(k, site), x, repeat=True)
    assert float(jnp.abs(shifted - x).max()) > 0
    change = np.square(discriminator(variables, x, y) - discriminator(variables, shifted, y))
    value = lambda m, step: jax.jit(
        lambda v: m.phases["discriminator"].objective(v, batch, k, step=step)[0].value
    )(variables)
    step = jnp.int32(0)
    np.testing.assert_allclose(value(model, step) - value(plain, step), 2 * change.mean(), rtol=1e-3)
    assert value(model, None) == value(plain, None)


def test_penalties_are_left_out_of_evaluations():
    once, variables = made(r1=1.0, generator_norm="none")
    plain, _ = made(generator_norm="none")
    value = lambda m: jax.jit(
        lambda v: m.phases["discriminator"].objective(v, rows(4), keys(4), step=None)[0].value
    )(variables)
    assert value(once) == value(plain)
    rare, _ = made(r1=1.0, interval=4, generator_norm="none")
    found = jax.eval_shape(
        lambda v: make_objectives(rare)(v, rows(4), jax.random.key(0), jnp.int32(0)), variables
    )
    assert {name.split("/")[0] for name in found} == {"discriminator", "generator"}


LOSSES = {
    "non_saturating": (
        lambda a, b: -np.log(sigmoid(a)) - np.log(1 - sigmoid(b)),
        lambda a, b: -np.log(sigmoid(b)),
    ),
    "saturating": (
        lambda a, b: -np.log(sigmoid(a)) - np.log(1 - sigmoid(b)),
        lambda a, b: np.log(1 - sigmoid(b)),
    ),
    "least_squares": (lambda a, b: ((a - 1) ** 2 + b**2) / 2, lambda a, b: (b - 1) ** 2 / 2),
    "hinge": (lambda a, b: np.maximum(0, 1 - a) + np.maximum(0, 1 + b), lambda a, b: -b),
    "wasserstein": (lambda a, b: b - a, lambda a, b: -b),
    "relativistic": (lambda a, b: -np.log(sigmoid(a - b)), lambda a, b: -np.log(sigmoid(b - a))),
}
"""The formulas of the papers, of the critic and of the generator, for logits a of real and b of fake rows."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_their_gradients_are_the_formulas(loss):
    a, b = np.random.default_rng(0).normal(0, 2, (2, 50))
    for ours, formula in zip((adversarial.critic, adversarial.generator), LOSSES[loss], strict=True):
        np.testing.assert_allclose(
            ours(loss, jnp.asarray(a), jnp.asarray(b)), formula(a, b), rtol=1e-4, atol=1e-5
        )
        slopes = jax.grad(lambda x, y, f=ours: f(loss, x, y).sum(), (0, 1))(jnp.asarray(a), jnp.asarray(b))
        h = 1e-6
        for i, slope in enumerate(slopes):
            up, down = ([a, b] for _ in range(2))
            up[i], down[i] = up[i] + h, down[i] - h
            np.testing.assert_allclose(slope, (formula(*up) - formula(*down)) / (2 * h), atol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_descends_in_the_right_direction(loss):
    """The critic gains from higher logits of real rows and lower ones of fake rows."""
    a, b = jnp.zeros(1), jnp.zeros(1)
    real, fake = jax.grad(lambda x, y: adversarial.critic(loss, x, y).sum(), (0, 1))(a, b + 0.1)
    assert real < 0 < fake
    assert jax.grad(lambda y: adversarial.generator(loss, a, y).sum())(b) < 0


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 5)])
def test_spectral_normalisation_divides_by_the_largest_singular_value(shape):
    params = {"layer": {"kernel": jax.random.normal(jax.random.key(0), shape), "bias": jnp.ones(shape[-1])}}
    vectors = spectral.vectors(jax.random.key(1), params)
    assert list(vectors) == ["layer.kernel"]
    vectors = jax.jit(spectral.iterated, static_argnums=2)(params, vectors, 200)
    divided = jax.jit(spectral.normalised)(params, vectors)
    matrix = np.asarray(params["layer"]["kernel"]).reshape(-1, shape[-1])
    top = np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(divided["layer"]["kernel"].reshape(matrix.shape), matrix / top, rtol=1e-4)
    np.testing.assert_array_equal(divided["layer"]["bias"], params["layer"]["bias"])


def test_a_player_that_is_updated_iterates_its_own_vectors():
    model, variables = made(spectral=PLAYERS)
    for name, phase in model.phases.items():
        state = jax.jit(lambda v, p=phase: p.objective(v, rows(8), keys(8), step=jnp.int32(0))[1].state)(
            variables
        )
        moved = {p: not equal(state["vectors"][p], variables.state["vectors"][p]) for p in PLAYERS}
        assert moved == {p: p == name for p in PLAYERS}
        kept = jax.jit(lambda v, p=phase: p.objective(v, rows(8), keys(8), step=None)[1].state)(variables)
        assert equal(kept, variables.state)


def test_a_pack_is_judged_as_one():
    model, variables = made(pack=2, conditional=False, generator_norm="none")
    batch = {**rows(6), "mask": jnp.array([1.0, 1, 1, 0, 1, 1])}
    run = jax.jit(
        lambda b: model.phases["discriminator"].objective(variables, b, keys(len(b["mask"])), step=None)[0]
    )
    loss = run(batch)
    # The pack with a padding row does not count, whatever its rows are.
    assert loss.count == 2
    other = {**batch, "image": batch["image"].at[2:4].set(0)}
    np.testing.assert_allclose(run(other).total, loss.total, rtol=1e-6)
    swapped = {**batch, "image": batch["image"][jnp.array([4, 1, 2, 3, 0, 5])]}
    assert abs(run(swapped).total - loss.total) > 1e-4
    assert not any(phase.rowwise for phase in model.phases.values())
    assert run(jax.tree.map(lambda x: x[:1], batch)).count == 0
    with pytest.raises(ConfigError, match="does not divide"):
        run(jax.tree.map(lambda x: x[:5], batch))
    with pytest.raises(ConfigError, match="packs of rows have no class"):
        build(config(pack=2), spec())


@pytest.mark.parametrize("reads", ["projection", "auxiliary", "concatenation"])
def test_the_critic_reads_the_class(reads):
    model, variables = made(reads=reads)

    def total(params, label):
        v = variables.replace(params={**variables.params, "discriminator": params})
        batch = {**rows(4), "label": label}
        return model.phases["discriminator"].objective(v, batch, keys(4), step=None)[0].total

    both = jax.jit(jax.value_and_grad(total))
    first, slope = both(variables.params["discriminator"], rows(4)["label"])
    second, _ = both(variables.params["discriminator"], (rows(4)["label"] + 1) % CLASSES)
    assert abs(first - second) > 1e-5
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(slope))


def test_the_critic_may_take_more_steps_than_the_generator():
    model, _ = made(critic_steps=5)
    assert [due(model, n) for n in range(6)] == [PLAYERS, *[PLAYERS[:1]] * 4, PLAYERS]


def test_no_penalty_no_play():
    assert list(made()[0].phases) == ["discriminator", "generator"]


@pytest.mark.parametrize("generator_norm", ["none", "batch", "group"])
@pytest.mark.parametrize("critic_norm", ["none", "batch", "group"])
def test_batch_statistics_are_declared(generator_norm, critic_norm):
    made = config(r1=1.0, interval=2, generator_norm=generator_norm, critic_norm=critic_norm)
    flags = {name: phase.rowwise for name, phase in build(made, spec()).phases.items()}
    own, both = critic_norm != "batch", "batch" not in (generator_norm, critic_norm)
    assert flags == {"discriminator": both, "penalty": own, "generator": both}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_rows_see_each_other_where_declared(norm):
    """Pixels beside a row change its loss under batch norm, and not under another."""
    model, variables = made(r1=1.0, interval=2, generator_norm=norm, critic_norm=norm)
    first = {**rows(4), "mask": jnp.eye(4)[0]}
    other = {**first, "image": rows(4, seed=1)["image"].at[0].set(first["image"][0])}
    run = jax.jit(
        lambda b: {
            n: p.objective(variables, b, keys(4), step=jnp.int32(0))[0].total for n, p in model.phases.items()
        }
    )
    a, b = jax.device_get((run(first), run(other)))
    for name in ("discriminator", "penalty"):
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
    model, _ = made(r1=1.0, interval=2, critic_norm="batch")
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
    model = build(config(), Spec({"scan": image, "digit": label}))
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
        build(config(), Spec({"tokens": Element((5,), "int32", 7)}))
    with pytest.raises(ConfigError, match="halved"):
        build(config(), spec(7))
    with pytest.raises(ConfigError, match="group"):
        Config(network={"name": "dcgan", "width": 12, "generator_norm": "group"})
    with pytest.raises(ConfigError, match="dcgam"):
        Config(network={"name": "dcgam"})
    with pytest.raises(ValueError, match="interval has no effect"):
        config(interval=2)
    with pytest.raises(ValueError, match="cannot both"):
        config(r1=1.0, interval=2, critic_steps=2)


def test_rows_that_fill_no_pack_are_refused_in_training():
    """They would be masked out, and nothing learned."""
    points = Spec({"point": Element((2,), "float32", None, "point", "target")}, rows=50)
    network = {"name": "mlp", "width": 4, "depth": 1}
    model = build(Config(network=network, pack=4, conditional=False, latent=2), points)
    batch = {"point": jnp.ones((2, 2)), "mask": jnp.ones(2)}
    variables = model.init(jax.random.key(0), batch, {})
    for phase in model.phases.values():
        with pytest.raises(ConfigError, match="pack=4 does not divide 2 rows"):
            phase.objective(variables, batch, keys(2), step=jnp.int32(0))
        phase.objective(variables, batch, keys(2), step=None)


def test_what_has_no_effect_or_no_meaning_is_refused():
    plain = Spec({"image": Element((8, 8, 1), "uint8", LEVELS, "image", "target")}, rows=50)
    four = Spec({"image": Element((8, 8, 4), "uint8", LEVELS, "image", "target")}, rows=50)
    styles = {"name": "stylegan2", "width": 4, "style": 8, "layers": 2}
    blocks = {"name": "resnet", "width": 4, "widest": 8}
    for data, says, fields in (
        (plain, "reads", {"reads": "auxiliary"}),
        (plain, "reads", {"auxiliary": 3.0, "reads": "auxiliary"}),
        (plain, "shared", {"network": {**blocks, "shared": 7}}),
        (plain, "latent=1", {"network": {**blocks, "skip": True}, "latent": 1}),
        (four, "1 or 3 channels", {"augment": Augment("ada")}),
        (spec(), "scale their kernels", {"network": styles, "spectral": ("generator",)}),
        (spec(), "scale their kernels", {"network": styles, "orthogonal": 1e-4}),
        (
            spec(),
            "groups=8",
            {"network": {"name": "r3gan", "width": 8, "widest": 12, "expansion": 1, "groups": 8}},
        ),
    ):
        with pytest.raises(ConfigError, match=says):
            build(config(**fields), data)
    model = build(config(network=styles), spec())
    variables = model.init(jax.random.key(0), rows(2), {})
    with pytest.raises(ConfigError, match="truncation"):
        model.sample(variables, keys(2), {}, temperature=0.5)


def test_only_kernels_are_normalised_and_regularised():
    tree = {
        "in": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "basis": jnp.ones((4, 4, 3)),
        "class": {"kernel": jnp.ones((2, 3))},
    }
    assert set(spectral.vectors(jax.random.key(0), tree)) == {"in.kernel", "class.kernel"}
    # Three columns of ones: six products of 2 each, squared.
    assert float(adversarial.off_orthogonal(tree)) == 6 * 4


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
        _, variables = made(generator_norm=norm, critic_norm=norm)
        assert ("bias" in variables.params["generator"]["up_0"]) is biased
        assert ("bias" in variables.params["generator"]["in"]) is biased
        assert ("bias" in variables.params["discriminator"]["network"]["down_0"]) is biased


def test_the_discriminator_learns_of_the_classes_that_it_has_seen():
    model, variables = made()

    def total(params):
        v = variables.replace(params={**variables.params, "discriminator": params})
        return model.phases["discriminator"].objective(v, rows(4), keys(4), step=None)[0].total

    slope = jax.jit(jax.grad(total))(variables.params["discriminator"])["class"]["kernel"]
    used = np.nonzero(np.abs(slope).sum(-1) > 0)[0]
    np.testing.assert_array_equal(used, np.unique(rows(4)["label"]))
