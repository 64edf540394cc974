"""The GAN's two players: who learns from what, the penalty by hand, sizes, labels, statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.models.gan import Config, Discriminator, build
from genjax.nn.mlp import one_hot
from genjax.training.step import Average, create, due, make_step

LEVELS, CLASSES = 17, 10


def spec(side: int = 8) -> Spec:
    image = Element((side, side, 1), "uint8", LEVELS)
    return Spec({"image": image, "label": Element((), "int32", CLASSES)}, rows=100)


def rows(n: int, side: int = 8, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, LEVELS, (n, side, side, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, n), jnp.int32),
        "mask": jnp.ones(n),
    }


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def made(side: int = 8, **fields) -> tuple[Model, Variables]:
    model = build(Config(**{"latent": 4, "width": 8, **fields}), spec(side))
    return model, jax.jit(lambda key: model.init(key, rows(2, side), {}))(jax.random.key(1))


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_every_size_has_the_datas_form(side):
    model = build(Config(width=8), spec(side))
    variables = jax.eval_shape(lambda key: model.init(key, rows(2, side), {}), jax.random.key(0))
    out = jax.eval_shape(lambda v: model.sample(v, keys(3), {}), variables)
    assert out["image"].shape == (3, side, side, 1)
    assert out["image"].dtype == jnp.uint8
    loss, _ = jax.eval_shape(
        lambda v: model.plays["discriminator"].objective(v, rows(2, side), keys(2), step=jnp.int32(0)),
        variables,
    )
    assert loss.total.shape == ()


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_each_play_moves_its_own_player_alone_and_every_leaf_of_it(norm):
    model, _ = made(r1=1.0, generator_norm=norm, discriminator_norm=norm)
    opt = {p: optax.sgd(0.1) for p in ("generator", "discriminator")}
    state = create(model, opt, jax.random.key(0), rows(8))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    for name, play in model.plays.items():
        new, _ = step(state, {}, rows(8), jax.random.key(0), (name,))
        for player, params in new.variables.params.items():
            moved = jax.tree.map(lambda a, b: bool((a != b).any()), params, state.variables.params[player])
            if player != play.player:
                assert not any(jax.tree.leaves(moved))
            elif name != "r1":  # R1 is blind to what does not shape the slope, the last bias for one
                assert all(jax.tree.leaves(moved)), moved


def test_the_generator_answers_the_updated_discriminator():
    model, _ = made(generator_norm="none")
    opt = {p: optax.sgd(0.5) for p in ("generator", "discriminator")}
    state = create(model, opt, jax.random.key(0), rows(8))
    step = jax.jit(make_step(model, opt), static_argnums=4)
    both, _ = step(state, {}, rows(8), jax.random.key(0), due(model, 0))
    first, _ = step(state, {}, rows(8), jax.random.key(0), ("discriminator",))
    again = first.replace(step=state.step)
    second, _ = step(again, {}, rows(8), jax.random.key(0), ("generator",))
    for a, b in zip(jax.tree.leaves(both.variables), jax.tree.leaves(second.variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_losses_are_those_of_the_logits():
    """softplus(-D(x)) + softplus(D(G(z))) for the one, softplus(-D(G(z))) for the other."""
    model, variables = made(generator_norm="none")
    batch = rows(6)
    # A discriminator whose weights are zero but for the last bias says that bias of every image.
    zero = jax.tree.map(jnp.zeros_like, variables.params["discriminator"])
    zero["out"]["bias"] = jnp.array([1.5])
    variables = variables.replace(params={**variables.params, "discriminator": zero})
    run = lambda play: model.plays[play].objective(variables, batch, keys(6), step=jnp.int32(0))
    d, aux = run("discriminator")
    np.testing.assert_allclose(d.value, np.log1p(np.exp(-1.5)) + np.log1p(np.exp(1.5)), rtol=1e-6)
    assert (aux.metrics["real_accuracy"].value, aux.metrics["fake_accuracy"].value) == (1, 0)
    np.testing.assert_allclose(run("generator")[0].value, np.log1p(np.exp(-1.5)), rtol=1e-6)


def test_r1_is_the_squared_slope_at_the_real_images():
    """gamma/2 * every * E |grad D(x)|^2, the slope by finite differences of the game's own logits."""
    gamma, every = 3.0, 4
    model, variables = made(r1=gamma, r1_every=every, latent=2)
    assert model.plays["r1"].every == every
    assert "r1" in due(model, 4)
    assert "r1" not in due(model, 5)
    batch = rows(3)
    penalty, aux = model.plays["r1"].objective(variables, batch, keys(3), step=jnp.int32(0))
    net = Discriminator(Config(width=8, latent=2))
    params = {"params": variables.params["discriminator"]}
    with jax.enable_x64(True):
        x = np.asarray(batch["image"], np.float64) * 2 / (LEVELS - 1) - 1
        y = one_hot(batch["label"], CLASSES)
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
        logit = jax.jit(lambda x: net.apply(params, x, y, False))
        h, slopes = 1e-3, []
        for i in range(64):
            e = np.zeros((1, 64))
            e[0, i] = h
            e = e.reshape(1, 8, 8, 1)
            slopes.append(
                (np.asarray(logit(x + e), np.float64) - np.asarray(logit(x - e), np.float64)) / (2 * h)
            )
    expected = np.square(slopes).sum(0).mean()
    np.testing.assert_allclose(aux.metrics["squared_gradient"].value, expected, rtol=1e-3)
    np.testing.assert_allclose(penalty.value, 0.5 * gamma * every * expected, rtol=1e-3)
    assert "r1" not in made()[0].plays


