"""A loss of one's own: a model outside the package that replaces a phase of a model inside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import settings
from genjax.core import row_keys
from genjax.workflows import assemble

QUIET = ("model.width=8", "data.batch=8")


def build(*overrides: str) -> assemble.Experiment:
    return assemble.assemble(settings.complete(settings.load("digits/vae:smoke", (*QUIET, *overrides))))


@pytest.fixture(scope="module")
def terms():
    """Loss, distortion and KL of one batch by step, for the annealed and the ordinary objective."""
    annealed = build("model.name=outside.annealed_vae", "model.rise=100", "model.beta=2.0")
    plain = build("model.beta=2.0")
    batch = annealed.dataset.train.rows(np.arange(8))
    batch = {**batch, "mask": np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)}
    keys = row_keys(jax.random.key(0), 0, jnp.arange(8))
    variables = jax.jit(plain.model.init)(jax.random.key(1), batch, {})

    def at(experiment: assemble.Experiment, step: int | None):
        objective = experiment.model.phases["vae"].objective
        loss, aux = objective(variables, batch, keys, step=None if step is None else jnp.int32(step))
        return loss, {name: float(mean.value) for name, mean in aux.metrics.items()}

    return at, annealed, plain


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (25, 0.5), (100, 2.0), (1000, 2.0), (None, 2.0)])
def test_the_weight_rises_with_the_step(terms, step: int | None, weight: float):
    at, annealed, _ = terms
    loss, metrics = at(annealed, step)
    assert float(loss.value) == pytest.approx(metrics["distortion"] + weight * metrics["kl"], rel=1e-5)
    assert metrics["kl_weight"] == pytest.approx(weight)


def test_the_loss_still_adds_over_rows_without_padding(terms):
    at, annealed, plain = terms
    loss, _ = at(annealed, None)
    expected, _ = at(plain, None)
    assert float(loss.count) == 6
    assert float(loss.total) == pytest.approx(float(expected.total), rel=1e-5)


def test_the_rest_of_the_model_is_that_of_the_vae(terms):
    _, annealed, plain = terms
    assert annealed.model.likelihood_kind == plain.model.likelihood_kind == "bound"
    assert annealed.model.codec is not None
    assert annealed.settings.model.latent == plain.settings.model.latent
