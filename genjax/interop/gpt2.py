"""GPT-2 (Radford et al. 2019): transformers' GPT2LMHeadModel and GPT2Model.

Ours has one row more in the embedding, for the start token without a condition; it begins as a copy of
<|endoftext|>, after which GPT-2 has learned to begin a text, and is not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from genjax.core import Tree, Variables
from genjax.errors import ConfigError
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
    narrowed,
    numbers,
    ratio,
    require,
    sizes,
    to_tree,
    without_copies,
)

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
    "pruned_heads": ({}, None),
    "tie_word_embeddings": (True, False),
    "quantization_config": (None,),
}
DEFAULTS = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.1,
    "bos_token_id": 50256,
    "tie_word_embeddings": True,
}
"""Of transformers' GPT2Config; other keys that are missing do not change what is read."""
IGNORED = (
    "attn_pdrop",
    "embd_pdrop",
    "initializer_range",
    "n_ctx",
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
)
"""The float32 logits do not depend on them; docs/guides/huggingface.md says why."""
ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
BUFFERS = r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"
HEADS = r"(score|classifier|qa_outputs|multiple_choice_head)\..*"


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
    c = complete(config, DEFAULTS, ALIASES)
    known(c, THEIRS, where)
    check_names(config, (*DEFAULTS, *THEIRS, *ALIASES), IGNORED, where)
    sizes(c, ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"), where)
    sizes(c, ("n_inner",) if c["n_inner"] is not None else (), where)
    numbers(c, ("layer_norm_epsilon", "resid_pdrop"), where)
    divisible(c, "n_embd", "n_head", where)
    tied = bool(c["tie_word_embeddings"])
    prefix = _prefix(tensors)
    tensors = without_copies(tensors, {"lm_head.weight": f"{prefix}wte.weight"} if tied else {}, where)
    wanted = entries(c, prefix, tied)
    tree = to_tree(wanted, tensors, where)
    check_leftovers(wanted, tensors, where, buffers=BUFFERS, heads=HEADS)
    table = tree["token_embedding"]
    start = _start(config, c["vocab_size"], where)
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
        "dropout": float(c["resid_pdrop"]),
        "condition_dropout": 0.0,
    }
    return Loaded(fields, Variables(params={"model": tree}), dict(config), dtypes(tensors))


def _start(config: Mapping[str, Any], vocabulary: int, where: str) -> int:
    """Return the token after which GPT-2 begins a text: the last one unless config.json names it."""
    start = config.get("bos_token_id")
    if start is None:
        return min(DEFAULTS["bos_token_id"], vocabulary - 1)
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < vocabulary:
        raise ConfigError(
            f"{where}: config.json has bos_token_id={start!r}, and the vocabulary has {vocabulary} tokens",
            "give the id of the token that begins a text, or null",
        )
    return start


def _prefix(names: Iterable[str]) -> str:
    return "transformer." if any(name.startswith("transformer.") for name in names) else ""


def save(
    fields: Mapping[str, Any],
    params: Tree,
    config: Mapping[str, Any] | None = None,
    special: Mapping[str, int] | None = None,
    like: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Tensors]:
    """Return (config.json, tensors) of our fields and parameters.

    Args:
      like: {name: type} of the tensors that were imported (`Loaded.dtypes`), to keep names and types.
    """
    require(fields, FORM, "GPT-2")
    table, places = np.asarray(params["token_embedding"]), np.asarray(params["position_embedding"])
    tied, names = bool(fields.get("tied", False)), {v: k for k, v in reversed(ACTIVATIONS.items())}
    special = special or {}
    c = {
        "bos_token_id": special.get("bos", special.get("eos")),
        "eos_token_id": special.get("eos"),
        **(config or {}),
        "architectures": architectures(config, ("GPT2LMHeadModel", "GPT2Model")),
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
    prefix = "" if "GPT2Model" in c["architectures"] else "transformer."
    prefix = _prefix(like) if like else prefix
    out = from_tree(entries(c, prefix, tied), {**params, "token_embedding": table[:-1]})
    return c, narrowed(out, like)
