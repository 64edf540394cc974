"""Distillation: targets of two steps and of neighbours, on a denoiser that is known and on small models."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.errors import ConfigError
from genjax.functional import distillation, schedules
from genjax.functional.schedules import Path
from genjax.models import diffusion
from genjax.models.distillation import Config, build

SPEC = Spec({"point": Element((2,), "float32", None, "point", "target")}, rows=50)
STUDENT = {"name": "diffusion", "network": "mlp", "width": 16, "blocks": 1, "schedule": "cosine"}
STUDENT |= {"prediction": "velocity", "timesteps": 50}


def denoise(path: Path, x: jax.Array, t: jax.Array) -> jax.Array:
    """E[x_0 | x_t] for x_0 ~ N(0.3, 0.25)."""
    alpha, sigma = (c[:, None] for c in path(t))
    return 0.3 + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x - alpha * 0.3)


@pytest.mark.parametrize("name", ["vp", "straight", "edm"])
def test_one_step_of_the_target_ends_where_two_of_the_teacher_do(name: schedules.Schedule):
    path = schedules.chain(name, 100)
    teacher = functools.partial(denoise, path)
    x = jax.random.normal(jax.random.key(0), (6, 3)) * path(jnp.full(6, 0.8))[1][:, None]
    t = jnp.array([0.8, 0.8, 0.6, 0.5, 0.5, 0.25])
    s = jnp.array([0.6, 0.4, 0.3, 0.25, 0.0, 0.0])
    target = distillation.halved(teacher, path, x, t, s)
    student = lambda x, t: target
    middle = 0.5 * (t + s)
    twice = distillation.ddim_step(teacher, path, x, t, middle)
    twice = distillation.ddim_step(teacher, path, twice, middle, s)
    np.testing.assert_allclose(distillation.ddim_step(student, path, x, t, s), twice, rtol=1e-3, atol=1e-4)


def test_the_distance_of_consistency_is_the_formula():
    a, b = jax.random.normal(jax.random.key(0), (2, 4, 5))
    c = 0.00054 * np.sqrt(5)
    want = np.sqrt(np.square(a - b).sum(1) + c**2) - c
    np.testing.assert_allclose(distillation.pseudo_huber(a, b), want, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda x: distillation.pseudo_huber(x, b).sum())(b)).all()


def made(**fields) -> tuple[Model, Variables, dict]:
    fields = {"student": STUDENT, **fields}
    config = Config(**fields)
    teacher = diffusion.build(diffusion.Config(**{k: v for k, v in STUDENT.items() if k != "name"}), SPEC)
    batch = {"point": jnp.ones((8, 2)), "mask": jnp.ones(8)}
    taught = teacher.init(jax.random.key(7), batch, {})
    stages = {} if config.teacher is None else {"teacher": teacher}
    model = build(config, SPEC, stages)
    frozen = {} if config.teacher is None else {"teacher": taught}
    return model, model.init(jax.random.key(0), batch, frozen), batch


def keys(n: int = 8) -> jax.Array:
    return row_keys(jax.random.key(1), 0, jnp.arange(n))


def test_a_student_like_its_teacher_starts_from_it():
    model, variables, batch = made(steps=40)
    same = jax.tree.map(np.array_equal, variables.params, variables.frozen["teacher"].params)
    assert all(jax.tree.leaves(same))
    # One short step differs little from two half steps.
    loss, _ = model.phases["distil"].objective(variables, batch, keys(), step=jnp.int32(0))
    shaken = jax.tree.map(lambda x: x + 0.3, variables.params)
    other, _ = model.phases["distil"].objective(
        variables.replace(params=shaken), batch, keys(), step=jnp.int32(0)
    )
    assert float(loss.value) < 0.02 * float(other.value)
    wider, variables, _ = made(student={**STUDENT, "width": 32})
    assert jax.tree.leaves(variables.params)[0].shape != jax.tree.leaves(variables.frozen)[0].shape
    assert wider.sample is not None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "consistency"},
        {"kind": "consistency", "teacher": None},
        {"kind": "reflow", "steps": 3},
    ],
    ids=str,
)
def test_only_the_student_learns(fields: dict):
    model, variables, batch = made(**fields)
    loss = lambda v: model.phases["distil"].objective(v, batch, keys(), step=jnp.int32(0))[0].total
    slopes = jax.grad(loss)(variables)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(slopes.params)) > 0
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(slopes.frozen))
    drawn = model.sample(variables, keys(4), {}, steps=2, sampler="consistency")  # type: ignore[misc]
    assert drawn["point"].shape == (4, 2)
    assert model.likelihood is None


def test_reflow_learns_the_pairs_of_the_teacher():
    """A student that knows where the teacher leads each noise has no error; another one has."""
    model, variables, batch = made(kind="reflow", steps=5)
    m = model.phases["distil"].objective.__self__  # type: ignore[attr-defined]
    point = jnp.asarray([[0.4, -0.2]])
    to_point = lambda x, t: jnp.broadcast_to(point, x.shape)
    off = lambda x, t: jnp.broadcast_to(point + 0.1, x.shape)
    epsilon = jax.random.normal(jax.random.key(3), (8, 2))
    same = m.of_pairs(variables, to_point, to_point, epsilon, keys())
    np.testing.assert_allclose(same, np.zeros(8), atol=1e-6)
    other = m.of_pairs(variables, off, to_point, epsilon, keys())
    assert float(other.min()) > 0.009
    loss, _ = model.phases["distil"].objective(variables, batch, keys(), step=jnp.int32(0))
    assert np.isfinite(float(loss.value))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="teacher=None"):
        Config(student=STUDENT, teacher=None)
    with pytest.raises(ValueError, match=r"guidance=2\.0"):
        Config(student=STUDENT, teacher=None, kind="consistency", guidance=2.0)
    with pytest.raises(ConfigError, match=r"stages\.teacher"):
        build(Config(student=STUDENT), SPEC, {})
    gan = {"name": "gan", "network": {"name": "mlp"}, "conditional": False}
    with pytest.raises(ConfigError, match="no diffusion"):
        build(Config(student=gan, teacher=None, kind="consistency"), SPEC, {})
    for changes, says in (
        ({"dropout": 0.1}, r"student\.dropout"),
        ({"self_condition": True}, r"student\.self_condition"),
        ({"schedule": "vp"}, "schedule differs"),
        ({"schedule": "learned", "weighting": "bound"}, "weighting"),
    ):
        with pytest.raises(ConfigError, match=says):
            made(student={**STUDENT, **changes})
    model, variables, batch = made(guidance=2.0)
    with pytest.raises(ConfigError, match=r"guidance=2\.0 without"):
        model.phases["distil"].objective(variables, batch, keys(), step=jnp.int32(0))
    with pytest.raises(ConfigError, match="more than its denoiser"):
        made(student={"name": "meanflow"}, teacher=None, kind="consistency")
