"""Rate, distortion and bits-back rate: parts of the bound, a planted collapse, and models without them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import compose
from genjax.config import build as made_config
from genjax.core import Model, Variables
from genjax.data import load
from genjax.evaluation import evaluate
from genjax.evaluation.config import Config
from genjax.models import gpt, vae, vqvae

DATA = load(name="digits", limit=64)
METRICS = ("likelihood", "rate_distortion")


def initial(model: Model, frozen: dict[str, Variables] | None = None) -> Variables:
    batch = {**DATA.spec.example(4), "mask": jnp.ones(4)}
    return jax.jit(lambda key: model.init(key, batch, frozen or {}))(jax.random.key(0))


def made(**fields) -> Model:
    config = {"network": "mlp", "hidden": (16,), "latent": 4, **fields}
    return vae.build(made_config(vae.Config, config, "model"), DATA.spec)


def scores(model: Model, variables: Variables) -> dict[str, float]:
    found, _ = evaluate(model, variables, DATA, None, Config(metrics=METRICS, batch=64))
    return {s.name: s.value for s in found}


def test_rate_and_distortion_add_up_to_the_bound():
    model = made()
    found = scores(model, initial(model))
    assert found["rate"] + found["distortion"] == pytest.approx(found["bits_back"], rel=1e-6)
    assert found["bits_back"] == pytest.approx(found["bits_per_dim/bound"], rel=1e-6)
    assert found["rate"] > 0


def test_a_collapsed_posterior_has_no_rate():
    model = made()
    variables = initial(model)
    player = dict(variables.params["vae"])
    posterior = jax.tree.map(jnp.zeros_like, player["encoder"]["posterior"])
    player["encoder"] = {**player["encoder"], "posterior": posterior}
    assert scores(model, variables.replace(params={"vae": player}))["rate"] == 0


def test_a_density_has_a_rate_and_no_bits_back():
    model = made(likelihood="normal")
    found = scores(model, initial(model))
    assert "rate" in found
    assert not found.keys() & {"distortion", "bits_back"}


def test_the_rate_of_integer_codes_is_what_the_prior_needs_for_them():
    codec = vqvae.build(vqvae.Config(codes=8, features=4, width=8, halvings=1, blocks=1), DATA.spec)
    prior = gpt.build(gpt.Config(layers=1, heads=2, width=16), codec.codec.spec(DATA.spec))
    model = compose.latent(prior, codec, DATA.spec)
    found = scores(model, initial(model, {"codec": initial(codec)}))
    assert found["bits_back"] == pytest.approx(found["bits_per_dim/bound"], rel=1e-5)
    # 16 codes of 8 under an untrained prior: about 3 bits each, for 64 pixels.
    assert found["rate"] == pytest.approx(16 * np.log2(8) / 64, rel=0.2)


def test_a_model_without_latent_variables_has_none():
    model = gpt.build(gpt.Config(layers=1, heads=2, width=16), DATA.spec)
    assert not scores(model, initial(model)).keys() & {"rate", "distortion", "bits_back"}
