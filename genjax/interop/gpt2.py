"""GPT-2 (Radford et al. 2019): transformers' GPT2LMHeadModel and GPT2Model.

Ours has one row more in the embedding, for the start token without a condition; it begins as a copy of
<|endoftext|>, after which GPT-2 has learned to begin a text, and is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.core import Tree, Variables
from genjax.interop.files import Tensors
from genjax.interop.tensors import Entry, Loaded, from_tree, known, layernorm, ratio, require, to_tree

NAME = "gpt"
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
FORM: dict[str, tuple[Any, ...]] = {
    "norm": ("layernorm",),
    "position": ("learned",),
    "bias": (True,),
    "kv_heads": (None,),
    "qk_norm": (False,),
    "logit_cap": (None,),
    "final_logit_cap": (None,),
    "windows": (None,),
    "mup_base": (None,),
    "activation": tuple(ACTIVATIONS.values()),
}
THEIRS: dict[str, tuple[Any, ...]] = {
    "activation_function": tuple(ACTIVATIONS),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def entries(c: Mapping[str, Any], prefix: str, tied: bool) -> list[Entry]:
    """Every tensor of config.json `c`. Its linear layers are (in, out), as ours."""
    W, inner = c["n_embd"], c.get("n_inner") or 4 * c["n_embd"]
    found = [
        Entry(f"{prefix}wte.weight", (c["vocab_size"], W), ("token_embedding",)),
        Entry(f"{prefix}wpe.weight", (c["n_positions"], W), ("position_embedding",)),
        *layernorm(f"{prefix}ln_f", "stack/norm", W),
    ]
    for i in range(c["n_layer"]):
        h, b = f"{prefix}h.{i}", f"stack/block_{i}"
        projections = tuple(f"{b}/attention/project/{n}" for n in ("query", "key", "value"))
        found += layernorm(f"{h}.ln_1", f"{b}/attention_norm", W)
        found += layernorm(f"{h}.ln_2", f"{b}/mlp_norm", W)
        for name, paths, inputs, outputs in (
            ("attn.c_attn", projections, W, 3 * W),
            ("attn.c_proj", (f"{b}/attention/out",), W, W),
            ("mlp.c_fc", (f"{b}/mlp/project/up",), W, inner),
            ("mlp.c_proj", (f"{b}/mlp/down",), inner, W),
        ):
            for part, leaf, shape in (("weight", "kernel", (inputs, outputs)), ("bias", "bias", (outputs,))):
                found.append(Entry(f"{h}.{name}.{part}", shape, tuple(f"{p}/{leaf}" for p in paths)))
    if not tied:
        found.append(Entry("lm_head.weight", (c["vocab_size"], W), ("head/kernel",), transpose=True))
    return found


def load(config: Mapping[str, Any], tensors: Tensors, where: str) -> Loaded:
    """See interop.load."""
    c = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_inner": None, **config}
    known(c, THEIRS, where)
    tied = bool(c.get("tie_word_embeddings", True))
    prefix = "transformer." if any(k.startswith("transformer.") for k in tensors) else ""
    tree = to_tree(entries(c, prefix, tied), tensors, where)
    table, start = tree["token_embedding"], c.get("bos_token_id")
    start = start if isinstance(start, int) and 0 <= start < len(table) else len(table) - 1
    tree["token_embedding"] = np.concatenate([table, table[start : start + 1]])
    fields = {
        "name": NAME,
        "layers": c["n_layer"],
        "heads": c["n_head"],
        "width": c["n_embd"],
        "mlp": ratio(c["n_inner"] or 4 * c["n_embd"], c["n_embd"]),
        "activation": ACTIVATIONS[c["activation_function"]],
        "norm": "layernorm",
        "norm_epsilon": c["layer_norm_epsilon"],
        "position": "learned",
        "bias": True,
        "tied": tied,
        "dropout": float(c.get("resid_pdrop", 0.1)),
        "condition_dropout": 0.0,
    }
    return Loaded(fields, Variables(params={"model": tree}), dict(config))


def save(
    fields: Mapping[str, Any],
    params: Tree,
    config: Mapping[str, Any] | None = None,
    special: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], Tensors]:
    """(config.json, tensors) of our fields and parameters."""
    require(fields, FORM, "GPT-2")
    table, places = np.asarray(params["token_embedding"]), np.asarray(params["position_embedding"])
    tied, names = bool(fields.get("tied", False)), {v: k for k, v in reversed(ACTIVATIONS.items())}
    special = special or {}
    c = {
        "architectures": ["GPT2LMHeadModel"],
        "bos_token_id": special.get("bos", special.get("eos")),
        "eos_token_id": special.get("eos"),
        **(config or {}),
        "model_type": "gpt2",
        "vocab_size": len(table) - 1,
        "n_positions": len(places),
        "n_embd": fields["width"],
        "n_layer": fields["layers"],
        "n_head": fields["heads"],
        "n_inner": round(fields.get("mlp", 4.0) * fields["width"]),
        "activation_function": names[fields.get("activation", "gelu_tanh")],
        "layer_norm_epsilon": fields.get("norm_epsilon", 1e-5),
        "tie_word_embeddings": tied,
    }
    prefix = "" if "GPT2Model" in (c["architectures"] or ()) else "transformer."
    return c, from_tree(entries(c, prefix, tied), {**params, "token_embedding": table[:-1]})
