"""BERT (Devlin et al. 2019): transformers' BertForMaskedLM and BertModel (sentence encoders among them)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from genjax.core import Tree, Variables
from genjax.interop.fields import check_names
from genjax.interop.files import Tensors
from genjax.interop.tensors import (
    Entry,
    Loaded,
    architectures,
    check_leftovers,
    complete,
    divisible,
    dtypes,
    from_tree,
    known,
    layernorm,
    linear,
    narrowed,
    numbers,
    ratio,
    require,
    sizes,
    to_tree,
    without_copies,
)

NAME = "bert"
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
FORM: dict[str, tuple[Any, ...]] = {
    "norm": ("layernorm",),
    "position": ("learned",),
    "bias": (True,),
    "prenorm": (False,),
    "activation": tuple(ACTIVATIONS.values()),
}
THEIRS: dict[str, tuple[Any, ...]] = {
    "hidden_act": tuple(ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
SIZES = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
DEFAULTS = {**SIZES, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1}
"""Of transformers' BertConfig; other keys that are missing do not change what is read."""
IGNORED = (
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "directionality",
    "initializer_range",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
)
"""The float32 outputs do not depend on them; docs/guides/huggingface.md says why."""
BUFFERS = r"(bert\.)?embeddings\.(position_ids|token_type_ids)"
HEADS = r"(cls\.seq_relationship|classifier|qa_outputs)\..*"


def entries(c: Mapping[str, Any], prefix: str, head: bool, pooler: bool) -> list[Entry]:
    """Every tensor of config.json `c`."""
    W, inner, V = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    e = f"{prefix}embeddings"
    found = [
        Entry(f"{e}.word_embeddings.weight", (V, W), ("token_embedding",)),
        Entry(f"{e}.position_embeddings.weight", (c["max_position_embeddings"], W), ("position_embedding",)),
        Entry(f"{e}.token_type_embeddings.weight", (c["type_vocab_size"], W), ("type_embedding",)),
        *layernorm(f"{e}.LayerNorm", "embedding_norm", W),
    ]
    for i in range(c["num_hidden_layers"]):
        h, b = f"{prefix}encoder.layer.{i}", f"stack/block_{i}"
        for name in ("query", "key", "value"):
            found += linear(f"{h}.attention.self.{name}", f"{b}/attention/project/{name}", W, W, True)
        found += linear(f"{h}.attention.output.dense", f"{b}/attention/out", W, W, True)
        found += layernorm(f"{h}.attention.output.LayerNorm", f"{b}/attention_norm", W)
        found += linear(f"{h}.intermediate.dense", f"{b}/mlp/project/up", W, inner, True)
        found += linear(f"{h}.output.dense", f"{b}/mlp/down", inner, W, True)
        found += layernorm(f"{h}.output.LayerNorm", f"{b}/mlp_norm", W)
    if pooler:
        found += linear(f"{prefix}pooler.dense", "pooler", W, W, True)
    if head:
        found += linear("cls.predictions.transform.dense", "transform", W, W, True)
        found += layernorm("cls.predictions.transform.LayerNorm", "transform_norm", W)
        found.append(Entry("cls.predictions.bias", (V,), ("output_bias",)))
    return found


def load(config: Mapping[str, Any], tensors: Tensors, where: str) -> Loaded:
    """See interop.load."""
    c = complete(config, DEFAULTS, {})
    known(c, THEIRS, where)
    check_names(config, (*DEFAULTS, *THEIRS), IGNORED, where)
    sizes(c, tuple(SIZES), where)
    numbers(c, ("layer_norm_eps", "hidden_dropout_prob"), where)
    divisible(c, "hidden_size", "num_attention_heads", where)
    prefix = _prefix(tensors)
    # Old files name norms gamma and beta.
    tensors = {
        k.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): v
        for k, v in tensors.items()
    }
    copies = {
        "cls.predictions.decoder.weight": f"{prefix}embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    tensors = without_copies(tensors, copies, where)
    head, pooler = "cls.predictions.bias" in tensors, f"{prefix}pooler.dense.weight" in tensors
    wanted = entries(c, prefix, head, pooler)
    tree = to_tree(wanted, tensors, where)
    check_leftovers(wanted, tensors, where, buffers=BUFFERS, heads=HEADS)
    fields = {
        "name": NAME,
        "layers": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "width": c["hidden_size"],
        "mlp": ratio(c["intermediate_size"], c["hidden_size"]),
        "activation": ACTIVATIONS[c["hidden_act"]],
        "epsilon": c["layer_norm_eps"],
        "positions": c["max_position_embeddings"],
        "token_types": c["type_vocab_size"],
        "head": head,
        "pooler": pooler,
        "dropout": float(c["hidden_dropout_prob"]),
        "vocabulary": c["vocab_size"],
    }
    return Loaded(fields, Variables(params={"model": tree}), dict(config), dtypes(tensors))


def _prefix(names: Iterable[str]) -> str:
    return "bert." if any(name.startswith("bert.") for name in names) else ""


def save(
    fields: Mapping[str, Any],
    params: Tree,
    config: Mapping[str, Any] | None = None,
    special: Mapping[str, int] | None = None,
    like: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Tensors]:
    """Return (config.json, tensors) of our fields and parameters. Without token types theirs are zeros.

    Args:
      like: {name: type} of the tensors that were imported (`Loaded.dtypes`), to keep names and types.
    """
    require(fields, FORM, "BERT")
    head, pooler = bool(fields.get("head", True)), bool(fields.get("pooler", False))
    if not fields.get("token_types"):
        params = {**params, "type_embedding": np.zeros((2, fields["width"]), np.float32)}
    names = {v: k for k, v in reversed(ACTIVATIONS.items())}
    c = {
        "pad_token_id": (special or {}).get("pad", 0),
        **(config or {}),
        "architectures": architectures(config, ("BertForMaskedLM" if head else "BertModel",)),
        "model_type": "bert",
        "vocab_size": len(params["token_embedding"]),
        "max_position_embeddings": len(params["position_embedding"]),
        "type_vocab_size": len(params["type_embedding"]),
        "hidden_size": fields["width"],
        "num_hidden_layers": fields["layers"],
        "num_attention_heads": fields["heads"],
        "intermediate_size": round(fields.get("mlp", 4.0) * fields["width"]),
        "hidden_act": names[fields.get("activation", "gelu")],
        "layer_norm_eps": fields.get("epsilon", 1e-12),
    }
    prefix = "bert." if head else ""
    prefix = _prefix(like) if like else prefix
    return c, narrowed(from_tree(entries(c, prefix, head, pooler), params), like)
