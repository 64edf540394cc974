"""Diffusion of real values: vectors and feature maps of any name, a bound of the density, no clipping."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from genjax.core import Element, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import schedules
from genjax.models import diffusion
from genjax.training import step as training

VECTOR = diffusion.Config(width=8, blocks=1, timesteps=20)
TINY = dataclasses.replace(VECTOR, multipliers=(1, 2), groups=4)
LABEL = Element((), "int32", 3, "label", "condition")


def real(shape: tuple[int, ...], name: str = "code", dtype: str = "float32") -> Spec:
    return Spec(
        {"image": Element((5,), "int32", 7), name: Element(shape, dtype, role="target"), "kind": LABEL}
    )


def rows(spec: Spec, n: int = 4, seed: int = 0) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    name = spec.targets[0]
    x = 3 * rng.normal(size=(n, *spec[name].shape))
    return {
        name: jnp.asarray(x, spec[name].dtype),
        "kind": jnp.asarray(rng.integers(0, 3, n)),
        "mask": jnp.ones(n),
    }


def keys(n: int = 4, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def noisy(tree: Any, seed: int = 9) -> Any:
    """Random parameters without zeros, so that every path of the network matters."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: 0.3 * jnp.asarray(rng.normal(size=x.shape), x.dtype), tree)


def made(spec: Spec, **fields) -> tuple[Any, Variables]:
    images = len(spec[spec.targets[0]].shape) == 3 and fields.get("network") != "mlp"
    model = diffusion.build(dataclasses.replace(TINY if images else VECTOR, **fields), spec, {})
    return model, noisy(jax.eval_shape(model.init, jax.random.key(0), rows(spec), {}))


@pytest.mark.parametrize(
    ("shape", "network", "found"),
    [((3,), "auto", "mlp"), ((4, 6, 2), "auto", "unet"), ((4, 4, 2), "mlp", "mlp")],
)
def test_samples_have_the_targets_name_form_and_type(shape, network, found):
    spec = real(shape, "anything", "float16")
    model, variables = made(spec, network=network)
    assert found in variables.params["denoiser"]
    assert "label" in variables.params["denoiser"]
    out = jax.eval_shape(lambda v: model.sample(v, keys(), {"kind": jnp.arange(4)}, steps=2), variables)
    assert set(out) == {"anything", "kind"}
    assert out["anything"].shape == (4, *shape)
    assert out["anything"].dtype == jnp.float16
    assert set(jax.eval_shape(lambda v: model.sample(v, keys(), {}, steps=2), variables)) == {"anything"}


def test_every_parameter_of_the_mlp_has_a_gradient():
    spec = real((3,))
    model, variables = made(spec, blocks=2)
    objective = model.phases["denoise"].objective
    loss = lambda v: objective(v, rows(spec, 16), keys(16), step=jnp.zeros((), int))[0].total
    for path, g in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables)):
        assert float(jnp.abs(g).max()) > 1e-5, path


def test_rows_do_not_see_each_other_and_dropout_is_theirs():
    spec = real((3,))
    model, variables = made(spec, dropout=0.3)
    objective = jax.jit(
        lambda b, k, step: model.phases["denoise"].objective(variables, b, k, step=step)[0].total
    )
    b, k = rows(spec, 6), keys(6)
    part = lambda index: objective({n: x[index] for n, x in b.items()}, k[index], jnp.array(0))
    halves = part(jnp.array([4, 0, 2])) + part(jnp.array([1, 3, 5]))
    np.testing.assert_allclose(objective(b, k, jnp.array(0)), halves, rtol=1e-5)
    assert objective(b, k, None) != objective(b, k, jnp.array(0))


def test_real_values_are_not_clipped_unless_asked_for():
    spec = real((3,))
    model, variables = made(spec)
    assert inspect.signature(model.sample).parameters["clip"].default is None
    assert inspect.signature(model.likelihood).parameters["clip"].default is None
    draw = lambda **how: np.abs(model.sample(variables, keys(64), {}, steps=4, **how)["code"]).max()
    assert draw() > 1.5
    assert draw(clip=0.5) <= 0.5
    image = Spec({"image": Element((4, 4, 1), "uint8", 17, "image", "target")})
    quantised = diffusion.build(TINY, image, {})
    assert inspect.signature(quantised.sample).parameters["clip"].default == 1.0


