"""Weights and configurations of diffusers' U-Nets and DiT, both ways, by name.

A tree of ours and a file of theirs have the same names but for the separator: "down_blocks_0/resnets_1/conv1/
kernel" is "down_blocks.0.resnets.1.conv1.weight". Kernels are transposed: (height, width, in, out) and (in,
out) here, (out, in, height, width) and (out, in) there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from genjax.core import Tree
from genjax.errors import ConfigError, DataError
from genjax.interop.tensors import put

LISTS = (
    *("down_blocks", "up_blocks", "resnets", "attentions", "downsamplers", "upsamplers"),
    *("transformer_blocks", "net", "to_out"),
)
"""Lists of modules, whose index is a component of its own in their names."""
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return the leaves of a tree of dicts with their paths."""
    for name, value in tree.items():
        below = f"{path}/{name}" if path else name
        if isinstance(value, Mapping):
            yield from leaves(value, below)
        else:
            yield below, value


def theirs(path: str) -> str:
    """Return their name of a leaf of ours."""
    *parts, leaf = path.split("/")
    dotted = [re.sub(rf"^({'|'.join(LISTS)})_(\d+)$", r"\1.\2", part) for part in parts]
    return ".".join([*dotted, LEAVES[leaf]])


def unet_tensors(params: Tree) -> dict[str, np.ndarray]:
    """Return the tensors of a U-Net (nn/ldm_unet.py) as diffusers has them, by name."""
    return {theirs(path): _turned(path, np.asarray(x)) for path, x in leaves(params)}


def unet_params(tensors: Mapping[str, np.ndarray], like: Tree, where: str) -> Tree:
    """Return the parameters of a U-Net from tensors of diffusers.

    Args:
      like: a tree of our names and shapes (jax.eval_shape of `init`).
      where: the name of the file, for errors.

    Raises:
      DataError: a tensor is missing, has another shape, is not finite, or has no place.
    """
    tree: dict[str, Any] = {}
    left = dict(tensors)
    for path, leaf in leaves(like):
        name = theirs(path)
        if name not in left:
            raise DataError(f"{where}: no tensor {name!r}", "config.json and the weights do not fit")
        x = np.asarray(left.pop(name), np.float32)
        kernel = path.endswith("/kernel")
        x = (x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T) if kernel else x
        if x.shape != tuple(leaf.shape):
            raise DataError(
                f"{where}: tensor {name!r} has shape {x.shape} in our order, and config.json asks for "
                f"{tuple(leaf.shape)}",
                "config.json and the weights are of different models",
            )
        if not np.isfinite(x).all():
            raise DataError(f"{where}: tensor {name!r} holds NaN or infinite values", "fetch the file again")
        put(tree, path, np.ascontiguousarray(x))
    if left:
        raise DataError(f"{where}: unknown tensor {min(left)!r}", "config.json and the weights do not fit")
    return tree


def _turned(path: str, x: np.ndarray) -> np.ndarray:
    """Return a leaf of ours in their layout."""
    if not path.endswith("/kernel"):
        return x
    return np.ascontiguousarray(x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T)


# --- configurations ------------------------------------------------------------------------------------

FIXED: dict[str, dict[str, Any]] = {
    "UNet2DConditionModel": {
        "center_input_sample": False,
        "only_cross_attention": False,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "act_fn": "silu",
        "reverse_transformer_layers_per_block": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "dual_cross_attention": False,
        "class_embed_type": None,
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "attention_type": "default",
        "class_embeddings_concat": False,
        "mid_block_only_cross_attention": None,
        "cross_attention_norm": None,
    },
    "UNet2DModel": {
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "mid_block_scale_factor": 1,
        "downsample_padding": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "act_fn": "silu",
        "attn_norm_num_groups": None,
        "class_embed_type": None,
    },
    "DiTTransformer2DModel": {
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
    },
}
"""{class: {key of config.json: the value that our form has}}."""
BLOCKS = {
    "DownBlock2D": "plain",
    "UpBlock2D": "plain",
    "AttnDownBlock2D": "attention",
    "AttnUpBlock2D": "attention",
    "CrossAttnDownBlock2D": "transformer",
    "CrossAttnUpBlock2D": "transformer",
}
MIDDLES = {"UNetMidBlock2D": "attention", "UNetMidBlock2DCrossAttn": "transformer", None: "plain"}


