"""T5 (Raffel et al. 2020) 1.0 and 1.1: transformers' T5ForConditionalGeneration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genjax.core import Tree, Variables
from genjax.interop.fields import check_classes, check_names
from genjax.interop.files import Tensors
from genjax.interop.tensors import (
    Entry,
    Loaded,
    architectures,
    check_leftovers,
    complete,
    dtypes,
    from_tree,
    known,
    linear,
    narrowed,
    numbers,
    ratio,
    require,
    sizes,
    to_tree,
    without_copies,
)

NAME = "t5"
ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu", "gated-silu": "swiglu", "gelu_new": "gelu_tanh"}
THEIR_ACTIVATIONS = {"relu": "relu", "gated-gelu": "gelu_new", "gated-silu": "silu", "gelu_new": "gelu_new"}
"""The dense_act_fn that belongs to each feed_forward_proj."""
SIZES = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
}
DEFAULTS = {**SIZES, "feed_forward_proj": "relu", "layer_norm_epsilon": 1e-6, "dropout_rate": 0.1}
"""Of transformers' T5Config; other keys that are missing do not change what is read."""
IGNORED = ("classifier_dropout", "initializer_factor", "is_decoder", "n_positions")
"""The float32 logits do not depend on them; docs/guides/huggingface.md says why."""
THEIRS: dict[str, tuple[Any, ...]] = {
    "feed_forward_proj": tuple(ACTIVATIONS),
    "scale_decoder_outputs": (True, False),
    "tie_word_embeddings": (True, False),
    "tie_encoder_decoder": (False,),
    "is_encoder_decoder": (True,),
    "quantization_config": (None,),
}
IMPLIED = ("num_decoder_layers", "dense_act_fn", "is_gated_act", "decoder_start_token_id")
"""Their defaults follow from other fields."""
_ENCODER = "it has no decoder"
_PREFIX = "the names of its tensors begin with transformer."
REFUSED = {
    "T5EncoderModel": _ENCODER,
    "T5ForTokenClassification": _ENCODER,
    "T5ForSequenceClassification": _PREFIX,
}
ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
# Files of 1.0 hold a table of the cross attention that transformers passes over as well.
BUFFERS = r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
HEADS = r"(classification_head|classifier|qa_outputs)\..*"
FORM: dict[str, tuple[Any, ...]] = {
    "norm": ("rmsnorm",),
    "position": ("relative",),
    "bias": (False,),
    "prenorm": (True,),
    "scaled_attention": (False,),
    "scale_embedding": (False,),
    "activation": tuple(ACTIVATIONS.values()),
}


def entries(c: Mapping[str, Any], tied: bool) -> list[Entry]:
    """Every tensor of config.json `c`."""
    W, V, heads = c["d_model"], c["vocab_size"], c["num_heads"]
    inner = heads * c["d_kv"]
    found = [Entry("shared.weight", (V, W), ("token_embedding",))]
    if not tied:
        found.append(Entry("lm_head.weight", (V, W), ("output_embedding",)))
    gated = c["feed_forward_proj"].startswith("gated")

    def attention(name: str, b: str, cross: bool) -> list[Entry]:
        out = []
        for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
            own = "memory" if cross and letter != "q" else "project"
            out += linear(f"{name}.{letter}", f"{b}/{own}/{word}", W, inner, False)
        return out + linear(f"{name}.o", f"{b}/out", inner, W, False)

    def scale(name: str, path: str) -> Entry:
        return Entry(f"{name}.weight", (W,), (f"{path}/scale",))

    for side, layers in (("encoder", c["num_layers"]), ("decoder", c["num_decoder_layers"])):
        cross = side == "decoder"
        table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        shape = (c["relative_attention_num_buckets"], heads)
        found.append(Entry(table, shape, (f"{side}/relative/embedding",)))
        found.append(scale(f"{side}.final_layer_norm", f"{side}/norm"))
        for i in range(layers):
            h, b = f"{side}.block.{i}.layer", f"{side}/block_{i}"
            found += attention(f"{h}.0.SelfAttention", f"{b}/attention", False)
            found.append(scale(f"{h}.0.layer_norm", f"{b}/attention_norm"))
            if cross:
                found += attention(f"{h}.1.EncDecAttention", f"{b}/cross", True)
                found.append(scale(f"{h}.1.layer_norm", f"{b}/cross_norm"))
            last = f"{h}.{2 if cross else 1}"
            found.append(scale(f"{last}.layer_norm", f"{b}/mlp_norm"))
            inputs = (("wi_0", "gate"), ("wi_1", "up")) if gated else (("wi", "up"),)
            for name, ours in inputs:
                found += linear(
                    f"{last}.DenseReluDense.{name}", f"{b}/mlp/project/{ours}", W, c["d_ff"], False
                )
            found += linear(f"{last}.DenseReluDense.wo", f"{b}/mlp/down", c["d_ff"], W, False)
    return found