def test_rows_do_not_see_each_other_but_through_batch_statistics():
    batch = rows(4)
    spoilt = {**batch, "image": batch["image"].at[1:].set(0), "mask": jnp.eye(4)[0]}
    alone = {**batch, "mask": jnp.eye(4)[0]}
    for norm, same in (("none", True), ("group", True), ("batch", False)):
        model, variables = made(generator_norm=norm, discriminator_norm=norm)
        play = model.plays["discriminator"]
        assert play.rowwise is same
        run = jax.jit(
            lambda b, play=play, v=variables: play.objective(v, b, keys(4), step=jnp.int32(0))[0].total
        )
        assert bool(np.isclose(run(alone), run(spoilt), rtol=1e-5)) is same


def test_batch_statistics_move_in_training_and_rest_in_evaluation():
    model, variables = made(generator_norm="batch", discriminator_norm="batch")
    same = lambda a, b: jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), a, b))
    for name in ("discriminator", "generator"):
        objective = model.plays[name].objective
        _, aux = objective(variables, rows(4), keys(4), step=jnp.int32(0))
        changed = {p: not same(aux.state[p], variables.state[p]) for p in aux.state}
        assert changed == {"generator": name == "generator", "discriminator": name == "discriminator"}
        _, still = objective(variables, rows(4), keys(4), step=None)
        assert same(still.state, variables.state)


def test_no_bias_before_a_norm():
    for norm, biased in (("batch", False), ("group", False), ("none", True)):
        _, variables = made(generator_norm=norm, discriminator_norm=norm)
        assert ("bias" in variables.params["generator"]["up_0"]) is biased
        assert ("bias" in variables.params["generator"]["in"]) is biased
        assert ("bias" in variables.params["discriminator"]["down_0"]) is biased


def test_samples_depend_on_their_key_and_follow_their_label():
    model, variables = made()
    label = {"label": jnp.arange(4)}
    sample = jax.jit(model.sample)
    one, other = (
        sample(variables, keys(4), label),
        sample(variables, keys(4, 7).at[2].set(keys(4)[2]), label),
    )
    np.testing.assert_array_equal(one["image"][2], other["image"][2])
    assert (one["image"][1] != other["image"][1]).any()
    same = sample(variables, jnp.broadcast_to(keys(1), (CLASSES,)), {"label": jnp.arange(CLASSES)})
    assert len(np.unique(same["image"].reshape(CLASSES, -1), axis=0)) == CLASSES
    blind, variables = made(conditional=False)
    assert "label" not in blind.sample(variables, keys(2), {})
    drawn = sample(made()[1], keys(500), {})["label"]
    assert (np.bincount(drawn, minlength=CLASSES) > 20).all()


def test_the_discriminator_learns_of_the_classes_that_it_has_seen():
    model, variables = made()

    def total(params):
        v = variables.replace(params={**variables.params, "discriminator": params})
        return model.plays["discriminator"].objective(v, rows(4), keys(4), step=None)[0].total

    slope = jax.jit(jax.grad(total))(variables.params["discriminator"])["class"]["kernel"]
    used = np.nonzero(np.abs(slope).sum(-1) > 0)[0]
    np.testing.assert_array_equal(used, np.unique(rows(4)["label"]))


def test_the_generator_alone_is_averaged_and_learns_a_constant_image():
    model, _ = made(latent=2, generator_norm="none", conditional=False, r1=0.1)
    opt = {"generator": optax.adam(3e-3, b1=0.5), "discriminator": optax.adam(3e-3, b1=0.5)}
    batch = {**rows(16), "image": jnp.full((16, 8, 8, 1), 12, jnp.uint8)}
    averages = {"eval": Average(("generator",), 200.0)}
    state = create(model, opt, jax.random.key(0), batch, averages=averages)
    step = jax.jit(make_step(model, opt, averages=averages), static_argnums=4)
    for _ in range(150):
        state, _ = step(state, {}, batch, jax.random.key(0), due(model, 0))
    assert set(state.variables.ema["eval"]) == {"generator"}
    image = model.sample(state.variables.at("eval"), keys(8), {})["image"]
    assert abs(float(image.mean()) - 12) < 2


@pytest.mark.parametrize("side", [4, 7])
def test_images_that_cannot_be_halved_are_refused(side):
    with pytest.raises(ConfigError, match="halved"):
        build(Config(), spec(side))
