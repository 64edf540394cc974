"""Imports keep what the files say, or refuse it by name: leftovers, sizes, types, tied tensors, sentinels."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from test_interop import MODELS, SPECIAL, T, made

from genjax import interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.data.tokenizers import Options, fit
from genjax.errors import ConfigError, DataError, GenjaxError
from genjax.workflows import assemble, convert, sample

GPT_WEIGHT = "transformer.h.0.attn.c_proj.weight"


def write(directory: Path, name: str) -> Path:
    fields, _, variables = made(name)
    return interop.save(directory, fields, variables, special=SPECIAL)


def tensors(directory: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(directory / "model.safetensors")


def assert_same_tensors(a: Path, b: Path) -> None:
    found, expected = tensors(a), tensors(b)
    assert {k: (x.dtype, x.tobytes()) for k, x in found.items()} == {
        k: (x.dtype, x.tobytes()) for k, x in expected.items()
    }


def rewrite(directory: Path, changed: dict[str, np.ndarray], config: dict[str, Any] | None = None) -> Path:
    """Write these tensors, and a config.json with these keys; None removes a key."""
    safetensors.numpy.save_file(changed, directory / "model.safetensors")
    old = json.loads((directory / "config.json").read_text())
    new = {**old, **(config or {})}
    (directory / "config.json").write_text(json.dumps(new))
    return directory


# --- tensors without a place ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_tensor_without_a_place_is_refused_by_name(name: str, tmp_path: Path):
    found = tensors(write(tmp_path, name))
    rewrite(tmp_path, {**found, "adapter.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(DataError, match=r"1 tensors have no place in the model: adapter\.weight"):
        interop.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "head"),
    [("gpt", "score.weight"), ("bert", "classifier.bias"), ("bert", "cls.seq_relationship.weight")],
)
def test_a_head_of_another_task_is_named_in_a_warning(name: str, head: str, tmp_path: Path, caplog):
    found = tensors(write(tmp_path, name))
    rewrite(tmp_path, {**found, head: np.zeros((2, 8), np.float32)})
    with caplog.at_level(logging.WARNING, "genjax"):
        interop.load(tmp_path)
    assert head in caplog.text


@pytest.mark.parametrize(
    ("name", "buffer"), [("gpt", "transformer.h.0.attn.bias"), ("bert", "bert.embeddings.position_ids")]
)
def test_constants_are_passed_over(name: str, buffer: str, tmp_path: Path, caplog):
    found = tensors(write(tmp_path, name))
    rewrite(tmp_path, {**found, buffer: np.zeros((1, 12), np.int64)})
    with caplog.at_level(logging.WARNING, "genjax"):
        interop.load(tmp_path)
    assert not caplog.text


@pytest.mark.parametrize(
    ("name", "copy", "source"),
    [
        ("gpt", "lm_head.weight", "transformer.wte.weight"),
        ("bert", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("t5", "encoder.embed_tokens.weight", "shared.weight"),
    ],
)
def test_a_tied_tensor_may_be_repeated_but_not_differ(name: str, copy: str, source: str, tmp_path: Path):
    found = tensors(write(tmp_path, name))
    rewrite(tmp_path, {**found, copy: found[source].copy()})
    interop.load(tmp_path)
    rewrite(tmp_path, {**found, copy: found[source] + 1})
    with pytest.raises(DataError, match=f"{copy}' differs from '{source}"):
        interop.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", MODELS)
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float, tmp_path: Path):
    found = tensors(write(tmp_path, name))
    first = sorted(found)[0]
    found[first].flat[0] = value
    rewrite(tmp_path, found)
    with pytest.raises(DataError, match=f"{first}' holds NaN or infinite"):
        interop.load(tmp_path)


def test_eight_bit_floats_are_refused_by_name(tmp_path: Path):
    found = tensors(write(tmp_path, "gpt"))
    found[GPT_WEIGHT] = found[GPT_WEIGHT].astype(ml_dtypes.float8_e4m3fn)
    rewrite(tmp_path, found)
    with pytest.raises(DataError, match=rf"{GPT_WEIGHT}.* has the type F8_E4M3"):
        interop.load(tmp_path)


# --- config.json ---------------------------------------------------------------------------------

SIZES = {
    "gpt": ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"),
    "bert": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    "t5": ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
}
WRONG = (0, -1, None, "8", 2.5, True, [8])


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(("name", "key"), [(n, k) for n, keys in SIZES.items() for k in keys])
def test_a_size_that_is_no_positive_integer_is_refused_by_name(name: str, key: str, value, tmp_path: Path):
    rewrite(tmp_path, tensors(write(tmp_path, name)), {key: value})
    with pytest.raises(ConfigError, match=f"config.json has {key}="):
        interop.load(tmp_path)


@pytest.mark.parametrize(("name", "key"), [(n, k) for n, keys in SIZES.items() for k in keys])
def test_a_missing_key_has_transformers_default(name: str, key: str, tmp_path: Path):
    """The default is another size than this file's, so that the weights do not fit it."""
    write(tmp_path, name)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))
    # Heads divide the tensors of GPT-2 and BERT without changing their shapes.
    with pytest.raises(GenjaxError, match=r"config.json asks for|no tensor|not a multiple|no place"):
        interop.load(tmp_path)


