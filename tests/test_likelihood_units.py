"""Likelihood per token, from a config to scores.json, against a sum over log-softmax in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from genjax import settings
from genjax.core import Decoder
from genjax.workflows import assemble, evaluate, train

QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")
ROWS = 24


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> assemble.Trained:
    directory = tmp_path_factory.mktemp("tokens") / "run"
    resolved = settings.complete(settings.load("pydoc/gpt:smoke", (*QUIET, f"data.limit={ROWS}")))
    train.train(resolved, directory, devices=jax.devices()[:1])
    return assemble.restore(directory)


def logits_of(trained: assemble.Trained, tokens: np.ndarray) -> np.ndarray:
    """Compute the logits after each of the tokens (B, T) through the decoder's cache."""
    decoder = trained.experiment.model.decoder
    assert isinstance(decoder, Decoder)
    cache = decoder.start(trained.variables, {}, *tokens.shape)
    return np.asarray(decoder.step(trained.variables, cache, jnp.asarray(tokens))[0], np.float64)


def test_nats_per_token_are_the_mean_over_all_held_out_tokens(trained: assemble.Trained):
    split = trained.experiment.dataset.eval
    tokens = split.rows(np.arange(len(split)))["tokens"]
    log_probs = scipy.special.log_softmax(logits_of(trained, tokens[:, :-1]), axis=-1)
    nats = -np.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)
    scores = evaluate.evaluate(trained, None, overrides={"metrics": ("likelihood",)})
    found = {score.name: score for score in scores}
    assert list(found) == ["nats_per_token/exact"]
    assert found["nats_per_token/exact"].value == pytest.approx(nats.mean(), rel=1e-5)
