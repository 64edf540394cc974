"""Import, then export: transformers reads the same outputs, types and names, for each class and type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import torch
import transformers
from hf_models import FAMILIES, difference, theirs

from genjax import interop

pytestmark = pytest.mark.peers

CLASSES = {
    "GPT2LMHeadModel": ("GPT2Config", {}),
    "GPT2LMHeadModel, untied": ("GPT2Config", {"tie_word_embeddings": False}),
    "GPT2Model": ("GPT2Config", {}),
    "BertForMaskedLM": ("BertConfig", {}),
    "BertModel": ("BertConfig", {}),
    "T5ForConditionalGeneration": ("T5Config", {}),
    "T5ForConditionalGeneration, 1.1": (
        "T5Config",
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "T5Model": ("T5Config", {}),
}
HEADS = {
    "GPT2DoubleHeadsModel": ("GPT2Config", "multiple_choice_head"),
    "GPT2ForSequenceClassification": ("GPT2Config", "score"),
    "GPT2ForTokenClassification": ("GPT2Config", "classifier"),
    "GPT2ForQuestionAnswering": ("GPT2Config", "qa_outputs"),
    "BertForPreTraining": ("BertConfig", "cls.seq_relationship"),
    "BertForNextSentencePrediction": ("BertConfig", "cls.seq_relationship"),
    "BertForSequenceClassification": ("BertConfig", "classifier"),
    "BertForTokenClassification": ("BertConfig", "classifier"),
    "BertForMultipleChoice": ("BertConfig", "classifier"),
    "BertForQuestionAnswering": ("BertConfig", "qa_outputs"),
    "T5ForQuestionAnswering": ("T5Config", "qa_outputs"),
}
DTYPES = ("float32", "float16", "bfloat16")


def types(directory: Path) -> dict[str, str]:
    """{tensor: type} of a directory."""
    with safetensors.safe_open(directory / "model.safetensors", "np") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def contents(directory: Path) -> dict:
    return json.loads((directory / "config.json").read_text())


def convert(directory: Path, out: Path) -> None:
    loaded = interop.load(directory)
    interop.save(out, loaded.fields, loaded.variables, config=loaded.config, like=loaded.dtypes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", CLASSES)
def test_a_class_comes_back_with_its_names_types_and_outputs(form: str, dtype: str, tmp_path: Path):
    config, fields = CLASSES[form]
    family = FAMILIES[config]
    name = form.split(",")[0]
    model = family.make(name, **fields)
    if "1.1" in form:
        model.lm_head.weight = torch.nn.Parameter(2 * model.shared.weight.detach())
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "back")
    assert types(tmp_path / "back") == types(tmp_path / "theirs")
    assert contents(tmp_path / "back")["dtype"] == dtype
    read = [
        getattr(transformers, name).from_pretrained(tmp_path / d, dtype="auto") for d in ("theirs", "back")
    ]
    assert read[1].dtype == getattr(torch, dtype)
    before, after = (theirs(family, x.float().eval()) for x in read)
    assert difference(after, before) == 0


@pytest.mark.parametrize("name", HEADS)
def test_a_class_with_another_head_comes_back_without_it(name: str, tmp_path: Path):
    config, head = HEADS[name]
    family = FAMILIES[config]
    family.make(name).save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "back")
    kept = {k: v for k, v in types(tmp_path / "theirs").items() if not k.startswith(head)}
    assert types(tmp_path / "back") == kept
    written = contents(tmp_path / "back")["architectures"][0]
    read = [getattr(transformers, written).from_pretrained(tmp_path / d).eval() for d in ("theirs", "back")]
    before, after = (theirs(family, model) for model in read)
    if not any("pooler" in k for k in kept):  # transformers then draws one
        before.pop("pooled", None)
        after.pop("pooled", None)
    assert difference(after, before) == 0