def unet_form(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of nn.ldm_unet.Form for the config.json of a U-Net.

    Raises:
      ConfigError: a form that ours has not, by the name of the key.
    """
    kind = config.get("_class_name")
    if kind not in ("UNet2DModel", "UNet2DConditionModel"):
        raise ConfigError(f"{kind} is no U-Net that is known", "give UNet2DModel or UNet2DConditionModel")
    for key, value in FIXED[kind].items():
        if config.get(key, value) != value:
            raise ConfigError(f"{kind}: {key}={config[key]!r} is not supported", f"ours has {value!r}")
    if config.get("addition_embed_type") not in (None, "text_time"):
        raise ConfigError(
            f"{kind}: addition_embed_type={config['addition_embed_type']!r} is not supported",
            "ours has 'text_time', or none",
        )
    scale_shift = _scale_shift(kind, config.get("resnet_time_scale_shift", "default"))
    missing = [k for k in ("block_out_channels", "down_block_types", "up_block_types") if k not in config]
    if missing:
        raise ConfigError(f"{kind}: config.json has no {missing[0]}", "give a whole config.json")
    widths = tuple(config["block_out_channels"])
    levels = len(widths)
    down = tuple(_block(kind, name) for name in config["down_block_types"])
    up = tuple(_block(kind, name) for name in config["up_block_types"])
    each = lambda x: tuple(x) if isinstance(x, (list, tuple)) else (x,) * levels
    if kind == "UNet2DModel":
        features = config.get("attention_head_dim", 8)
        heads = tuple(1 if features is None else w // features for w in widths)
        middle = "attention" if config.get("add_attention", True) else "plain"
        depths = (1,) * levels
    else:
        heads = each(config.get("num_attention_heads") or config.get("attention_head_dim", 8))
        name = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
        if name not in MIDDLES:
            raise ConfigError(f"{kind}: mid_block_type={name!r} is not supported", "ours has a transformer")
        middle = MIDDLES[name]
        depths = each(config.get("transformer_layers_per_block", 1))
    if not isinstance(config.get("layers_per_block", 2), int):
        raise ConfigError(f"{kind}: layers_per_block of each level is not supported", "ours has one number")
    return {
        "channels": config.get("out_channels", 3 if kind == "UNet2DModel" else 4),
        "widths": widths,
        "blocks": config.get("layers_per_block", 2),
        "down": down,
        "up": up,
        "middle": middle,
        # diffusers leaves this norm out of UNet2DModel with that conditioning.
        "middle_norm": kind != "UNet2DModel" or not scale_shift,
        "depths": depths,
        "heads": heads,
        "linear": bool(config.get("use_linear_projection", False)),
        "scale_shift": scale_shift,
        "groups": config.get("norm_num_groups") or 32,
        "epsilon": config.get("norm_eps", 1e-5),
        "cosine_first": config.get("flip_sin_to_cos", True),
        "frequency_shift": config.get("freq_shift", 0),
        "classes": config.get("num_class_embeds") or 0,
        "added": config.get("addition_time_embed_dim") or 0,
    }


def _block(kind: str, name: str) -> str:
    if name not in BLOCKS:
        raise ConfigError(f"{kind}: a block {name!r} is not supported", f"ours has {', '.join(BLOCKS)}")
    return BLOCKS[name]


def _scale_shift(kind: str, given: str) -> bool:
    if given not in ("default", "scale_shift"):
        raise ConfigError(
            f"{kind}: resnet_time_scale_shift={given!r} is not supported", "ours has default and scale_shift"
        )
    return given == "scale_shift"


# --- DiT -----------------------------------------------------------------------------------------------


def dit_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a diffusion's transformer for the config.json of DiTTransformer2DModel.

    Raises:
      ConfigError: a form that ours has not, by the name of the key.
    """
    kind = "DiTTransformer2DModel"
    for key, value in FIXED[kind].items():
        if config.get(key, value) != value:
            raise ConfigError(f"{kind}: {key}={config[key]!r} is not supported", f"ours has {value!r}")
    channels = config.get("in_channels", 4)
    out = config.get("out_channels") or channels
    if out not in (channels, 2 * channels):
        raise ConfigError(
            f"{kind}: {out} channels of the output", f"ours has {channels}, or twice that with a variance"
        )
    heads = config.get("num_attention_heads", 16)
    features = config.get("attention_head_dim", 72)
    return {
        "network": "transformer",
        "width": heads * features,
        "head": features,
        "blocks": config.get("num_layers", 28),
        "patch": config.get("patch_size", 2),
        "dropout": config.get("dropout", 0.0),
        "activation": "gelu_tanh",
        "norm": "layer",
        "qk_norm": False,
        "biases": True,
        "frequencies": 256,
        "sines": "shifted",
        "variance": "learned" if out == 2 * channels else "small",
    }


def dit_tensors(params: Tree, patch: int) -> dict[str, np.ndarray]:
    """Return the tensors of DiTTransformer2DModel for the parameters of a diffusion's transformer.

    Args:
      patch: side of the patches.
    """
    found = {}
    layers = sum(name.startswith("block_") for name in params["transformer"])
    for path, name, how in _dit_names(layers):
        x = np.asarray(_at(params, path))
        if how == "patches":
            x = x.reshape(patch, patch, -1, x.shape[1]).transpose(3, 2, 0, 1)
        found[name] = np.ascontiguousarray(x.T if how == "turned" else x)
    # Every block has its own copy of the embeddings of time and label there.
    for i in range(1, layers):
        for name in [n for n in found if n.startswith("transformer_blocks.0.norm1.emb.")]:
            found[name.replace("blocks.0.", f"blocks.{i}.")] = found[name]
    return found


def dit_params(tensors: Mapping[str, np.ndarray], where: str) -> Tree:
    """Return the parameters of a diffusion's transformer from tensors of DiTTransformer2DModel.

    Raises:
      DataError: a tensor is missing or has no place, or the blocks' copies of the embeddings differ.
    """
    left = dict(tensors)
    left.pop("pos_embed.pos_embed", None)  # the sines and cosines of positions
    layers = len({n.split(".")[1] for n in left if n.startswith("transformer_blocks.")})
    for i in range(1, layers):
        for name in [n for n in left if n.startswith(f"transformer_blocks.{i}.norm1.emb.")]:
            first = left.get(name.replace(f"blocks.{i}.", "blocks.0."))
            if first is None or not np.array_equal(first, left.pop(name)):
                raise DataError(
                    f"{where}: {name!r} differs from that of the first block", "ours has one embedding"
                )
    tree: dict[str, Any] = {}
    for path, name, how in _dit_names(layers):
        if name not in left:
            raise DataError(f"{where}: no tensor {name!r}", "config.json and the weights do not fit")
        x = np.asarray(left.pop(name), np.float32)
        if how == "patches":
            x = x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])
        put(tree, path, np.ascontiguousarray(x.T if how == "turned" else x))
    if left:
        raise DataError(f"{where}: unknown tensor {min(left)!r}", "config.json and the weights do not fit")
    return tree


