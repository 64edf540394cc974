"""Translation and super-resolution: formulas, directions, the buffer, who learns from which loss."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional.pool import Pool, exchanged
from genjax.models import superres, translation
from genjax.nn import translators

RNG = np.random.default_rng(0)
PICTURE = Element((8, 8, 3), "uint8", 256, "image")
SPEC = Spec(
    {"source": PICTURE.replace(role="condition"), "image": PICTURE.replace(role="target")}, paired=True
)
UNPAIRED = Spec(SPEC.elements)
row_keys_of = lambda n: row_keys(jax.random.key(0), 0, jnp.arange(n))
SMALL = {"width": 4, "critic_width": 4, "halvings": 1}
CONFIGS = {
    "cycle": {**SMALL, "blocks": 1, "buffer": 4},
    "no_buffer": {**SMALL, "blocks": 1, "buffer": 0, "loss": "non_saturating"},
    "pairs": {**SMALL, "kind": "pairs", "network": "unet", "halvings": 3},
}


def batch_of(rows: int = 6) -> dict[str, jax.Array]:
    draw = lambda: jnp.asarray(RNG.integers(0, 256, (rows, 8, 8, 3)), jnp.uint8)
    return {"source": draw(), "image": draw(), "mask": jnp.ones(rows)}


@functools.cache
def made(name: str):
    model = translation.build(translation.Config(**CONFIGS[name]), SPEC)
    batch = batch_of()
    return model, jax.jit(lambda key: model.init(key, batch, {}))(jax.random.key(0)), batch


def run(name: str, phase: str, variables: Variables | None = None, step: int | None = 0, batch=None):
    model, start, rows = made(name)
    batch = rows if batch is None else batch
    n = len(batch["mask"])
    number = None if step is None else jnp.int32(step)
    objective = functools.partial(model.phases[phase].objective, step=number)
    return jax.jit(objective)(variables or start, batch, row_keys_of(n))


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_reach_only_their_own_player_and_all_of_it(name: str):
    model, variables, batch = made(name)
    for phase in model.phases.values():
        loss = lambda p, f=phase.objective: (
            f(variables.replace(params=p), batch, row_keys_of(6), step=jnp.int32(0))[0].value
        )
        gradients = jax.jit(jax.grad(loss))(variables.params)
        for player, tree in gradients.items():
            for path, g in jax.tree_util.tree_leaves_with_path(tree):
                moved = float(jnp.abs(g).max()) > 0
                # The critic's objective holds the generator constant by itself; the other way round the
                # generator's does.
                assert moved == (player == phase.player), (player, jax.tree_util.keystr(path))


def test_the_loss_of_a_cycle_is_that_of_its_formula():
    """CycleGAN's eq. 3 with the identity loss of sec. 5.2, written out."""
    _, variables, batch = made("cycle")
    c = translation.Config(**CONFIGS["cycle"])
    loss, aux = run("cycle", "generator")
    real = {n: batch[n].astype(jnp.float32) / 127.5 - 1 for n in ("source", "image")}
    G, F = (
        lambda x, d=d: c.generator(3).apply({"params": variables.params["generator"][d]}, x)
        for d in ("there", "back")
    )
    distance = lambda a, b: jnp.abs(a - b).mean()
    x, y = real["source"], real["image"]
    cycle = 10 * (distance(F(G(x)), x) + distance(G(F(y)), y))
    identity = 5 * (distance(G(y), y) + distance(F(x), x))
    np.testing.assert_allclose(aux.metrics["cycle"].value, cycle, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["identity"].value, identity, rtol=1e-5)
    total = cycle + identity + aux.metrics["adversarial"].value
    np.testing.assert_allclose(loss.value, total, rtol=1e-5)


def test_pix2pix_pays_for_the_distance_and_its_critic_sees_the_source():
    model, variables, batch = made("pairs")
    _, aux = run("pairs", "generator")
    made_image = model.sample(variables, row_keys_of(6), {"source": batch["source"]})["image"]
    gap = jnp.abs(made_image.astype(jnp.float32) - batch["image"].astype(jnp.float32)).mean() / 127.5
    np.testing.assert_allclose(aux.metrics["distance"].value, 100 * gap, rtol=5e-3)
    moved = {**batch, "source": batch["source"][::-1]}
    logits = [run("pairs", "critic", batch=b)[1].metrics["there_real_logit"].value for b in (batch, moved)]
    assert abs(float(logits[0] - logits[1])) > 1e-6


def test_samples_are_a_function_of_the_source_row():
    for name in CONFIGS:
        model, variables, batch = made(name)
        assert model.deterministic
        all_rows = model.sample(variables, row_keys_of(6), {"source": batch["source"]})["image"]
        alone = model.sample(variables, row_keys_of(1), {"source": batch["source"][2:3]})["image"]
        np.testing.assert_array_equal(all_rows[2:3], alone)


def test_the_buffer_fills_and_then_shows_half_of_its_own():
    pool = Pool.empty(10, (1,))
    images = jnp.arange(1.0, 11.0)[:, None]
    shown, pool = exchanged(pool, images, jnp.ones(10), row_keys_of(10))
    np.testing.assert_array_equal(shown, images)
    assert int(pool.count) == 10
    fresh = 100.0 + jnp.arange(400.0)[:, None]
    shown, after = exchanged(pool, fresh, jnp.ones(400), row_keys_of(400))
    same = np.asarray(shown == fresh)[:, 0]
    assert 0.4 < same.mean() < 0.6
    # What was not shown as it came is in the pool or was shown later: nothing is lost, nothing shown twice.
    seen = np.concatenate([np.asarray(shown)[:, 0], np.asarray(after.images)[:, 0]])
    assert sorted(seen) == sorted(np.concatenate([np.asarray(images)[:, 0], np.asarray(fresh)[:, 0]]))


