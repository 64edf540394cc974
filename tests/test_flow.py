"""Normalizing flows: exact determinants, inverses, densities that integrate to one, fitted ActNorm."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from properties import shaken

from genjax.core import Element, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional.noise import normal
from genjax.models import flow
from genjax.nn import flows

IMAGE = Element((4, 4, 1), "uint8", 16, kind="image", role="target")
POINT = Element((2,), "float32", kind="point", role="target")
LABEL = Element((), "int32", 3, kind="label", role="condition")
GLOW = {"steps": 2, "width": 8}
REALNVP = {"steps": 2, "width": 8, "checkerboard": 2, "mixing": "reverse"}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def batch_of(element: Element, rows: int = 6) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    x = (
        rng.integers(0, element.levels, (rows, *element.shape))
        if element.levels
        else rng.normal(size=(rows, 2))
    )
    return {
        "x": jnp.asarray(x, element.dtype),
        "label": jnp.asarray(rng.integers(0, 3, rows), jnp.int32),
        "mask": jnp.ones(rows),
    }


def randomised(variables: Variables, scale: float = 0.15) -> Variables:
    """Leave the identity at which couplings and heads start."""
    return variables.replace(params=shaken(variables.params, scale, seed=7))


def made(element: Element, options: dict, fitted: bool = True):
    """(the contract's implementation, variables away from the identity, a batch)."""
    spec = Spec({"x": element, "label": LABEL})
    config = flow._resolved(flow.Config(**options), element)
    label = flow.ClassLabel.of(spec)
    m = flow._Flow(config, "x", element, label, flow.Flow(config, element.shape))
    batch = batch_of(element)
    variables = randomised(jax.jit(lambda key: m.init(key, batch, {}))(jax.random.key(0)))
    return m, jax.jit(m.fit)(variables, batch, keys(6)) if fitted else variables, batch


CASES = [
    pytest.param(IMAGE, GLOW, id="glow"),
    pytest.param(IMAGE, REALNVP, id="realnvp"),
    pytest.param(POINT, {**GLOW, "steps": 3}, id="points"),
    pytest.param(POINT, {"steps": 4, "width": 8, "mixing": "reverse"}, id="points, reverse"),
]


@pytest.mark.parametrize(("element", "options"), CASES)
def test_the_determinant_is_that_of_the_jacobian(element: Element, options: dict):
    m, variables, batch = made(element, options)
    x = normal(keys(6, 1), element.shape)
    condition = m.condition(batch, 6)

    def one(x, condition):
        z, log_det = m.apply(variables, "forward", x[None], condition[None])
        return z[0], log_det[0]

    jacobian, log_det = jax.jit(jax.vmap(jax.jacfwd(one, has_aux=True)))(x, condition)
    _, expected = jnp.linalg.slogdet(jacobian.reshape(6, m.size, m.size))
    np.testing.assert_allclose(log_det, expected, atol=1e-4, rtol=1e-5)
    assert float(jnp.abs(expected).max()) > 0.1


@pytest.mark.parametrize(("element", "options"), CASES)
def test_it_inverts(element: Element, options: dict):
    m, variables, batch = made(element, options)
    x = normal(keys(6, 1), element.shape)
    condition = m.condition(batch, 6)
    z, _ = jax.jit(lambda x: m.apply(variables, "forward", x, condition))(x)
    back = jax.jit(lambda z: m.apply(variables, "inverse", z, condition))(z)
    np.testing.assert_allclose(back, x, atol=1e-4)
    assert float(jnp.abs(z - x.reshape(6, -1)).max()) > 0.1


@pytest.mark.parametrize("options", [GLOW, REALNVP], ids=["glow", "realnvp"])
def test_codes_decode_to_the_same_levels(options: dict):
    m, variables, batch = made(IMAGE, options)
    codes = m.encode(variables, batch)
    assert set(codes) == {"latent", "label", "mask"}
    np.testing.assert_array_equal(m.decode(variables, codes)["x"], batch["x"])


def test_a_density_of_points_integrates_to_one():
    m, variables, _ = made(POINT, {"steps": 3, "width": 8})
    side = np.linspace(-12, 12, 400, dtype=np.float32)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
    batch = {"x": grid, "label": jnp.zeros(len(grid), jnp.int32), "mask": jnp.ones(len(grid))}
    total = jnp.exp(-m.nats(variables, batch, keys(len(grid)))).sum() * (side[1] - side[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=5e-3)


def test_fitted_activations_are_standardised():
    spec = Spec({"x": IMAGE, "label": LABEL})
    config = flow._resolved(flow.Config(**GLOW), IMAGE)
    m = flow._Flow(config, "x", IMAGE, flow.ClassLabel.of(spec), flow.Flow(config, (4, 4, 1)))
    batch = batch_of(IMAGE, 512)
    padded = {k: jnp.concatenate([v, v[:64]]) for k, v in batch.items()}
    padded["mask"] = jnp.concatenate([jnp.ones(512), jnp.zeros(64)])
    variables = jax.jit(lambda key: m.init(key, batch, {}))(jax.random.key(0))
    fit = jax.jit(m.fit)
    fitted = fit(variables, batch, keys(512))
    # Padding rows are not counted.
    again = fit(variables, padded, jnp.concatenate([keys(512), keys(64, 5)]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), fitted.state, again.state)
    # Couplings and heads are the identity at first, and a rotation keeps white noise white.
    codes = jax.jit(m.encode)(fitted, batch, keys(512))["latent"]
    assert float(jnp.abs(codes.mean())) < 0.02
    assert float(codes.std()) == pytest.approx(1.0, abs=0.05)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables.params, fitted.params))