def load(config: Mapping[str, Any], tensors: Tensors, where: str) -> Loaded:
    """See interop.load."""
    c = complete(config, DEFAULTS, ALIASES)
    if c.get("num_decoder_layers") is None:
        c["num_decoder_layers"] = c["num_layers"]
    check_classes(config, REFUSED, where)
    known(c, THEIRS, where)
    known(c, _implied(c), where)
    check_names(config, (*DEFAULTS, *THEIRS, *ALIASES, *IMPLIED), IGNORED, where)
    sizes(c, (*SIZES, "num_decoder_layers"), where)
    numbers(c, ("layer_norm_epsilon", "dropout_rate"), where)
    copies = {f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")}
    tensors = without_copies(tensors, copies, where)
    # Newer versions of theirs keep the word of 1.0, scale_decoder_outputs, apart from tie_word_embeddings.
    tied = "lm_head.weight" not in tensors
    scaled = bool(c.get("scale_decoder_outputs", c.get("tie_word_embeddings", True)))
    fields = {
        "name": NAME,
        "layers": c["num_layers"],
        "decoder_layers": c["num_decoder_layers"],
        "heads": c["num_heads"],
        "width": c["d_model"],
        "head_features": c["d_kv"],
        "mlp": ratio(c["d_ff"], c["d_model"]),
        "activation": ACTIVATIONS[c["feed_forward_proj"]],
        "epsilon": c["layer_norm_epsilon"],
        "buckets": c["relative_attention_num_buckets"],
        "max_distance": c["relative_attention_max_distance"],
        "tied": tied,
        "scale_logits": scaled,
        "dropout": float(c["dropout_rate"]),
        "vocabulary": c["vocab_size"],
    }
    wanted = entries(c, tied)
    tree = to_tree(wanted, tensors, where)
    check_leftovers(wanted, tensors, where, buffers=BUFFERS, heads=HEADS)
    return Loaded(fields, Variables(params={"model": tree}), dict(config), dtypes(tensors))


def _implied(c: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the values that fields must have which transformers lets config.json contradict."""
    forward = c["feed_forward_proj"]
    return {
        "dense_act_fn": (THEIR_ACTIVATIONS[forward],),
        "is_gated_act": (forward.startswith("gated"),),
        "decoder_start_token_id": (None, c.get("pad_token_id", 0)),
    }


def save(
    fields: Mapping[str, Any],
    params: Tree,
    config: Mapping[str, Any] | None = None,
    special: Mapping[str, int] | None = None,
    like: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], Tensors]:
    """Return (config.json, tensors) of our fields and parameters.

    Args:
      like: {name: type} of the tensors that were imported (`Loaded.dtypes`), to keep their types.
    """
    require(fields, FORM, "T5")
    special = {"pad": 0, "eos": 1, **(special or {})}
    tied, names = bool(fields.get("tied", True)), {v: k for k, v in ACTIVATIONS.items()}
    scaled = bool(fields.get("scale_logits", True))
    layers = fields["layers"]
    c = {
        "pad_token_id": special["pad"],
        "eos_token_id": special["eos"],
        "decoder_start_token_id": special["pad"],
        "is_encoder_decoder": True,
        **(config or {}),
        "architectures": architectures(config, ("T5ForConditionalGeneration",)),
        "model_type": "t5",
        "vocab_size": len(params["token_embedding"]),
        "d_model": fields["width"],
        "d_kv": fields.get("head_features") or fields["width"] // fields["heads"],
        "d_ff": round(fields.get("mlp", 4.0) * fields["width"]),
        "num_layers": layers,
        "num_decoder_layers": fields.get("decoder_layers") or layers,
        "num_heads": fields["heads"],
        "relative_attention_num_buckets": fields.get("buckets", 32),
        "relative_attention_max_distance": fields.get("max_distance", 128),
        "feed_forward_proj": names[fields.get("activation", "relu")],
        "layer_norm_epsilon": fields.get("epsilon", 1e-6),
        "tie_word_embeddings": tied,
        "scale_decoder_outputs": scaled,
    }
    return c, narrowed(from_tree(entries(c, tied), params), like)
