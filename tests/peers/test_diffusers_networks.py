"""U-Nets and DiT with diffusers' weights, carried over both ways: outputs, and what is refused."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from genjax.errors import ConfigError, DataError
from genjax.interop import diffusers as interop
from genjax.nn.denoisers import config as config
from genjax.nn.denoisers.network import Network
from genjax.nn.ldm_unet import Form, Given, LDMUNet

sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers.models import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
SMALL = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 8}
CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
}
PLAIN = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
TYPES = {k: CROSS[k] for k in ("down_block_types", "up_block_types")}
FORMS: dict[str, tuple[type, dict[str, Any]]] = {
    "DDPM": (UNet2DModel, {**SMALL, **PLAIN}),
    "scale and shift": (
        UNet2DModel,
        {**SMALL, **PLAIN, "resnet_time_scale_shift": "scale_shift", "num_class_embeds": 5},
    ),
    "no attention": (UNet2DModel, {**SMALL, **PLAIN, "add_attention": False, "attention_head_dim": None}),
    "Stable Diffusion 1": (UNet2DConditionModel, {**SMALL, **CROSS}),
    "Stable Diffusion 2": (
        UNet2DConditionModel,
        {**SMALL, **CROSS, "use_linear_projection": True, "attention_head_dim": (2, 4)},
    ),
    "Stable Diffusion XL": (
        UNet2DConditionModel,
        {
            **SMALL,
            **CROSS,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "use_linear_projection": True,
            "attention_head_dim": (2, 4),
            "transformer_layers_per_block": (1, 2),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 10,
        },
    ),
}


def theirs(name: str) -> torch.nn.Module:
    kind, how = FORMS[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(in_channels=3, out_channels=3, **how).eval()
    for p in model.parameters():  # no zeros and ones, which would hide an error
        torch.nn.init.normal_(p, 0.0, 0.15)
    return model


def json(model: Any) -> dict[str, Any]:
    """What their config.json says."""
    return {**model.config, "_class_name": type(model).__name__}


def conditions(name: str, rows: int) -> tuple[Given, dict[str, Any]]:
    rng = np.random.default_rng(1)
    _, how = FORMS[name]
    ours: dict[str, Any] = {}
    given: dict[str, Any] = {}
    if "cross_attention_dim" in how:
        states = rng.normal(size=(rows, 7, 12)).astype(np.float32)
        mask = np.ones((rows, 7), np.float32)
        mask[0, 5:] = 0.0
        ours |= {"states": jnp.asarray(states), "mask": jnp.asarray(mask)}
        given |= {"encoder_hidden_states": torch.tensor(states), "encoder_attention_mask": torch.tensor(mask)}
    if "num_class_embeds" in how:
        label = rng.integers(0, 5, rows)
        ours["label"] = jnp.asarray(label, jnp.int32)
        given["class_labels"] = torch.tensor(label)
    if "addition_embed_type" in how:
        pooled = rng.normal(size=(rows, 10)).astype(np.float32)
        numbers = rng.integers(0, 64, (rows, 6)).astype(np.float32)
        ours |= {"pooled": jnp.asarray(pooled), "numbers": jnp.asarray(numbers)}
        added = {"text_embeds": torch.tensor(pooled), "time_ids": torch.tensor(numbers)}
        given["added_cond_kwargs"] = added
    return Given(**ours), given


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_unet_has_diffusers_outputs(name: str):
    torch_model = theirs(name)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    t = np.array([3, 711])
    ours, given = conditions(name, 2)
    with torch.no_grad():
        want = torch_model(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t), **given).sample
    form = Form(**interop.unet_form(json(torch_model)))
    net = LDMUNet(form)
    position = jnp.asarray(t, jnp.float32)
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.asarray(x), position, ours)["params"]
    tensors = {k: v.numpy() for k, v in torch_model.state_dict().items()}
    params = interop.unet_params(tensors, like, name)
    found = jax.jit(net.apply)({"params": params}, jnp.asarray(x), position, ours)
    scale = float(want.abs().max())
    np.testing.assert_allclose(found / scale, want.numpy().transpose(0, 2, 3, 1) / scale, atol=1e-4)
    back = interop.unet_tensors(params)
    assert set(back) == set(tensors)
    for key, value in back.items():
        np.testing.assert_array_equal(value, tensors[key])


def test_dit_has_diffusers_outputs():
    torch.manual_seed(0)
    how = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 3, "num_layers": 2}
    how |= {"sample_size": 8, "num_embeds_ada_norm": 5, "norm_num_groups": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_model = DiTTransformer2DModel(**how).eval()
    for p in torch_model.parameters():
        torch.nn.init.normal_(p, 0.0, 0.15)
    state = torch_model.state_dict()
    for key in state:  # their copies of one embedding
        if ".1.norm1.emb." in key:
            state[key] = state[key.replace(".1.norm1", ".0.norm1")]
    torch_model.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    t = np.array([3, 711])
    label = np.array([4, 1])
    with torch.no_grad():
        given = torch.tensor(x.transpose(0, 3, 1, 2))
        want = torch_model(given, torch.tensor(t), torch.tensor(label)).sample
    fields = interop.dit_fields(json(torch_model))
    made = config.Config(**fields)
    net = Network(made, 3, 5)
    tensors = {k: v.numpy() for k, v in torch_model.state_dict().items()}
    params = interop.dit_params(tensors, "dit")
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.asarray(x), jnp.zeros(2), jnp.zeros(2, jnp.int32))[
        "params"
    ]
    assert jax.tree.map(lambda a: a.shape, params) == jax.tree.map(lambda a: a.shape, like)
    time = jnp.asarray(t, jnp.float32) / 1000
    found = jax.jit(net.apply)({"params": params}, jnp.asarray(x), time, jnp.asarray(label))
    scale = float(want.abs().max())
    np.testing.assert_allclose(found / scale, want.numpy().transpose(0, 2, 3, 1) / scale, atol=1e-4)
    back = interop.dit_tensors(params, made.patch)
    for key, value in back.items():
        np.testing.assert_array_equal(value, tensors[key])
    assert set(tensors) - set(back) <= {"pos_embed.pos_embed"}


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("UNet2DConditionModel", "time_embedding_type", "fourier"),
        ("UNet2DConditionModel", "addition_embed_type", "image"),
        ("UNet2DConditionModel", "down_block_types", ("SimpleCrossAttnDownBlock2D", "DownBlock2D")),
        ("UNet2DConditionModel", "only_cross_attention", True),
        ("UNet2DModel", "downsample_type", "resnet"),
        ("UNet2DModel", "resnet_time_scale_shift", "ada_group"),
        ("DiTTransformer2DModel", "norm_type", "ada_norm"),
    ],
)
def test_what_ours_has_not_is_refused_by_name(kind: str, key: str, value: Any):
    given = {"_class_name": kind, "block_out_channels": (8, 8), "out_channels": 3, **TYPES, key: value}
    read = interop.dit_fields if kind.startswith("DiT") else interop.unet_form
    with pytest.raises(ConfigError, match=str(value[0] if isinstance(value, tuple) else value)):
        read(given)


def test_tensors_that_do_not_fit_are_refused():
    torch_model = theirs("DDPM")
    net = LDMUNet(Form(**interop.unet_form(json(torch_model))))
    x = jnp.zeros((1, 8, 8, 3))
    like = jax.eval_shape(net.init, jax.random.key(0), x, jnp.zeros(1))["params"]
    tensors = {k: v.numpy() for k, v in torch_model.state_dict().items()}
    with pytest.raises(DataError, match=r"no tensor 'conv_in\.bias'"):
        interop.unet_params({k: v for k, v in tensors.items() if k != "conv_in.bias"}, like, "file")
    with pytest.raises(DataError, match=r"unknown tensor 'a\.b'"):
        interop.unet_params({**tensors, "a.b": np.zeros(3)}, like, "file")
    with pytest.raises(DataError, match="shape"):
        interop.unet_params({**tensors, "conv_in.bias": np.zeros(3, np.float32)}, like, "file")
    with pytest.raises(DataError, match="NaN"):
        interop.unet_params({**tensors, "conv_in.bias": np.full(16, np.nan, np.float32)}, like, "file")
