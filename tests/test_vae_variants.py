"""Priors and regularisers of the VAE: densities, players, and equal steps on several devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import Taken, assert_same_steps, shaken
from test_vae import keys, loss, rows, spec

from genjax.config import build as made_config
from genjax.core import Model, Variables
from genjax.data import load
from genjax.errors import ConfigError
from genjax.models.vae import CRITIC, PLAYER, Config, build
from genjax.nn import priors
from genjax.training import Config as Training

SMALL = {"network": "mlp", "latent": 2, "hidden": (16,)}
PRIORS = {
    "vamp": {"kind": "vamp", "components": 7},
    "coupling": {"kind": "coupling", "couplings": 2, "width": 8},
}
REGULARISERS = ("capacity", "tc", "factor", "mmd")


@functools.cache
def made(
    prior: str | None = None, kind: str | None = None, bound: str | None = None
) -> tuple[Model, Variables]:
    fields: dict = dict(SMALL)
    if prior:
        fields["prior"] = PRIORS[prior]
    if kind:
        fields["regulariser"] = {"kind": kind, "weight": 3.0}
    if bound:
        fields["bound"] = {"kind": bound, "samples": 4}
    model = build(made_config(Config, fields, "model"), spec())
    return model, jax.jit(lambda key: model.init(key, rows(2), {}))(jax.random.key(1))


def perturbed(variables: Variables) -> Variables:
    return variables.replace(params=shaken(variables.params, 0.3))


def density(model: Model, variables: Variables, z: jax.Array) -> np.ndarray:
    m = model.phases["vae"].objective.__self__  # type: ignore[attr-defined]
    condition = jnp.zeros((z.shape[0], m.label.classes))
    return np.asarray(jax.jit(lambda x: m.apply(variables, "prior_log_prob", x, condition))(z))


@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_integrates_to_one_and_is_drawn_from(prior: str):
    model, variables = made(prior)
    variables = perturbed(variables)
    axis = jnp.linspace(-20.0, 20.0, 501)
    z = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    p = np.exp(density(model, variables, z).astype(np.float64)) * 0.08**2
    assert 0.97 < p.sum() < 1.01
    m = model.phases["vae"].objective.__self__  # type: ignore[attr-defined]
    noise = jax.random.normal(jax.random.key(3), (20_000, 2))
    condition = jnp.zeros((20_000, m.label.classes))
    draw = jax.jit(lambda e, k: m.apply(variables, "prior_draw", e, k, condition))
    drawn = np.asarray(draw(noise, keys(20_000)))
    mean = (p[:, None] * np.asarray(z)).sum(0)
    spread = np.sqrt((p[:, None] * np.square(np.asarray(z) - mean)).sum(0))
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.06 * spread.max())
    np.testing.assert_allclose(drawn.std(0), spread, rtol=0.06)


@pytest.mark.parametrize("prior", PRIORS)
def test_every_parameter_of_a_learned_prior_has_a_gradient(prior: str):
    model, variables = made(prior)
    total = lambda p: loss(model, variables.replace(params=p), rows(4), keys(4))[0].total
    slopes = jax.device_get(jax.jit(jax.grad(total))(perturbed(variables).params))
    dead = [p for p, x in jax.tree_util.tree_leaves_with_path(slopes) if not np.abs(x).max() > 0]
    assert not dead


@pytest.mark.parametrize("kind", REGULARISERS)
def test_devices_take_the_same_steps(kind: str):
    """What looks across the rows of a batch looks across those of all devices."""
    data = load(name="digits", limit=64)
    fields = {**SMALL, "regulariser": {"kind": kind, "weight": 3.0}}
    model = build(made_config(Config, fields, "model"), data.spec)
    quiet = {"tensorboard": False, "progress": False, "compilation_cache": False}
    take = functools.partial(Taken, model, data, batch=16, steps=2)
    one = take(Training(**quiet), devices=jax.devices()[:1])
    # Under pmap the rows of other devices must be gathered; one program sees all of them (jit).
    assert_same_steps(one, take(Training(**quiet, engine="pmap"), devices=jax.devices()[:4]), 3e-5)


def test_the_critic_learns_alone_and_the_vae_follows_it():
    model, variables = made(kind="factor")
    variables = perturbed(variables)
    slopes = {}
    for name, phase in model.phases.items():
        total = lambda p, phase=phase: (
            phase.objective(variables.replace(params=p), rows(8), keys(8), step=jnp.int32(0))[0].total
        )
        slopes[name] = jax.device_get(jax.jit(jax.grad(total))(variables.params))
    size = lambda tree: max(np.abs(x).max() for x in jax.tree.leaves(tree))
    assert size(slopes["vae"][PLAYER]) > 0
    assert size(slopes["vae"][CRITIC]) == 0
    assert size(slopes["critic"][CRITIC]) > 0
    assert size(slopes["critic"][PLAYER]) == 0


def test_the_capacity_rises_and_the_term_vanishes_there():
    fields = {
        **SMALL,
        "beta": 0.0,
        "regulariser": {"kind": "capacity", "weight": 2.0, "capacity": 8.0, "rise": 4},
    }
    model = build(made_config(Config, fields, "model"), spec())
    _, variables = made()
    for step, capacity in ((jnp.int32(0), 0.0), (jnp.int32(2), 4.0), (jnp.int32(9), 8.0), (None, 8.0)):
        value, aux = model.phases["vae"].objective(variables, rows(1), keys(1), step=step)
        kl = aux.metrics["kl"].value
        expected = aux.metrics["distortion"].value + 2 * jnp.abs(kl - capacity)
        np.testing.assert_allclose(value.value, expected, rtol=1e-5)


def test_bounds_train_the_vae():
    """The importance-weighted objective is the likelihood of as many draws, up to their noise."""
    model, variables = made(bound="iwae")
    variables = perturbed(variables)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 512, axis=0), rows(2))
    value, nats = jax.device_get(
        jax.jit(
            lambda: (
                loss(model, variables, batch, keys(1024, 2))[0].value,
                model.likelihood(variables, batch, keys(1024, 3), samples=4)[0].total,
            )
        )()
    )
    assert abs(value - nats.mean()) < 5 * nats.std() / 1024**0.5


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"bound": {"kind": "iwae", "samples": 5}, "beta": 2.0}, "apply to the ELBO"),
        ({"prior": {"components": 9}}, "components has no effect with kind='normal'"),
        ({"regulariser": {"weight": 1.0}}, "weight has no effect with kind='kl'"),
        (
            {"regulariser": {"kind": "tc", "weight": 1.0}, "prior": {"kind": "vamp"}},
            "needs prior.kind='normal'",
        ),
        ({"regulariser": {"kind": "mmd", "weight": 1.0}, "spatial": True}, "needs spatial=False"),
        ({"network": "mlp", "blocks": 2}, "blocks has no effect with network='mlp'"),
        ({"activation": "tanh"}, "activation has no effect with network='conv'"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict, match: str):
    with pytest.raises(ConfigError, match=match):
        made_config(Config, fields, "model")


def test_a_mixture_has_the_density_of_its_components_one_by_one():
    rng = np.random.default_rng(0)
    z = rng.normal(5, 3, (20, 2, 3))
    mean = rng.normal(5, 2, (7, 2, 3))
    log_std = rng.normal(-1, 0.5, (7, 2, 3))
    each = -0.5 * ((z[:, None] - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    want = np.log(np.exp(each.sum((2, 3))).mean(1))
    got = priors.mixture_log_prob(*(jnp.asarray(x, jnp.float32) for x in (z, mean, log_std)))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