@pytest.mark.parametrize(("variance", "gap"), [("small", 1.2), ("large", 0.3)])
def test_the_bound_is_above_the_negative_log_density_and_near_it(monkeypatch, variance, gap):
    """For x_0 ~ N(0.1, 0.2^2) and its exact denoiser; the two gaps are those of quantised data."""
    mean, std, timesteps, n = 0.1, 0.2, 100, 4096
    path = schedules.chain("linear", timesteps)

    class Exact:
        def __init__(self, *args, **how):
            pass

        def apply(self, variables, x, t, label, keys=None):
            alpha, sigma = (c.reshape(-1, 1) for c in path(t))
            return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)

    monkeypatch.setattr(diffusion, "Network", Exact)
    fields = {"timesteps": timesteps, "variance": variance, "prediction": "data"}
    model: Any = diffusion.build(dataclasses.replace(VECTOR, **fields), real((1,)), {})
    assert model.likelihood_kind == "density"
    x = norm.ppf((np.arange(n) + 0.5) / n, mean, std)
    b = {"code": jnp.asarray(x[:, None], jnp.float32), "mask": jnp.ones(n)}
    nats, _ = model.likelihood(Variables(params={"denoiser": {}}), b, keys(n), terms=None)
    truth = -norm.logpdf(x, mean, std).mean()
    assert truth < float(nats.total.mean()) < truth + gap
    np.testing.assert_array_equal(nats.count, 1)


def test_the_last_term_is_a_density():
    """With one step there are two terms: the density of x_0 given x_1, and what x_1 tells."""
    spec = real((3,))
    model, variables = made(spec, timesteps=1, variance="large")
    b = rows(spec)
    alpha, sigma = (float(c) for c in schedules.chain("linear", 1)(jnp.ones(())))
    x_0 = np.asarray(b["code"], np.float64)
    noise = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 0), (3,)))(keys())
    x_1 = jnp.float32(alpha) * b["code"] + jnp.float32(sigma) * noise
    mean = model.denoiser.denoise(variables, x_1, jnp.ones(4), {"kind": b["kind"]})
    # "large" is the variance of q(x_1 | x_0).
    nats = -norm.logpdf(x_0, mean, sigma).sum(1)
    rate = 0.5 * ((alpha * x_0) ** 2 + sigma**2 - 1) - math.log(sigma)
    total = model.likelihood(variables, b, keys())[0].total
    np.testing.assert_allclose(total, nats + rate.sum(1), rtol=1e-4)


@pytest.mark.parametrize("shape", [(3,), (4, 4, 2)])
def test_every_term_of_the_bound_can_be_evaluated_by_the_real_network(shape):
    """All terms at once equal the mean of the estimates' population: T - 1 terms have no random start."""
    spec = real(shape)
    model, variables = made(spec, timesteps=4)
    b = rows(spec)
    whole = model.likelihood(variables, b, keys(), terms=None)[0].total
    np.testing.assert_array_equal(whole, model.likelihood(variables, b, keys(), terms=3)[0].total)
    assert np.isfinite(whole).all()


def test_two_points_are_learned():
    """A mixture of two narrow Gaussians whose label says which: samples lie at the point asked for."""
    spec = Spec(
        {"where": Element((2,), "float32", role="target"), "which": dataclasses.replace(LABEL, levels=2)}
    )
    config = diffusion.Config(width=32, blocks=2, timesteps=100, schedule="cosine", prediction="velocity")
    model = diffusion.build(config, spec, {})
    rng = np.random.default_rng(0)
    which = np.arange(128) % 2
    where = np.array([[2.0, 0.0], [-1.0, 1.0]])[which] + 0.05 * rng.normal(size=(128, 2))
    batch = {"where": jnp.float32(where), "which": jnp.asarray(which), "mask": jnp.ones(128)}
    optimizers = {"denoiser": optax.adam(1e-2)}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    step: Any = jax.jit(training.make_step(model, optimizers), static_argnames="phases", donate_argnums=0)
    for _ in range(300):
        state, _ = step(state, {}, batch, jax.random.key(1), phases=("denoise",))
    out = model.sample(state.variables, keys(64), {"which": jnp.arange(64) % 2}, steps=20)["where"]
    np.testing.assert_allclose(out[::2].mean(0), [2, 0], atol=0.2)
    np.testing.assert_allclose(out[1::2].mean(0), [-1, 1], atol=0.2)


def test_a_unet_on_vectors_is_refused():
    with pytest.raises(ConfigError, match="unet"):
        diffusion.build(dataclasses.replace(TINY, network="unet"), real((3,)), {})