def test_transformers_names_of_sizes_are_read(tmp_path: Path):
    write(tmp_path, "gpt")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for old, new in {"n_embd": "hidden_size", "n_layer": "num_hidden_layers"}.items():
        config[new] = config.pop(old)
    path.write_text(json.dumps(config))
    assert interop.load(tmp_path).fields["width"] == 8


@pytest.mark.parametrize("change", [{"dense_act_fn": "relu"}, {"is_gated_act": False}])
def test_an_activation_that_contradicts_itself_is_refused(change: dict[str, Any], tmp_path: Path):
    rewrite(tmp_path, tensors(write(tmp_path, "t5")), change)
    with pytest.raises(ConfigError, match=next(iter(change))):
        interop.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpt", {"bos_token_id": 1000}),
        ("gpt", {"bos_token_id": True}),
        ("gpt", {"tie_word_embeddings": "no"}),
        ("t5", {"is_encoder_decoder": False}),
        ("t5", {"decoder_start_token_id": 7}),
        ("t5", {"scale_decoder_outputs": None}),
        ("t5", {"architectures": ["T5EncoderModel"]}),
    ],
)
def test_a_field_that_changes_the_function_is_refused(name: str, change: dict[str, Any], tmp_path: Path):
    rewrite(tmp_path, tensors(write(tmp_path, name)), change)
    with pytest.raises(ConfigError, match=f"config.json has {next(iter(change))}="):
        interop.load(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_only_fields_that_are_not_known_are_named(name: str, tmp_path: Path, caplog):
    rewrite(tmp_path, tensors(write(tmp_path, name)), {"use_cache": False, "novelty": 1})
    with caplog.at_level(logging.WARNING, "genjax"):
        interop.load(tmp_path)
    assert caplog.text.rstrip().endswith("fields that genjax does not know: novelty")


@pytest.mark.parametrize("name", MODELS)
def test_quantised_models_are_refused(name: str, tmp_path: Path):
    rewrite(tmp_path, tensors(write(tmp_path, name)), {"quantization_config": {"bits": 4}})
    with pytest.raises(ConfigError, match="quantization_config"):
        interop.load(tmp_path)


# --- what an export keeps ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("name", MODELS)
def test_an_export_has_the_types_of_the_import(name: str, dtype, tmp_path: Path):
    found = tensors(write(tmp_path / "theirs", name))
    theirs = rewrite(tmp_path / "theirs", {k: x.astype(dtype) for k, x in found.items()})
    loaded = interop.load(theirs)
    interop.save(tmp_path / "back", loaded.fields, loaded.variables, config=loaded.config, like=loaded.dtypes)
    assert_same_tensors(tmp_path / "back", theirs)


@pytest.mark.parametrize(("name", "prefix"), [("gpt", "transformer."), ("bert", "bert.")])
def test_an_export_has_the_prefix_of_the_import(name: str, prefix: str, tmp_path: Path):
    found = tensors(write(tmp_path / "theirs", name))
    bare = {k.removeprefix(prefix): x for k, x in found.items()}
    theirs = rewrite(tmp_path / "theirs", bare)
    loaded = interop.load(theirs)
    interop.save(tmp_path / "back", loaded.fields, loaded.variables, config=loaded.config, like=loaded.dtypes)
    assert set(tensors(tmp_path / "back")) == set(bare)


def test_values_that_have_become_too_large_for_float16_are_refused(tmp_path: Path):
    found = tensors(write(tmp_path / "theirs", "gpt"))
    theirs = rewrite(tmp_path / "theirs", {k: x.astype(np.float16) for k, x in found.items()})
    loaded = interop.load(theirs)
    grown = loaded.variables.replace(params=jax.tree.map(lambda x: x * 1e6, loaded.variables.params))
    with pytest.raises(DataError, match="too large for float16"):
        interop.save(tmp_path / "back", loaded.fields, grown, config=loaded.config, like=loaded.dtypes)


# --- tokenizers ----------------------------------------------------------------------------------


def directory_of(name: str, where: Path, sentinels: int, padded: int = 0) -> Path:
    """Write a model and its tokenizer; the embedding has `padded` rows more than the tokenizer."""
    tokenizer = fit("bpe", "some words of a text that is short", Options(vocabulary=280, sentinels=sentinels))
    rows = tokenizer.vocabulary + padded
    spec = Spec({"tokens": Element((T + 1,), "int32", rows, "tokens", "target")}, special=tokenizer.special)
    module, fields = MODELS[name]
    fields = {**fields, "vocabulary": rows} if name == "t5" else fields
    model = module.build(build(module.Config, fields), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(1))
    interop.save(where, {"name": name, **fields}, variables, special=tokenizer.special)
    (where / "tokenizer.json").write_text(json.dumps(tokenizer.data))
    return where


def test_a_t5_with_one_sentinel_samples_and_is_not_trained(tmp_path: Path):
    theirs = directory_of("t5", tmp_path / "theirs", sentinels=1)
    run = convert.import_run(theirs, tmp_path / "run", data={"limit": 8, "batch": 4, "length": T})
    trained = assemble.restore(run)
    given = {"tokens": np.tile(trained.experiment.dataset.tokenizer.encode("some words"), (2, 1))}
    assert len(sample.draw(trained, 2, conditions=given)["tokens"]) == 2
    model = trained.experiment.model
    batch = {"tokens": np.zeros((1, 200), np.int32), "mask": np.ones(1)}
    with pytest.raises(ConfigError, match="1 sentinels"):
        model.likelihood(trained.variables, batch, jax.random.split(jax.random.key(0), 1))


def test_a_padded_vocabulary_is_explained(tmp_path: Path):
    theirs = directory_of("gpt", tmp_path / "theirs", sentinels=0, padded=24)
    with pytest.raises(ConfigError, match=r"embedding has \d+ rows, and tokenizer.json has \d+") as error:
        convert.import_run(theirs, tmp_path / "run", data={"limit": 8, "batch": 4, "length": T})
    assert "last 24 rows are padding" in str(error.value.hint)


def test_an_imported_run_exports_its_types(tmp_path: Path):
    theirs = directory_of("gpt", tmp_path / "theirs", sentinels=0)
    rewrite(theirs, {k: x.astype(np.float16) for k, x in tensors(theirs).items()}, {"task": "kept"})
    run = convert.import_run(theirs, tmp_path / "run", data={"limit": 8, "batch": 4, "length": T})
    back = convert.export_run(run, tmp_path / "back")
    assert_same_tensors(back, theirs)
    assert json.loads((back / "config.json").read_text())["task"] == "kept"