def _at(tree: Tree, path: str) -> Any:
    for part in path.split("/"):
        tree = tree[part]
    return tree


def _dit_names(layers: int) -> Iterator[tuple[str, str, str]]:
    """Return (our path, their name, "turned" | "patches" | "same") of each tensor."""

    def linear(ours: str, name: str) -> Iterator[tuple[str, str, str]]:
        yield f"{ours}/kernel", f"{name}.weight", "turned"
        yield f"{ours}/bias", f"{name}.bias", "same"

    yield "transformer/in/kernel", "pos_embed.proj.weight", "patches"
    yield "transformer/in/bias", "pos_embed.proj.bias", "same"
    embedding = "transformer_blocks.0.norm1.emb"
    yield from linear("time/inner", f"{embedding}.timestep_embedder.linear_1")
    yield from linear("time/outer", f"{embedding}.timestep_embedder.linear_2")
    yield "label", f"{embedding}.class_embedder.embedding_table.weight", "same"
    for i in range(layers):
        ours = f"transformer/block_{i}"
        name = f"transformer_blocks.{i}"
        yield from linear(f"{ours}/film", f"{name}.norm1.linear")
        for part, short in (("query", "q"), ("key", "k"), ("value", "v")):
            yield from linear(f"{ours}/attention/project/{part}", f"{name}.attn1.to_{short}")
        yield from linear(f"{ours}/attention/out", f"{name}.attn1.to_out.0")
        yield from linear(f"{ours}/mlp/project/up", f"{name}.ff.net.0.proj")
        yield from linear(f"{ours}/mlp/down", f"{name}.ff.net.2")
    yield from linear("transformer/film", "proj_out_1")
    yield from linear("transformer/out", "proj_out_2")
