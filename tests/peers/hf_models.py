"""Tiny models of transformers with random weights, and the outputs of both libraries for the same tokens."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
import transformers
from hf import randomise

from genjax import interop
from genjax.config import build
from genjax.core import Element, Spec
from genjax.models import bert, gpt, t5
from genjax.views.frames import view

ROWS, T = 2, 12
V = 23
"""Tokens of the smallest vocabulary in the tests."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture: its config and main class in transformers, and the sizes of the tiny model."""

    config: str
    main: str
    tiny: dict[str, Any]

    @property
    def defaults(self) -> dict[str, Any]:
        """Every field of the installed version's config."""
        return getattr(transformers, self.config)().to_dict()

    def make(self, name: str, **fields: Any) -> torch.nn.Module:
        """A random model of the class `name`, with `fields` over the tiny sizes."""
        config = getattr(transformers, self.config)(**{**self.tiny, **fields})
        return randomise(getattr(transformers, name)(config), 0.2)


FAMILIES = {
    "GPT2Config": Family(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "vocab_size": V, "n_positions": T, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 32,
            "bos_token_id": V - 2, "eos_token_id": V - 2,
        },
    ),
    "BertConfig": Family(
        "BertConfig",
        "BertForMaskedLM",
        {
            "vocab_size": V, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": T,
        },
    ),
    "T5Config": Family(
        "T5Config",
        "T5ForConditionalGeneration",
        {
            "vocab_size": V, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
            "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
        },
    ),
}  # fmt: skip


def tokens(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, V, (ROWS, T))


TYPES = np.random.default_rng(2).integers(0, 2, (ROWS, T))


# --- theirs --------------------------------------------------------------------------------------


def theirs(family: Family, model: torch.nn.Module) -> dict[str, np.ndarray]:
    """The outputs of their model."""
    with torch.no_grad():
        return {k: x.numpy() for k, x in _THEIRS[family.config](model).items()}


def _begun(start: int | None, last: int) -> torch.Tensor:
    """The tokens of GPT-2 behind the one that begins a text."""
    out = tokens().copy()
    out[:, 0] = last if start is None else start
    return torch.tensor(out)


def _gpt2(model: Any) -> dict[str, torch.Tensor]:
    c = model.config
    x = _begun(c.bos_token_id, c.vocab_size - 1)
    if isinstance(model, transformers.GPT2LMHeadModel):
        return {"logits": model(x)[0]}
    base = getattr(model, "transformer", model)
    return {"logits": base(x)[0] @ base.wte.weight.T}


def _bert(model: Any) -> dict[str, torch.Tensor]:
    base = getattr(model, "bert", model)
    given = {"input_ids": torch.tensor(tokens()), "token_type_ids": torch.tensor(TYPES)}
    found = base(**given)
    out = {"features": found[0]}
    if base.pooler is not None:
        out["pooled"] = found[1]
    if hasattr(getattr(model, "cls", None), "predictions"):
        out["logits"] = model(**given)[0]
    return out


def _t5(model: Any) -> dict[str, torch.Tensor]:
    given = {"input_ids": torch.tensor(tokens()), "decoder_input_ids": torch.tensor(tokens(1))}
    if isinstance(model, transformers.T5ForConditionalGeneration):
        return {"logits": model(**given)[0]}
    encoded = model.encoder(given["input_ids"])[0]
    x = model.decoder(given["decoder_input_ids"], encoder_hidden_states=encoded)[0]
    return {"logits": x * model.config.d_model**-0.5 @ model.shared.weight.T}


_THEIRS = {"GPT2Config": _gpt2, "BertConfig": _bert, "T5Config": _t5}


# --- ours ----------------------------------------------------------------------------------------


def ours(directory: Path) -> dict[str, np.ndarray]:
    """The outputs of the import of a directory."""
    return outputs(interop.load(directory))


def outputs(loaded: interop.Loaded) -> dict[str, np.ndarray]:
    """The outputs of an imported model."""
    fields = {k: v for k, v in loaded.fields.items() if k != "name"}
    found = _OURS[loaded.fields["name"]](loaded, fields)
    return {k: np.asarray(x) for k, x in found.items()}


def _gpt(loaded: interop.Loaded, fields: dict[str, Any]) -> dict[str, Any]:
    params = loaded.variables.params["model"]
    rows, places = len(params["token_embedding"]) - 1, len(params["position_embedding"])
    spec = Spec({"tokens": Element((places + 1,), "int32", rows, "tokens", "target")})
    network = gpt.GPT(build(gpt.Config, fields), view(spec))
    x = jnp.asarray(tokens()).at[:, 0].set(rows)  # the start token
    return {"logits": network.apply({"params": params}, x, _places())[0]}


def _places() -> jnp.ndarray:
    return jnp.tile(jnp.arange(T), (ROWS, 1))


def _encoder(loaded: interop.Loaded, fields: dict[str, Any]) -> dict[str, Any]:
    spec = Spec({"tokens": Element((T,), "int32", V, "tokens", "target")}, special={"mask": 3, "pad": 0})
    model = bert.build(build(bert.Config, fields), spec, {})
    batch = {"tokens": jnp.asarray(tokens()), "token_type": jnp.asarray(TYPES)}
    found = model.predict(loaded.variables, batch)
    return {k: x for k, x in found.items() if k != "embedding"}


def _pairs(loaded: interop.Loaded, fields: dict[str, Any]) -> dict[str, Any]:
    text = {
        "source": Element((T,), "int32", V, "tokens", "condition"),
        "target": Element((T,), "int32", V, "tokens", "target"),
    }
    special = {"pad": 0, "eos": 1, "sentinel_0": V - 1}
    model = t5.build(build(t5.Config, fields), Spec(text, special=special, paired=True), {})
    prompt = {"source": jnp.asarray(tokens())}
    cache = model.decoder.start(loaded.variables, prompt, ROWS, T)
    return {"logits": model.decoder.step(loaded.variables, cache, jnp.asarray(tokens(1)))[0]}


_OURS = {"gpt": _gpt, "bert": _encoder, "t5": _pairs}

# --- comparison ----------------------------------------------------------------------------------


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest absolute difference; infinite if outputs or shapes differ."""
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return float("inf")
    return max(float(np.abs(a[k] - b[k]).max()) for k in a)


@functools.cache
def main(config: str) -> torch.nn.Module:
    """The tiny model of the main class."""
    family = FAMILIES[config]
    return family.make(family.main)
