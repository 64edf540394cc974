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
    """Return the embedded inputs and the table.

    A token is embedded as its row of the table, a frame as the sum of the rows of its sounding keys. The
    start frame is embedded as the table's last row.
    """
    if not isinstance(view, Frames):
        table = module.param("token_embedding", init, (view.vocabulary, width))
        return lookup(table, inputs), table
    table = module.param("key_embedding", init, (view.vocabulary, width))
    # All values of a start frame are `null`: it has no sounding keys, and one more column marks it.
    start = inputs[..., :1] == view.null
    sounding = jnp.concatenate([(inputs > 0) & ~start, start], axis=-1)
    # The sum of the rows is a product with the multi-hot frame.
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
    """Compute the logits (float32) of the next token, or of every key of the next frame.

    Args:
      table: the table that `embed` returned, to tie the output projection to its transpose (Press & Wolf
        2017, arXiv:1608.05859); None for a projection of its own.
      bias: add a bias. Frames always have one: it models how often each key sounds.
      std: initial standard deviation of an untied projection.
      dtype: dtype of the product.
    """
    bias = bias or isinstance(view, Frames)
    if table is None:
        return Linear(view.outputs, bias=bias, std=std, dtype=dtype, name="head")(x).astype(jnp.float32)
    # The start token is never predicted. Slice the logits, not the table: a slice of the table would be
    # copied at every step of decoding.
    logits = against(x.astype(dtype), table.astype(dtype))[..., : view.outputs].astype(jnp.float32)
    if bias:
        logits = logits + module.param("output_bias", nn.initializers.zeros, (view.outputs,))[None, None]
    return logits
