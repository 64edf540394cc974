"""The losses of VQ-GAN and of KL autoencoders: hinge, perceptual distance, adaptive weight, two players."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import Taken, assert_same_steps, shaken

from genjax.config import build as made_config
from genjax.core import Element, Mean, Model, Spec, Variables, row_keys
from genjax.data import load
from genjax.errors import ConfigError
from genjax.functional import perceptual
from genjax.models import classifier, vae, vqvae
from genjax.nn.adversary import Adversary, PatchDiscriminator, Sharpener, adaptive_weight
from genjax.training import Config as Training

SPEC = Spec(
    {
        "image": Element((8, 8, 1), "uint8", 17, "image", "target"),
        "label": Element((), "int32", 10, "label", "condition"),
    },
    rows=50,
)
ADVERSARY = {"weight": 0.8, "start": 3, "width": 8, "layers": 2}
VQ = {"width": 8, "blocks": 1, "codes": 16, "features": 4, "adversary": ADVERSARY}
KL = {"width": 8, "latent": 3, "spatial": True, "conditional": False, "adversary": ADVERSARY}


def keys(n: int) -> jax.Array:
    return row_keys(jax.random.key(0), 0, jnp.arange(n))


def rows(n: int, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 17, (n, 8, 8, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 10, n), jnp.int32),
        "mask": jnp.ones(n),
    }


@functools.cache
def features() -> tuple[Model, Variables]:
    model = classifier.build(classifier.Config(width=8, features=8), SPEC)
    return model, jax.jit(lambda key: model.init(key, rows(2), {}))(jax.random.key(5))


def made(module, fields: dict, stages: bool = False) -> tuple[Model, Variables]:
    network, frozen = features()
    given = {"features": network} if stages else {}
    model = module.build(made_config(module.Config, fields, "model"), SPEC, given)
    held = {"features": frozen} if stages else {}
    variables = jax.jit(lambda key: model.init(key, rows(4), held))(jax.random.key(1))
    return model, variables.replace(params=shaken(variables.params, 0.05))


CASES = [
    pytest.param(vqvae, VQ, "reconstruction", "codec", id="vqgan"),
    pytest.param(vae, KL, "vae", "vae", id="kl"),
]


def slopes(model: Model, variables: Variables, phase: str, step: int) -> dict[str, float]:
    """The largest gradient of a phase's loss in the parameters of each player."""
    total = lambda p: (
        model.phases[phase]
        .objective(variables.replace(params=p), rows(4), keys(4), step=jnp.int32(step))[0]
        .total
    )
    found = jax.device_get(jax.jit(jax.grad(total))(variables.params))
    return {player: max(np.abs(x).max() for x in jax.tree.leaves(tree)) for player, tree in found.items()}


@pytest.mark.parametrize(("module", "fields", "phase", "player"), CASES)
def test_each_player_learns_from_its_own_phase(module, fields, phase, player):
    model, variables = made(module, fields)
    assert list(model.phases)[-1] == "discriminator"
    found = slopes(model, variables, phase, 5)
    assert found[player] > 0
    assert found["discriminator"] == 0
    found = slopes(model, variables, "discriminator", 5)
    assert found["discriminator"] > 0
    assert found[player] == 0


@pytest.mark.parametrize(("module", "fields", "phase", "player"), CASES)
def test_the_adversarial_loss_begins_at_its_step(module, fields, phase, player):
    model, variables = made(module, fields)
    plain, _ = made(module, {**fields, "adversary": {}})
    loss = lambda m, step: float(
        jax.jit(
            lambda: m.phases[phase].objective(variables, rows(4), keys(4), step=jnp.int32(step))[0].value
        )()
    )
    assert loss(model, 2) == pytest.approx(loss(plain, 2), rel=1e-5)
    assert abs(loss(model, 3) - loss(plain, 3)) > 1e-4


def test_the_adaptive_weight_is_the_ratio_of_the_gradients():
    last = {"kernel": jnp.asarray([1.0, 2.0])}
    losses = lambda p: (
        Mean(3.0 * p["kernel"].sum(), jnp.float32(2.0)),
        Mean(0.5 * jnp.square(p["kernel"]).sum(), jnp.float32(4.0)),
    )
    # Gradients of the means: (1.5, 1.5) and (1/4, 2/4).
    expected = np.hypot(1.5, 1.5) / np.hypot(0.25, 0.5)
    assert float(jax.jit(adaptive_weight, static_argnums=0)(losses, last)) == pytest.approx(
        expected, rel=1e-4
    )
    flat = lambda p: (losses(p)[0], Mean(0.0 * p["kernel"].sum(), jnp.float32(1.0)))
    assert float(adaptive_weight(flat, last)) == 1e4, "bounded"