def test_variational_noise_has_the_density_it_reports():
    m, variables, batch = made(IMAGE, {**GLOW, "dequantisation": "variational"})
    image = batch["x"].astype(jnp.float32) / 7.5 - 1
    condition = m.condition(batch, 6)
    noise = normal(keys(6, 3), IMAGE.shape)

    def one(noise, image, condition):
        u, log_q = m.apply(variables, "dequantise", noise[None], image[None], condition[None])
        return u[0], (u[0], log_q[0])

    jacobian, (u, log_q) = jax.jit(jax.vmap(jax.jacfwd(one, has_aux=True)))(noise, image, condition)
    _, log_det = jnp.linalg.slogdet(jacobian.reshape(6, 16, 16))
    expected = -0.5 * (jnp.square(noise).sum((1, 2, 3)) + 16 * math.log(2 * math.pi)) - log_det
    np.testing.assert_allclose(log_q, expected, atol=1e-4, rtol=1e-5)
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    # The noise depends on the image.
    other, _ = m.apply(variables, "dequantise", noise, jnp.roll(image, 1, 0), condition)
    assert float(jnp.abs(other - u).max()) > 1e-3


@pytest.mark.parametrize("dequantisation", ["uniform", "variational"])
def test_more_samples_of_the_noise_lower_the_bound(dequantisation: str):
    m, variables, batch = made(IMAGE, {**GLOW, "dequantisation": dequantisation})

    @functools.partial(jax.jit, static_argnums=1)
    def nats(keys, samples):
        return m.likelihood(variables, batch, keys, samples=samples)[0].total.mean()

    bound = lambda samples: float(np.mean([nats(keys(6, seed), samples) for seed in range(8)]))
    one, four, many = bound(1), bound(4), bound(32)
    assert one > four > many
    # A probability of a level cannot exceed one.
    assert many > 0


def test_squeezing_keeps_every_value_in_its_block():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    y = flows.squeeze(x)
    np.testing.assert_array_equal(y[0, 1, 2], x[0, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(flows.unsqueeze(y), x)


@pytest.mark.parametrize(
    ("element", "options", "field"),
    [
        (IMAGE, {"levels": 3}, "levels"),
        (POINT, {"levels": 2}, "levels"),
        (POINT, {"checkerboard": 1}, "checkerboard"),
        (POINT, {"dequantisation": "variational"}, "dequantisation"),
        (POINT, {"margin": 0.1}, "margin"),
    ],
)
def test_options_that_do_not_apply_are_refused(element: Element, options: dict, field: str):
    with pytest.raises(ConfigError, match=field):
        flow.build(flow.Config(**options), Spec({"x": element}))
    with pytest.raises(ConfigError, match="flow needs"):
        flow.build(flow.Config(), Spec({"tokens": Element((8,), "int32", 5, kind="tokens", role="target")}))
