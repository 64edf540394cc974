"""Directories of other libraries: exact round trips, one clear error a fault, and runs from and to them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from genjax import cli, interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.data.tokenizers import Options, fit
from genjax.errors import ConfigError, DataError
from genjax.models import bert, gpt, t5
from genjax.workflows import assemble, convert, sample

V, T = 40, 12
SPECIAL = {"pad": 0, "eos": 1, "mask": 2, "sentinel_0": 38, "sentinel_1": 39}
SPEC = Spec({"tokens": Element((T + 1,), "int32", V, "tokens", "target")}, special=SPECIAL)
TINY = {"layers": 1, "heads": 2, "width": 8}
MODELS = {
    "gpt": (gpt, {**TINY, "bias": True, "tied": True}),
    "bert": (bert, {**TINY, "token_types": 2, "pooler": True}),
    "t5": (t5, {**TINY, "activation": "geglu", "tied": False, "scale_logits": False, "decoder_layers": 2}),
}


@functools.cache
def made(name: str):
    """(fields, model, variables with no leaf at a special value)."""
    module, fields = MODELS[name]
    model = module.build(build(module.Config, fields), SPEC, {})
    variables = jax.jit(lambda key: model.init(key, SPEC.example(1), {}))(jax.random.key(0))
    leaves, tree = jax.tree.flatten(variables.params)
    rng = np.random.default_rng(0)
    leaves = [np.asarray(x) + rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    return {"name": name, **fields}, model, variables.replace(params=tree.unflatten(leaves))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read_again_bit_for_bit(name: str, tmp_path: Path):
    fields, _, variables = made(name)
    interop.save(tmp_path, fields, variables, special=SPECIAL)
    loaded = interop.load(tmp_path)
    ours, theirs = variables.params["model"], loaded.variables.params["model"]
    if name == "gpt":  # the start token's row is ours alone
        ours, theirs = ({**tree, "token_embedding": tree["token_embedding"][:V]} for tree in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), ours, theirs)
    for key, value in fields.items():
        assert loaded.fields[key] == value, key


def change(directory: Path, name: str, x: np.ndarray | None) -> None:
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    del tensors[name]
    safetensors.numpy.save_file(
        {**tensors, **({} if x is None else {name: x})}, directory / "model.safetensors"
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    fields, _, variables = made("bert")
    return interop.save(tmp_path, fields, variables)


LEAF = "bert.encoder.layer.0.attention.output.dense.weight"


def test_a_missing_tensor_is_named(written: Path):
    change(written, LEAF, None)
    with pytest.raises(DataError, match=LEAF):
        interop.load(written)


def test_another_shape_is_named(written: Path):
    change(written, LEAF, np.zeros((8, 7), np.float32))
    with pytest.raises(DataError, match=r"\(8, 7\).*\(8, 8\)"):
        interop.load(written)


def test_an_unknown_architecture_is_named(written: Path):
    config = json.loads((written / "config.json").read_text())
    (written / "config.json").write_text(json.dumps({**config, "model_type": "bart"}))
    with pytest.raises(DataError, match=r"bart.*did you mean 'bert'"):
        interop.load(written)


def test_a_form_that_we_lack_is_named(written: Path):
    config = json.loads((written / "config.json").read_text())
    (written / "config.json").write_text(json.dumps({**config, "position_embedding_type": "relative_key"}))
    with pytest.raises(ConfigError, match="position_embedding_type"):
        interop.load(written)


def test_a_file_that_is_cut_short_is_named(written: Path):
    path = written / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        interop.load(written)


def test_pickles_are_refused_with_the_mend(written: Path):
    (written / "model.safetensors").rename(written / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin.*pickled(.|\n)*save_pretrained"):
        interop.load(written)


def test_no_directory_and_no_json(tmp_path: Path):
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        interop.load(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        interop.load(tmp_path)


def test_half_precision_and_shards_are_read(written: Path, tmp_path: Path):
    whole = safetensors.numpy.load_file(written / "model.safetensors")
    (written / "model.safetensors").unlink()
    names = sorted(whole)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        safetensors.numpy.save_file({n: whole[n].astype(ml_dtypes.bfloat16) for n in own}, written / file)
    index = {"weight_map": {n: file for file, own in parts.items() for n in own}}
    (written / "model.safetensors.index.json").write_text(json.dumps(index))
    got = interop.load(written).variables.params["model"]["stack"]["block_0"]["attention"]["out"]["kernel"]
    np.testing.assert_array_equal(got, whole[LEAF].astype(ml_dtypes.bfloat16).astype(np.float32).T)
    (written / "b.safetensors").unlink()
    with pytest.raises(DataError, match=r"b\.safetensors is missing"):
        interop.load(written)


def test_forms_that_they_lack_are_refused(tmp_path: Path):
    fields, _, variables = made("gpt")
    with pytest.raises(ConfigError, match="position='rope'"):
        interop.save(tmp_path, {**fields, "position": "rope"}, variables)
    with pytest.raises(DataError, match="vae"):
        interop.save(tmp_path, {**fields, "name": "vae"}, variables)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_a_directory_becomes_a_run_and_a_run_a_directory(name: str, tmp_path: Path):
    """Written by hand, imported, sampled from, exported: the same tensors."""
    tokenizer = fit("bpe", "some words of a text that is short", Options(vocabulary=280, sentinels=8))
    spec = Spec(
        {"tokens": Element((T + 1,), "int32", tokenizer.vocabulary, "tokens", "target")},
        special=tokenizer.special,
    )
    module, fields = MODELS[name]
    model = module.build(build(module.Config, fields), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(1))
    theirs = interop.save(tmp_path / "theirs", {"name": name, **fields}, variables, special=spec.special)
    (theirs / "tokenizer.json").write_text(json.dumps(tokenizer.data))
    where, data = tmp_path / "run", ("--data.limit=8", "--data.batch=4", f"--data.length={T}")
    assert cli.main(["import", str(theirs), "--dir", str(where), *data]) == 0
    trained = assemble.restore(where)
    assert trained.step == 0
    given = {"tokens": np.tile(tokenizer.encode("some words"), (2, 1))}
    rows = sample.draw(trained, 2, conditions=given)["tokens"]
    assert trained.experiment.dataset.tokenizer.decode(rows[0]).startswith("some words")
    back = tmp_path / "back"
    assert cli.main(["export", str(where), str(back)]) == 0
    x, y = (safetensors.numpy.load_file(d / "model.safetensors") for d in (theirs, back))
    assert {k: v.tobytes() for k, v in x.items()} == {k: v.tobytes() for k, v in y.items()}
    assert (back / "tokenizer.json").exists()
    with pytest.raises(ConfigError, match="holds a run"):
        convert.import_run(theirs, where)
