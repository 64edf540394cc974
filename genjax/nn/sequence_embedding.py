"""Embed and unembed sequences of tokens or piano-roll frames through one pair of functions.

Call both inside a module's compact method, where they create their parameters:

    x, table = embed(self, view, inputs, width, init)           "token_embedding" or "key_embedding"
    logits = unembed(self, view, x, table if tied else None)    "head", or "output_bias" where tied
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nn.embedding import lookup
from genjax.nn.linear import Linear, against, linear
from genjax.views.frames import Frames, View


def embed(
    module: nn.Module,
    view: View,
    inputs: Int[Array, "B T *K"],
    width: int,
    init: nn.initializers.Initializer,
) -> tuple[Float[Array, "B T W"], Float[Array, "V W"]]:
    """(embedded inputs, the table): a token's row of the table, or the sum of the rows of a frame's keys.

    The start frame has the table's last row.
    """
    if not isinstance(view, Frames):
        table = module.param("token_embedding", init, (view.vocabulary, width))
        return lookup(table, inputs), table
    table = module.param("key_embedding", init, (view.vocabulary, width))
    start = inputs[..., :1] == view.null
    sounding = jnp.concatenate([(inputs > 0) & ~start, start], axis=-1)
    return linear(sounding.astype(table.dtype), table), table


def unembed(
    module: nn.Module,
    view: View,
    x: Float[Array, "B T W"],
    table: Float[Array, "V W"] | None = None,
    *,
    bias: bool = False,
    std: float = 0.02,
    dtype: str = "float32",
) -> Float[Array, "B T O"]:
    """Logits (float32) of the next token, or of every key of the next frame.

    Args:
      table: the one that `embed` returned, if the output projection is its transpose (Press & Wolf 2017,
        arXiv:1608.05859).
      bias: frames always have one: it says how often each key sounds.
      std: the projection's initial standard deviation where it is its own.
    """
    bias = bias or isinstance(view, Frames)
    if table is None:
        return Linear(view.outputs, bias=bias, std=std, dtype=dtype, name="head")(x).astype(jnp.float32)
    # Start tokens are cut off the logits: a cut of the table would copy it at every step of decoding.
    logits = against(x.astype(dtype), table.astype(dtype))[..., : view.outputs].astype(jnp.float32)
    if bias:
        logits = logits + module.param("output_bias", nn.initializers.zeros, (view.outputs,))[None, None]
    return logits
