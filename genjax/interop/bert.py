"""BERT (Devlin et al. 2019): transformers' BertForMaskedLM and BertModel (sentence encoders among them)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.core import Tree, Variables
from genjax.interop.files import Tensors
from genjax.interop.tensors import Entry, Loaded, from_tree, known, layernorm, linear, ratio, require, to_tree

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
}


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
    c = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2, **config}
    known(c, THEIRS, where)
    prefix = "bert." if any(k.startswith("bert.") for k in tensors) else ""
    # Old files name norms gamma and beta.
    tensors = {
        k.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): v
        for k, v in tensors.items()
    }
    head, pooler = "cls.predictions.bias" in tensors, f"{prefix}pooler.dense.weight" in tensors
    tree = to_tree(entries(c, prefix, head, pooler), tensors, where)
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
        "dropout": float(c.get("hidden_dropout_prob", 0.1)),
        "vocabulary": c["vocab_size"],
    }
    return Loaded(fields, Variables(params={"model": tree}), dict(config))


def save(
    fields: Mapping[str, Any],
    params: Tree,
    config: Mapping[str, Any] | None = None,
    special: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], Tensors]:
    """(config.json, tensors) of our fields and parameters. Without token types theirs are zeros."""
    require(fields, FORM, "BERT")
    head, pooler = bool(fields.get("head", True)), bool(fields.get("pooler", False))
    if not fields.get("token_types"):
        params = {**params, "type_embedding": np.zeros((2, fields["width"]), np.float32)}
    names = {v: k for k, v in reversed(ACTIVATIONS.items())}
    c = {
        "architectures": ["BertForMaskedLM" if head else "BertModel"],
        "pad_token_id": (special or {}).get("pad", 0),
        **(config or {}),
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
    prefix = "" if "BertModel" in (c["architectures"] or ()) else "bert."
    return c, from_tree(entries(c, prefix, head, pooler), params)