def test_the_hinge_loss_is_its_formula():
    config = made_config(Adversary, ADVERSARY, "adversary")
    real, fake = (jax.random.normal(jax.random.key(n), (3, 8, 8, 1)) for n in (0, 1))
    params = jax.jit(lambda key: config.network.init(key, real))(jax.random.key(2))["params"]
    on_real, on_fake = (np.asarray(config.logit(params, x)) for x in (real, fake))
    expected = 0.5 * (np.maximum(1 - on_real, 0) + np.maximum(1 + on_fake, 0)).mean((1, 2, 3))
    np.testing.assert_allclose(config.discriminator_loss(params, real, fake), expected, rtol=1e-5)
    np.testing.assert_allclose(config.generator_loss(params, fake), -on_fake.mean((1, 2, 3)), rtol=1e-5)


def test_a_patch_is_judged_alone():
    """A pixel far from a patch does not change the patch's logit beyond the normalisation's share."""
    network = PatchDiscriminator(8, 1)
    image = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    params = jax.jit(lambda key: network.init(key, image))(jax.random.key(1))
    slope = jax.jit(jax.grad(lambda x: network.apply(params, x)[0, 8, 8, 0]))(image)
    near = jnp.abs(slope[0, 8:26, 8:26]).max()
    far = jnp.abs(slope[0, :3, :3]).max()
    assert float(near) > 20 * float(far)


def test_the_perceptual_distance_is_one_of_directions():
    a = [jax.random.normal(jax.random.key(n), (2, 4, 4, 3)) for n in range(2)]
    b = [jax.random.normal(jax.random.key(n), (2, 4, 4, 3)) for n in range(2, 4)]
    np.testing.assert_allclose(perceptual.distance(a, a), 0.0, atol=1e-6)
    np.testing.assert_allclose(perceptual.distance(a, [3 * x for x in a]), 0.0, atol=1e-5)
    np.testing.assert_allclose(perceptual.distance(a, b), perceptual.distance(b, a), rtol=1e-6)
    np.testing.assert_allclose(
        perceptual.distance(a, [-x for x in a]), 8.0, rtol=1e-5
    )  # |2u|^2 at two layers
    slope = jax.grad(lambda x: perceptual.distance(a, [x, a[1]]).sum())(jnp.zeros_like(a[0]))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(("module", "fields", "phase", "player"), CASES)
def test_the_perceptual_distance_is_that_of_the_stage_s_network(module, fields, phase, player):
    with_distance = {**fields, "adversary": {"perceptual": 0.5}}
    model, variables = made(module, with_distance, stages=True)
    plain, _ = made(module, {**fields, "adversary": {}})
    assert list(model.phases) == [phase]
    run = lambda m: jax.jit(
        lambda: m.phases[phase].objective(variables, rows(4), keys(4), step=jnp.int32(0))
    )()
    (loss, aux), (before, _) = run(model), run(plain)
    assert float(aux.metrics["perceptual"].value) > 0
    np.testing.assert_allclose(loss.value - before.value, aux.metrics["perceptual"].value, rtol=1e-3)
    network, _ = features()
    s = Sharpener.of(made_config(Adversary, {"perceptual": 0.5}, "a"), {"features": network}, "image", 17)
    assert s is not None
    distance = s.distance(variables, rows(4), s.signed(rows(4)))
    np.testing.assert_allclose(distance, 0.0, atol=1e-5)


def test_what_is_missing_or_has_no_effect_is_refused():
    with pytest.raises(ConfigError, match=r"needs a classifier in stages\.features"):
        made(vqvae, {**VQ, "adversary": {"perceptual": 1.0}})
    with pytest.raises(ConfigError, match="start"):
        made(vqvae, {**VQ, "adversary": {"start": 3}})
    with pytest.raises(ConfigError, match="network='conv'"):
        made(vae, {"network": "mlp", "adversary": ADVERSARY})
    plain = vqvae.build(vqvae.Config(), SPEC)
    network = Model(init=plain.init, phases={}, predict=lambda v, b: {"logits": jnp.zeros((4, 2))})
    s = Sharpener.of(made_config(Adversary, {"perceptual": 0.5}, "a"), {"features": network}, "image", 17)
    assert s is not None
    with pytest.raises(ConfigError, match="no activations"):
        s.distance(Variables(frozen={"features": Variables()}), rows(4), jnp.zeros((4, 8, 8, 1)))


@pytest.mark.parametrize("module", [vqvae, vae], ids=["vqgan", "kl"])
def test_devices_take_the_same_steps(module):
    """The adaptive weight is that of the whole batch."""
    fields = {**(VQ if module is vqvae else KL), "adversary": {**ADVERSARY, "start": 0}}
    data = load(name="digits", limit=64)
    model = module.build(made_config(module.Config, fields, "model"), data.spec, {})
    quiet = {"tensorboard": False, "progress": False, "compilation_cache": False}
    take = functools.partial(Taken, model, data, batch=16, steps=2)
    one = take(Training(**quiet), devices=jax.devices()[:1])
    assert_same_steps(one, take(Training(**quiet, engine="pmap"), devices=jax.devices()[:4]), 3e-5)
