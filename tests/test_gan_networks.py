"""Networks of GANs: forms, gradients, rows alone, styles, truncation, path lengths, attention."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import shaken

from genjax.config import build as made_config
from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import adversarial
from genjax.models import gan
from genjax.nn.gans import resnet, stylegan2

STYLE = {"name": "stylegan2", "width": 4, "style": 6, "layers": 2, "group": 2}
NETWORKS = {
    "mlp": {"name": "mlp", "width": 8, "depth": 2},
    "dcgan": {"name": "dcgan", "width": 4, "generator_norm": "none"},
    "sngan": {"name": "resnet", "width": 4},
    "biggan": {"name": "resnet", "width": 8, "attention": (8,), "skip": True, "shared": 3},
    "deep": {"name": "resnet", "width": 8, "bottleneck": 2},
    "stylegan2": STYLE,
    "r3gan": {"name": "r3gan", "width": 4, "groups": 2},
}
every = pytest.mark.parametrize("name", NETWORKS)


def spec(side: int = 8) -> Spec:
    image = Element((side, side, 3), "uint8", 256, "image", "target")
    return Spec({"image": image, "label": Element((), "int32", 4, "label", "condition")}, rows=100)


def rows(n: int, side: int = 8, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (n, side, side, 3)).astype(np.uint8)
    return {"image": jnp.asarray(image), "label": jnp.arange(n) % 4, "mask": jnp.ones(n)}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


@functools.cache
def made(name: str, **fields) -> tuple[Model, Variables]:
    config = made_config(gan.Config, {"network": NETWORKS[name], "latent": 5, **fields}, "model")
    model = gan.build(config, spec())
    variables = jax.jit(lambda key: model.init(key, rows(4), {}))(jax.random.key(1))
    # Layers that start at zero hide what comes before them.
    return model, variables.replace(params=shaken(variables.params, 0.1))


@pytest.mark.parametrize("side", [8, 28, 32])
@every
def test_every_size_has_the_datas_form(name, side):
    attention = {"attention": (side,)} if name == "biggan" else {}
    network = {**NETWORKS[name], **attention}
    model = gan.build(made_config(gan.Config, {"network": network, "latent": 5}, "model"), spec(side))
    batch = rows(4, side)
    variables = jax.eval_shape(lambda key: model.init(key, batch, {}), jax.random.key(0))
    out = jax.eval_shape(lambda v: model.sample(v, keys(4), {}, truncation=0.7), variables)
    assert out["image"].shape == batch["image"].shape


@every
def test_every_parameter_has_a_gradient_from_its_own_phase(name):
    model, variables = made(name)
    for phase in model.phases.values():

        def total(params, phase=phase):
            v = variables.replace(params={**variables.params, phase.player: params})
            return phase.objective(v, rows(4), keys(4), step=jnp.int32(0))[0].total

        slopes = jax.device_get(jax.jit(jax.grad(total))(variables.params[phase.player]))
        dead = [p for p, x in jax.tree_util.tree_leaves_with_path(slopes) if not np.abs(x).max() > 0]
        assert not dead


@every
def test_a_sample_depends_on_its_own_key_and_label(name):
    model, variables = made(name)
    sample = jax.jit(lambda k, label: model.sample(variables, k, {"label": label})["image"])
    one = np.asarray(sample(keys(4), jnp.arange(4)))
    other = np.asarray(sample(keys(4, 7).at[2].set(keys(4)[2]), jnp.arange(4)))
    np.testing.assert_array_equal(one[2], other[2])
    assert (one[1] != other[1]).any()
    assert (one != np.asarray(sample(keys(4), jnp.arange(4)[::-1]))).any()


@pytest.mark.parametrize("name", ["sngan", "r3gan"])
def test_a_critic_judges_each_row_alone(name):
    model, variables = made(name, conditional=False)
    phase = model.phases["discriminator"].objective
    run = jax.jit(lambda b: phase(variables, b, keys(4), step=None)[0].total)
    first = {**rows(4), "mask": jnp.eye(4)[0]}
    other = {**first, "image": rows(4, seed=1)["image"].at[0].set(first["image"][0])}
    np.testing.assert_allclose(run(first), run(other), rtol=1e-5)


def test_the_deviation_is_that_of_groups_of_adjacent_rows():
    x = jax.random.normal(jax.random.key(0), (6, 2, 2, 3))
    got = np.asarray(stylegan2.deviation(x, 3))
    for group in (slice(0, 3), slice(3, 6)):
        want = np.sqrt(np.asarray(x[group]).var(0) + 1e-8).mean()
        np.testing.assert_allclose(got[group], want, rtol=1e-4)
    with pytest.raises(ConfigError, match="does not divide 6 rows"):
        stylegan2.deviation(x, 4)


def test_truncation_moves_styles_towards_their_mean():
    generator = stylegan2.generator(stylegan2.Config(width=4, style=6, layers=2), (8, 8, 3))
    z = jax.random.normal(jax.random.key(0), (4, 5))
    none = jnp.zeros((4, 0))
    tree = generator.init(jax.random.key(1), z, none, False)
    w = generator.apply(tree, z, none, method="mapping")
    tree = {**tree, "batch_stats": {"style": w.mean(0)}}  # type: ignore[union-attr]
    call = lambda psi: np.asarray(generator.apply(tree, z, none, None, psi, method="truncated"))
    np.testing.assert_allclose(call(1.0), generator.apply(tree, z, none, False), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(call(0.0), call(0.0)[:1].repeat(4, 0), rtol=1e-4, atol=1e-5)
    assert call(0.5).std(0).mean() < call(1.0).std(0).mean()


def test_the_mean_style_follows_training_only():
    model, variables = made("stylegan2")
    phase = model.phases["generator"].objective
    run = jax.jit(lambda step: phase(variables, rows(4), keys(4), step=step)[1].state["generator"]["style"])
    evaluated = jax.jit(lambda: phase(variables, rows(4), keys(4), step=None)[1].state["generator"]["style"])
    assert (run(jnp.int32(0)) != variables.state["generator"]["style"]).any()
    np.testing.assert_array_equal(evaluated(), variables.state["generator"]["style"])


def test_styles_are_mixed_from_a_layer_on():
    generator = stylegan2.Generator(stylegan2.Config(width=4, style=6, layers=2, mixing=1.0), (8, 8, 3))
    z = jax.random.normal(jax.random.key(0), (64, 5))
    none = jnp.zeros((64, 0))
    tree = generator.init(jax.random.key(1), z, none, False)
    w = generator.apply(tree, z, none, method="mapping")
    styles = generator.apply(tree, w, method="repeated")
    mixed = generator.apply(tree, styles, 5, none, keys(64), method="mixed")
    own = np.asarray((mixed == styles).all(-1))
    assert own[:, 0].all()
    assert not own[:, -1].any()
    # Once another style begins it goes on to the last layer, and every layer can be the first.
    assert (np.diff(own.astype(int), axis=1) <= 0).all()
    assert set(own.sum(1)) == set(range(1, styles.shape[1]))


def test_the_path_length_is_that_of_the_jacobian():
    model, variables = made("stylegan2", path_length=2.0, path_interval=3)
    phase = model.phases["path_length"]
    assert (phase.player, phase.interval, phase.evaluated) == ("generator", 3, False)
    batch, k = rows(2), keys(2)
    loss, aux = jax.jit(lambda v: phase.objective(v, batch, k, step=jnp.int32(0)))(variables)
    m = phase.objective.args[0]  # type: ignore[attr-defined]
    fold = lambda site: jax.vmap(jax.random.fold_in, (0, None))(k, site)
    draw = lambda site, shape: jax.vmap(lambda key: jax.random.normal(key, shape))(fold(site))
    tree = m.collections(variables, "generator")
    w = m.generator.apply(tree, draw(7, (5,)), jnp.eye(4)[:2], method="mapping")
    y = np.asarray(draw(8, (8, 8, 3))) / 8.0
    image = lambda w: m.generator.apply(tree, w, fold(6), method="synthesis")
    jacobian = np.asarray(jax.jit(jax.jacrev(image))(m.generator.apply(tree, w, method="repeated")))
    slope = np.stack([np.einsum("hwc,hwcls->ls", y[i], jacobian[i, ..., i, :, :]) for i in range(2)])
    length = np.sqrt(np.square(slope).sum(-1).mean(-1))
    target = 0.01 * length.mean()
    np.testing.assert_allclose(aux.metrics["length"].value, length.mean(), rtol=1e-3)
    np.testing.assert_allclose(aux.state["path_length"], target, rtol=1e-3)
    np.testing.assert_allclose(loss.value, 2.0 * 3 * np.square(length - target).mean(), rtol=1e-3)


def test_attention_starts_as_the_identity_and_reads_every_pixel():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 16))
    layer = resnet.Attention()
    tree = layer.init(jax.random.key(1), x)
    np.testing.assert_array_equal(layer.apply(tree, x), x)
    tree = {"params": {**tree["params"], "share": jnp.ones(())}}
    slope = jax.grad(lambda x: layer.apply(tree, x)[0, 0, 0].sum())(x)  # type: ignore[index]
    assert (np.abs(slope[0]).max(-1) > 0).mean() > 0.25  # the largest of each four pixels
    assert (slope[1] == 0).all()


def test_orthogonal_columns_cost_nothing():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 4)))
    params = {"kernel": jnp.asarray(3 * q, jnp.float32), "bias": jnp.ones(4)}
    assert adversarial.off_orthogonal(params) == pytest.approx(0, abs=1e-3)
    w = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    gram = w.reshape(6, 4).T @ w.reshape(6, 4)
    want = np.square(gram * (1 - np.eye(4))).sum()
    np.testing.assert_allclose(adversarial.off_orthogonal({"kernel": jnp.asarray(w)}), want, rtol=1e-4)


def test_truncated_noise_has_no_tail():
    model, variables = made("mlp", conditional=False)
    drawn = jax.jit(lambda t: model.sample(variables, keys(500), {}, truncation=t)["image"], static_argnums=0)
    spread = [np.asarray(drawn(t), np.float64).std(0).mean() for t in (0.1, 0.5, 3.0)]
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize(
    ("network", "fields", "match"),
    [
        ({"name": "resnet", "attention": (5,)}, {}, "no map has that side"),
        ({"name": "resnet", "skip": True, "batch_norm": False}, {}, "skip needs batch_norm"),
        ({"name": "r3gan", "width": 5, "expansion": 1, "groups": 2}, {}, "groups=2 does not divide"),
        ({"name": "dcgan"}, {"path_length": 2.0}, "needs a generator with styles"),
        ({"name": "dcgan"}, {"path_interval": 8}, "path_interval has no effect"),
    ],
)
def test_what_does_not_fit_is_refused(network, fields, match):
    with pytest.raises(ConfigError, match=match):
        gan.build(made_config(gan.Config, {"network": network, **fields}, "model"), spec())
