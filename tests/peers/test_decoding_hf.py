"""Policies and beams against transformers': logits narrowed alike, the same hypotheses and scores."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from hf import randomise
from transformers.generation import logits_process as processors

from genjax import interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.models import gpt
from genjax.sampling.beam import beam_search
from genjax.sampling.logits import Seen, Truncation

pytestmark = pytest.mark.peers

V, PAD = 7, 0


@pytest.mark.parametrize(
    ("knobs", "theirs"),
    [
        ({"top_k": 7}, [processors.TopKLogitsWarper(7)]),
        ({"top_p": 0.83}, [processors.TopPLogitsWarper(0.83)]),
        ({"min_p": 0.07}, [processors.MinPLogitsWarper(0.07)]),
        ({"typical_p": 0.6}, [processors.TypicalLogitsWarper(0.6)]),
        ({"repetition_penalty": 1.4}, [processors.RepetitionPenaltyLogitsProcessor(1.4)]),
        (
            {"repetition_penalty": 0.7, "temperature": 0.6, "top_k": 20, "top_p": 0.9}
            | {"min_p": 0.02, "typical_p": 0.8},
            [
                processors.RepetitionPenaltyLogitsProcessor(0.7),
                processors.TemperatureLogitsWarper(0.6),
                processors.TopKLogitsWarper(20),
                processors.TopPLogitsWarper(0.9),
                processors.MinPLogitsWarper(0.02),
                processors.TypicalLogitsWarper(0.8),
            ],
        ),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)  # fmt: skip
def test_a_distribution_is_narrowed_as_theirs(knobs: dict, theirs: list):
    rng = np.random.default_rng(0)
    logits = (2 * rng.normal(size=(64, 50))).astype(np.float32)
    tokens = rng.integers(0, 50, (64, 9))
    seen = Seen.none(64, 50).read(jnp.asarray(tokens[:, :5]), jnp.full((64,), 5))
    for t in range(5, 9):
        seen = seen.draw(jnp.asarray(tokens[:, t]), jnp.ones((64,), jnp.int32))
    ours = np.asarray(Truncation(**knobs)(jnp.asarray(logits), seen))
    expected = torch.tensor(logits)
    for process in theirs:
        expected = process(torch.tensor(tokens), expected)
    expected = torch.log_softmax(expected, dim=-1).numpy()
    assert np.array_equal(np.isfinite(ours), np.isfinite(expected))
    finite = np.isfinite(expected)
    assert 0 < finite.sum() < finite.size or "repetition_penalty" in knobs
    np.testing.assert_allclose(ours[finite], expected[finite], atol=1e-5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(theirs, our decoder and variables): a small vocabulary, so that hypotheses end at every step."""
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=32, bos_token_id=V - 1, eos_token_id=3, n_embd=16, n_head=2, n_layer=1
    )
    theirs = randomise(transformers.GPT2LMHeadModel(config), scale=0.5)
    directory = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(directory)
    loaded = interop.load(directory)
    fields = {k: v for k, v in loaded.fields.items() if k != "name"}
    spec = Spec({"tokens": Element((33,), "int32", V, "tokens", "target")})
    model = gpt.build(build(gpt.Config, fields, "model"), spec, {})
    assert model.decoder is not None
    return theirs, model.decoder, loaded.variables


@pytest.mark.parametrize(
    ("beams", "penalty", "least", "stop"),
    [(2, 1.0, 0, (3,)), (3, 0.0, 0, (1,)), (4, 2.0, 0, (3, 5)), (3, 1.0, 4, (3, 5))],
)
def test_beams_that_end_early_equal_theirs(pair, beams: int, penalty: float, least: int, stop: tuple):
    theirs, decoder, variables = pair
    tokens = np.random.default_rng(1).integers(0, V, (24, 3))
    expected = theirs.generate(
        torch.tensor(tokens),
        attention_mask=torch.ones(24, 3, dtype=torch.long),
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=12,
        min_new_tokens=least or None,
        do_sample=False,
        length_penalty=penalty,
        early_stopping=False,
        pad_token_id=PAD,
        eos_token_id=list(stop),
        return_dict_in_generate=True,
        output_scores=True,
    )
    got = beam_search(
        decoder,
        variables,
        jnp.asarray(tokens),
        beams=beams,
        length=12,
        length_penalty=penalty,
        stop=stop,
        pad=PAD,
        min_length=least,
    )
    sequences = expected.sequences.numpy()[:, 3:].reshape(24, beams, -1)
    size = sequences.shape[2]
    # transformers fills with the stop token where pad is 0: compare up to each hypothesis' end.
    ours = np.asarray(got.tokens)
    for i in range(24):
        for k in range(beams):
            n = int(got.lengths[i, k])
            assert n <= size
            assert ours[i, k, :n].tolist() == sequences[i, k, :n].tolist(), (i, k)
            assert set(stop) & set(sequences[i, k, :n].tolist()) or n == 12
    np.testing.assert_allclose(
        got.scores, expected.sequences_scores.numpy().reshape(24, beams), rtol=1e-4, atol=1e-5
    )
    lengths = np.asarray(got.lengths)
    assert len(np.unique(lengths)) >= 3
    assert lengths.min() > least


@pytest.mark.parametrize(("penalty", "stop"), [(1.3, (3,)), (0.8, (3, 5)), (2.5, (1,))])
def test_a_repetition_penalty_changes_beams_as_theirs(pair, penalty: float, stop: tuple):
    theirs, decoder, variables = pair
    tokens = np.random.default_rng(2).integers(0, V, (12, 3))
    expected = theirs.generate(
        torch.tensor(tokens),
        attention_mask=torch.ones(12, 3, dtype=torch.long),
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=10,
        do_sample=False,
        repetition_penalty=penalty,
        early_stopping=False,
        pad_token_id=PAD,
        eos_token_id=list(stop),
        return_dict_in_generate=True,
        output_scores=True,
    )
    how = {"beams": 3, "length": 10, "stop": stop, "pad": PAD}
    got = beam_search(decoder, variables, jnp.asarray(tokens), repetition_penalty=penalty, **how)
    plain = beam_search(decoder, variables, jnp.asarray(tokens), **how)
    sequences = expected.sequences.numpy()[:, 3:].reshape(12, 3, -1)
    changed = 0
    for i in range(12):
        for k in range(3):
            n = int(got.lengths[i, k])
            assert np.asarray(got.tokens)[i, k, :n].tolist() == sequences[i, k, :n].tolist(), (i, k)
        changed += not np.array_equal(got.tokens[i], plain.tokens[i])
    assert changed >= 3
    np.testing.assert_allclose(
        got.scores, expected.sequences_scores.numpy().reshape(12, 3), rtol=1e-4, atol=1e-5
    )
