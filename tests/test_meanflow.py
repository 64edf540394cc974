"""MeanFlow: its identity on a flow that is known, its training, samples in one step, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import derivatives
from genjax.models import diffusion, meanflow
from genjax.nn.linear import linear
from genjax.training import step as training

POINT = Element((2,), "float32", None, "point", "target")
SPEC = Spec({"point": POINT, "label": Element((), "int32", 2, "label", "condition")}, rows=50)
NETWORK = {"width": 32, "blocks": 2}


def keys(n: int, seed: int = 0) -> jax.Array:
    return row_keys(jax.random.key(seed), 0, jnp.arange(n))


def rows(n: int, seed: int = 0) -> dict:
    """Two narrow classes, far apart."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    x = np.where(label[:, None] == 0, [-1.0, 0.5], [1.0, -0.5]) + 0.1 * rng.normal(size=(n, 2))
    return {
        "point": jnp.asarray(x, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "mask": jnp.ones(n),
    }


def test_a_derivative_along_a_direction_is_that_of_forward_mode():
    k = jax.random.normal(jax.random.key(0), (3, 4))
    f = lambda mul: lambda x, t: jnp.sin(mul(x, k)) * t[:, None] ** 2
    x, v = jax.random.normal(jax.random.key(1), (2, 5, 3))
    t = jnp.linspace(0.1, 1.0, 5)
    want = jax.jvp(f(jnp.matmul), (x, t), (v, jnp.ones(5)))
    found = derivatives.along(f(linear), (x, t), (v, jnp.ones(5)))
    np.testing.assert_allclose(found[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], want[1], rtol=1e-5, atol=1e-6)


def made(**fields) -> tuple[Model, Variables]:
    model = meanflow.build(meanflow.Config(network=NETWORK, **fields), SPEC)
    return model, jax.jit(lambda k: model.init(k, rows(2), {}))(jax.random.key(0))


def trained(steps: int = 1000, **fields) -> tuple[Model, Variables]:
    model, _ = made(**fields)
    optimizers = {"denoiser": optax.adam(3e-3)}
    step = jax.jit(training.make_step(model, optimizers), static_argnames="phases")
    state = training.create(model, optimizers, jax.random.key(0), rows(128))
    for n in range(steps):
        state, _ = step(state, {}, rows(128, n), jax.random.key(1), phases=("flow",))
    return model, state.variables


def test_one_step_draws_the_classes():
    model, variables = trained()
    given = {"label": jnp.asarray([0, 1] * 200, jnp.int32)}
    for steps in (1, 4):
        x = np.asarray(model.sample(variables, keys(400), given, steps=steps)["point"])  # type: ignore[misc]
        np.testing.assert_allclose(x[::2].mean(0), [-1.0, 0.5], atol=0.15)
        np.testing.assert_allclose(x[1::2].mean(0), [1.0, -0.5], atol=0.15)
        assert x[::2].std(0).max() < 0.4


def test_its_velocity_at_one_time_is_a_denoiser():
    """x_0 = x_t - t u(x_t, t, t), so that a network that says noise - x_0 estimates x_0."""
    model, variables = made()
    m = model.phases["flow"].objective.__self__  # type: ignore[attr-defined]
    x = jax.random.normal(jax.random.key(3), (4, 2))
    t = jnp.asarray([0.2, 0.5, 0.8, 1.0])
    shaken = jax.tree.map(lambda x: x + 0.1, variables)
    label = jnp.asarray([0, 1, 0, -1])
    u = m.average(shaken, x, t, t, label)
    found = model.denoiser.denoise(shaken, x, t, {"label": label})  # type: ignore[union-attr]
    np.testing.assert_allclose(found, x - t[:, None] * u, rtol=1e-5)
    # The last layer begins at zero, and nothing before it would have a gradient.
    loss = lambda v: model.phases["flow"].objective(v, rows(8), keys(8), step=jnp.int32(0))[0].total
    slopes = jax.grad(loss)(shaken)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(slopes.params))


def test_the_interval_has_its_share_and_its_order():
    model, _ = made(share=0.25)
    m = model.phases["flow"].objective.__self__  # type: ignore[attr-defined]
    r, t = m.interval(keys(4000))
    assert bool((r <= t).all())
    assert abs(float((r < t).mean()) - 0.25) < 0.03


def test_a_teacher_on_another_path_gives_its_velocities():
    """The teacher's E[x_0 | x_t], on its own path, is the velocity's on the straight one."""
    fields = {"width": 16, "blocks": 1, "schedule": "vp", "prediction": "velocity", "timesteps": 100}
    teacher = diffusion.build(diffusion.Config(**fields), SPEC)
    taught = teacher.init(jax.random.key(7), rows(2), {})
    model = meanflow.build(meanflow.Config(network=NETWORK, teacher="teacher"), SPEC, {"teacher": teacher})
    variables = model.init(jax.random.key(0), rows(2), {"teacher": taught})
    m = model.phases["flow"].objective.__self__  # type: ignore[attr-defined]
    b = rows(6)
    t = jnp.asarray([0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
    x_t = jax.random.normal(jax.random.key(1), (6, 2))
    v = m.velocity(variables, b, b["point"], x_t, x_t, t, b["label"])
    x_0 = x_t - t[:, None] * v
    path = teacher.denoiser.path(taught)  # type: ignore[union-attr]
    for n in range(6):
        times = np.linspace(0, 1, 20_001)
        alpha, sigma = (np.asarray(c) for c in path(jnp.asarray(times[1:], jnp.float32)))
        at = int(np.argmin(np.abs(sigma / alpha - t[n] / (1 - t[n]))))
        own = teacher.denoiser.denoise(  # type: ignore[union-attr]
            taught,
            x_t[n : n + 1] * alpha[at] / (1 - t[n]),
            jnp.asarray([times[1:][at]], jnp.float32),
            {"label": b["label"][n : n + 1]},
        )
        np.testing.assert_allclose(x_0[n], own[0], atol=2e-2)
    loss = lambda v: model.phases["flow"].objective(v, b, keys(6), step=jnp.int32(0))[0].total
    slopes = jax.grad(loss)(variables)
    assert all(not np.asarray(g).any() for g in jax.tree.leaves(slopes.frozen))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"model\.network\.schedule"):
        meanflow.Config(network={"schedule": "vp"})
    with pytest.raises(ConfigError, match=r"stages\.teacher"):
        meanflow.build(meanflow.Config(teacher="teacher"), SPEC)
    with pytest.raises(ConfigError, match=r"guidance=2\.0"):
        meanflow.build(meanflow.Config(guidance=2.0), Spec({"point": POINT}, rows=5))
