"""T5 1.0 and 1.1 against transformers' with the same random weights: logits, cache, greedy, beams, files."""

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
from genjax.models import t5
from genjax.sampling.autoregressive import generate
from genjax.sampling.beam import beam_search

pytestmark = pytest.mark.peers

V, S, T = 71, 19, 13
FORMS = {
    "1.0": {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2},
    "1.0, wide heads, few buckets": {
        "d_model": 24, "d_kv": 12, "num_heads": 4, "d_ff": 40, "num_layers": 1, "num_decoder_layers": 3,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
    },
    "1.1": {
        "d_model": 32, "d_kv": 8, "num_heads": 2, "d_ff": 48, "num_layers": 2,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=FORMS)
def pair(request, tmp_path_factory):
    """(theirs, our model, our variables, the directory that both are from)."""
    config = transformers.T5Config(
        vocab_size=V, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **FORMS[request.param]
    )
    theirs = transformers.T5ForConditionalGeneration(config)
    if request.param == "1.1":
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty(V, config.d_model))
    randomise(theirs)
    directory = tmp_path_factory.mktemp("t5")
    theirs.save_pretrained(directory)
    return theirs, *ours(directory), directory


def ours(directory: Path):
    loaded = interop.load(directory)
    fields = {k: v for k, v in loaded.fields.items() if k != "name"}
    text = {
        "source": Element((S,), "int32", V, "tokens", "condition"),
        "target": Element((T,), "int32", V, "tokens", "target"),
    }
    lengths = {
        "source_length": Element((), "int32", role="condition"),
        "target_length": Element((), "int32", role="target"),
    }
    spec = Spec({**text, **lengths}, special={"pad": 0, "eos": 1, "sentinel_0": V - 1}, paired=True)
    model = t5.build(build(t5.Config, fields), spec, {})
    like = jax.eval_shape(lambda k: model.init(k, spec.example(1), {}), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), like.params, loaded.variables.params)
    return model, loaded.variables


LENGTHS = np.array([S, 7, 1])


def whole(theirs) -> dict[str, bool]:
    """Their generate keeps as many caches as the encoder has layers, so a deeper decoder must do without."""
    return {"use_cache": theirs.config.num_layers == theirs.config.num_decoder_layers, "do_sample": False}


def sources() -> tuple[np.ndarray, np.ndarray]:
    """Ragged sources and their mask."""
    source = np.random.default_rng(0).integers(2, V, (3, S))
    mask = (np.arange(S)[None] < LENGTHS[:, None]).astype(int)
    return source * mask, mask


def prompt() -> dict[str, jax.Array]:
    return {"source": jnp.asarray(sources()[0]), "source_length": jnp.asarray(LENGTHS)}


def test_logits_with_and_without_a_cache(pair):
    theirs, model, variables, _ = pair
    source, mask = (torch.tensor(x) for x in sources())
    inputs = np.random.default_rng(1).integers(2, V, (3, T))
    with torch.no_grad():
        expected = theirs(
            input_ids=source, attention_mask=mask, decoder_input_ids=torch.tensor(inputs)
        ).logits.numpy()
    step = jax.jit(model.decoder.step)
    cache = model.decoder.start(variables, prompt(), 3, T)
    close(step(variables, cache, jnp.asarray(inputs))[0], expected)
    for first, last in ((0, 4), (4, 5), (5, 6), (6, T)):
        logits, trail = step(variables, cache, jnp.asarray(inputs[:, first:last]))
        close(logits, expected[:, first:last])
        cache = model.decoder.commit(trail, jnp.full((3,), last - first))


def test_loss_is_theirs(pair):
    """The objective's nats, padding of targets left out, without a cache."""
    theirs, model, variables, _ = pair
    target, lengths = np.random.default_rng(2).integers(2, V, (3, T)), np.array([T, 4, 1])
    real = np.arange(T)[None] < lengths[:, None]
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(sources()[0]),
            attention_mask=torch.tensor(sources()[1]),
            labels=torch.tensor(np.where(real, target, -100)),
        ).loss.item()
    batch = {**prompt(), "target": jnp.asarray(target * real), "target_length": jnp.asarray(lengths)}
    batch["mask"] = jnp.ones(3)
    keys = jax.random.split(jax.random.key(0), 3)
    loss, _ = model.phases["nll"].objective(variables, batch, keys, step=None)
    assert abs(float(loss.value) - expected) < 1e-4 * expected
    nats, _ = model.likelihood(variables, batch, keys)
    assert abs(float(nats.total.sum() / nats.count.sum()) - expected) < 1e-4 * expected


def test_greedy_tokens(pair):
    theirs, model, variables, _ = pair
    source, mask = (torch.tensor(x) for x in sources())
    expected = theirs.generate(source, attention_mask=mask, max_new_tokens=12, **whole(theirs)).numpy()[:, 1:]
    got = generate(
        model.decoder, variables, jax.random.split(jax.random.key(0), 3), jnp.zeros((3, 1), jnp.int32),
        length=12, prompt=prompt(), temperature=0.0, stop=(1,), pad=0,
    ).tokens  # fmt: skip
    np.testing.assert_array_equal(got[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.5])
def test_beams_equal_theirs(pair, beams: int, penalty: float):
    theirs, model, variables, _ = pair
    source, mask = (torch.tensor(x) for x in sources())
    expected = theirs.generate(
        source, attention_mask=mask, num_beams=beams, num_return_sequences=beams, max_new_tokens=9,
        **whole(theirs), length_penalty=penalty, early_stopping=False,
    ).numpy()[:, 1:].reshape(3, beams, -1)  # fmt: skip
    got = beam_search(
        model.decoder, variables, jnp.zeros((3, 1), jnp.int32), beams=beams, length=9, prompt=prompt(),
        length_penalty=penalty, stop=(1,), pad=0,
    ).tokens  # fmt: skip
    np.testing.assert_array_equal(got[:, :, : expected.shape[2]], expected)


def test_files_round_trip_bit_for_bit_and_theirs_reads_ours(pair, tmp_path: Path):
    theirs, _, _, directory = pair
    loaded = interop.load(directory)
    interop.save(tmp_path / "same", loaded.fields, loaded.variables, config=loaded.config)
    assert_same_files(directory, tmp_path / "same")
    interop.save(tmp_path / "fresh", loaded.fields, loaded.variables)
    assert_same_files(directory, tmp_path / "fresh")
    source, mask = (torch.tensor(x) for x in sources())
    how = {
        "input_ids": source,
        "attention_mask": mask,
        "decoder_input_ids": torch.ones((3, 4), dtype=torch.long),
    }
    for name in ("same", "fresh"):
        again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / name)
        for key, x in theirs.state_dict().items():
            assert torch.equal(x, again.state_dict()[key]), key
        with torch.no_grad():
            assert torch.equal(again(**how).logits, theirs(**how).logits)