def test_padding_never_enters_the_buffer():
    mask = jnp.asarray([1.0, 0.0, 1.0])
    shown, pool = exchanged(Pool.empty(4, (1,)), jnp.asarray([[1.0], [2.0], [3.0]]), mask, row_keys_of(3))
    np.testing.assert_array_equal(shown[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(pool.images[:, 0], [1, 3, 0, 0])


def test_evaluation_leaves_the_buffer_alone():
    _, variables, _ = made("cycle")
    _, trained = run("cycle", "critic", step=0)
    _, evaluated = run("cycle", "critic", step=None)
    assert int(trained.state["there"].count) == 4
    assert jax.tree.all(jax.tree.map(jnp.array_equal, evaluated.state, variables.state))


@pytest.mark.parametrize(
    ("config", "spec", "message"),
    [
        ({"kind": "pairs"}, UNPAIRED, "pix2pix learns from pairs"),
        ({"halvings": 4}, SPEC, "cannot be halved"),
        ({"halvings": 3}, SPEC, "the smallest map has one pixel"),
        ({}, Spec({"image": PICTURE.replace(role="target")}), "an image as condition"),
        (
            {},
            Spec({**SPEC.elements, "source": PICTURE.replace(role="condition", shape=(4, 4, 3))}),
            "differ in size",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(config: dict, spec: Spec, message: str):
    with pytest.raises(ConfigError, match=message):
        translation.build(translation.Config(**config), spec)


@pytest.mark.parametrize(
    "fields", [{"kind": "pairs", "cycle": 1.0}, {"distance": 1.0}, {"network": "unet", "blocks": 1}]
)
def test_fields_without_effect_are_refused(fields: dict):
    with pytest.raises(ValueError, match="no effect"):
        translation.Config(**fields)


# --- super-resolution ------------------------------------------------------------------------------------

LOW = Spec(
    {
        "source": PICTURE.replace(role="condition", shape=(4, 4, 3)),
        "image": PICTURE.replace(role="target"),
    },
    paired=True,
)


def small_batch(rows: int = 5) -> dict[str, jax.Array]:
    batch = batch_of(rows)
    return {**batch, "source": batch["source"][:, ::2, ::2]}


def test_before_the_first_step_the_network_is_bicubic_interpolation():
    batch = small_batch()
    images = []
    for network in ({"width": 4, "blocks": 1}, {"network": "bicubic"}):
        model = superres.build(superres.Config(**network), LOW)
        variables = model.init(jax.random.key(0), batch, {})
        images.append(model.sample(variables, row_keys_of(5), batch)["image"])
    np.testing.assert_array_equal(*images)


def test_bicubic_interpolation_is_that_of_pillow():
    from PIL import Image

    x = RNG.uniform(size=(1, 9, 7, 1)).astype(np.float32)
    for factor in (2, 4):
        size = (7 * factor, 9 * factor)
        expected = Image.fromarray(x[0, ..., 0]).resize(size, Image.Resampling.BICUBIC)
        np.testing.assert_allclose(translators.bicubic(x, factor)[0, ..., 0], expected, atol=1e-5)


def test_pixels_are_shuffled_as_by_torch():
    """Channel (i, j, c) of a pixel becomes pixel (i, j) of its block: pixel_shuffle, channels last."""
    x = RNG.normal(size=(2, 3, 4, 2 * 2 * 5)).astype(np.float32)
    out = translators.to_pixels(x, 2)
    for i in range(2):
        for j in range(2):
            part = x.reshape(2, 3, 4, 2, 2, 5)[:, :, :, i, j]
            np.testing.assert_array_equal(out[:, i::2, j::2], part)


@pytest.mark.parametrize("adversary", [{}, {"weight": 0.5, "width": 4, "start": 0}])
def test_every_parameter_of_the_enlarger_learns(adversary: dict):
    config = superres.Config(width=4, blocks=1, adversary=superres.Adversary(**adversary))
    model = superres.build(config, LOW)
    batch = small_batch()
    variables = model.init(jax.random.key(0), batch, {})
    # The zeros of the last layer would hide the gradient of the layers before it.
    variables = jax.tree.map(lambda x: x + 0.1, variables)
    for phase in model.phases.values():
        loss = lambda p, f=phase.objective: (
            f(variables.replace(params=p), batch, row_keys_of(5), step=jnp.int32(0))[0].value
        )
        gradients = jax.jit(jax.grad(loss))(variables.params)
        for player, tree in gradients.items():
            moved = [float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(tree)]
            assert all(moved) if player == phase.player else not any(moved)


def test_images_that_are_no_fraction_are_refused():
    with pytest.raises(ConfigError, match=r"set data\.downsample"):
        superres.build(
            superres.Config(),
            Spec({**LOW.elements, "source": PICTURE.replace(shape=(3, 4, 3), role="condition")}),
        )
    with pytest.raises(ValueError, match="no effect"):
        superres.Config(network="bicubic", width=8)
