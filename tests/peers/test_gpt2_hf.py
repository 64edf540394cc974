"""GPT-2 against transformers' with the same random weights: logits, cache, greedy and beam outputs, files."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from hf import assert_same_files, close, randomise

from genjax import interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.models import gpt
from genjax.sampling.autoregressive import generate
from genjax.sampling.beam import beam_search

pytestmark = pytest.mark.peers

V, P = 61, 24
FORMS = {
    "two layers": {"n_embd": 32, "n_head": 4, "n_layer": 2},
    "wide mlp, erf gelu": {
        "n_embd": 24,
        "n_head": 3,
        "n_layer": 1,
        "n_inner": 60,
        "activation_function": "gelu",
    },
    "three layers, epsilon": {"n_embd": 16, "n_head": 2, "n_layer": 3, "layer_norm_epsilon": 1e-3},
}


@pytest.fixture(scope="module", params=FORMS)
def pair(request, tmp_path_factory):
    """(theirs, our model, our variables, the directory that both are from)."""
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=P, bos_token_id=V - 1, eos_token_id=V - 1, **FORMS[request.param]
    )
    theirs = randomise(transformers.GPT2LMHeadModel(config))
    directory = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(directory)
    return theirs, *ours(directory), directory


def ours(directory: Path):
    loaded = interop.load(directory)
    fields = {k: v for k, v in loaded.fields.items() if k != "name"}
    spec = Spec({"tokens": Element((P + 1,), "int32", V, "tokens", "target")})
    model = gpt.build(build(gpt.Config, fields), spec, {})
    like = jax.eval_shape(lambda k: model.init(k, spec.example(1), {}), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), like.params, loaded.variables.params)
    return model, loaded.variables


def rows(n: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V - 1, (n, length))


def test_logits_with_and_without_a_cache(pair):
    theirs, model, variables, _ = pair
    tokens = rows(3, P)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    step = jax.jit(model.decoder.step)
    whole, _ = step(variables, model.decoder.start(variables, {}, 3, P), jnp.asarray(tokens))
    close(whole, expected)
    cache = model.decoder.start(variables, {}, 3, P)
    for first, last in ((0, 5), (5, 6), (6, 7), (7, P)):
        logits, trail = step(variables, cache, jnp.asarray(tokens[:, first:last]))
        close(logits, expected[:, first:last])
        cache = model.decoder.commit(trail, jnp.full((3,), last - first))


def test_ragged_prompts_and_greedy_tokens(pair):
    """Theirs pads on the left with a mask, ours on the right with lengths: the same tokens come."""
    theirs, model, variables, _ = pair
    tokens, lengths = rows(4, 6, 1), np.array([6, 3, 1, 5])
    left, mask = np.zeros((4, 6), int), np.zeros((4, 6), int)
    for i, n in enumerate(lengths):
        left[i, 6 - n :], mask[i, 6 - n :] = tokens[i, :n], 1
    expected = theirs.generate(
        torch.tensor(left), attention_mask=torch.tensor(mask), max_new_tokens=10, do_sample=False,
        pad_token_id=1,
    ).numpy()[:, 6:]  # fmt: skip
    got = generate(
        model.decoder, variables, jax.random.split(jax.random.key(0), 4), jnp.asarray(tokens), length=10,
        lengths=jnp.asarray(lengths), temperature=0.0, stop=(V - 1,), pad=1,
    ).tokens  # fmt: skip
    np.testing.assert_array_equal(got[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("beams", [2, 4])
@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_beams_equal_theirs(pair, beams: int, penalty: float):
    theirs, model, variables, _ = pair
    tokens = rows(3, 4, 2)
    expected = theirs.generate(
        torch.tensor(tokens), num_beams=beams, num_return_sequences=beams, max_new_tokens=8, do_sample=False,
        length_penalty=penalty, early_stopping=False, pad_token_id=1,
    ).numpy()[:, 4:].reshape(3, beams, -1)  # fmt: skip
    got = beam_search(
        model.decoder, variables, jnp.asarray(tokens), beams=beams, length=8, length_penalty=penalty,
        stop=(V - 1,), pad=1,
    ).tokens  # fmt: skip
    np.testing.assert_array_equal(got[:, :, : expected.shape[2]], expected)


def test_files_round_trip_bit_for_bit_and_theirs_reads_ours(pair, tmp_path: Path):
    theirs, _, _, directory = pair
    loaded = interop.load(directory)
    interop.save(tmp_path, loaded.fields, loaded.variables, config=loaded.config)
    assert_same_files(directory, tmp_path)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    for name, x in theirs.state_dict().items():
        assert torch.equal(x, again.state_dict()[name]), name
    fresh = tmp_path / "fresh"
    interop.save(fresh, loaded.fields, loaded.variables)
    tokens = torch.tensor(rows(2, 9))
    with torch.no_grad():
        read = transformers.GPT2LMHeadModel.from_pretrained(fresh)(tokens).logits
        assert torch.equal(read, theirs(tokens).logits)


def test_the_start_token_is_the_end_of_text(pair):
    *_, variables, _ = pair
    table = variables.params["model"]["token_embedding"]
    assert table.shape[0] == V + 1
    np.testing.assert_array_equal(table[-1], table[V - 1])
