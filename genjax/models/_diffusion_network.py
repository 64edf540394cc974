"""Hold the network of a diffusion model: its embeddings of time and label, and the U-Net, DiT or MLP."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.models._diffusion_config import Config
from genjax.nn import conditions
from genjax.nn.activations import GATED
from genjax.nn.dit import DiT
from genjax.nn.embedding import lookup
from genjax.nn.residual_mlp import ResidualMLP
from genjax.nn.time_embedding import TimeEmbedding
from genjax.nn.transformer import Stack
from genjax.nn.unet import UNet


class Network(nn.Module):
    """Map (x_t, t, label) to the predicted quantity. A negative label means no label.

    Attributes:
      config: with `network` "unet", "transformer" or "mlp".
      channels: of the output images.
      classes: 0 without labels.
      spans: the network also reads the length of the interval of times that ends at t (MeanFlow).
    """

    config: Config
    channels: int
    classes: int
    spans: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *shape"],
        t: Float[Array, " B"],
        label: Int[Array, " B"],
        keys: Keys | None = None,
        span: Float[Array, " B"] | None = None,
    ) -> Float[Array, "B *shape"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        width = c.width if c.network == "transformer" else 4 * c.width
        wave = {"cosine_first": c.sines != "first", "shift": int(c.sines == "shifted")}
        embed = lambda name: TimeEmbedding(width, c.frequencies or c.width, dtype, **wave, name=name)
        condition = embed("time")(t)
        if self.spans:
            assert span is not None
            condition += embed("span")(span)
        if self.classes:
            table = self.param("label", nn.initializers.normal(0.02), (self.classes + 1, width))
            condition += lookup(table, conditions.slots(label, self.classes)).astype(dtype)
        if c.network == "mlp":
            flat = x.reshape(x.shape[0], -1)
            net = ResidualMLP(flat.shape[1], c.width, c.blocks, c.dropout, dtype, name="mlp")
            return net(flat, condition, keys).reshape(x.shape)
        if c.network == "transformer":
            return DiT(self.channels, c.patch, _stack(c), name="transformer")(x, condition, keys)
        names = ("width", "multipliers", "blocks", "attention", "head", "dropout", "groups", "remat")
        fields = {n: getattr(c, n) for n in names}
        return UNet(self.channels, **fields, dtype=dtype, name="unet")(x, condition, keys)


def _stack(c: Config) -> Stack:
    """Return the transformer's stack."""
    gated = c.activation in GATED
    return Stack(
        layers=c.blocks,
        heads=c.width // c.head,
        width=c.width,
        # A gated MLP has three matrices instead of two.
        hidden=round(8 * c.width / 3) if gated else 4 * c.width,
        activation=c.activation,
        rope=c.position == "rotary",
        causal=False,
        norm="layernorm" if c.norm == "layer" else "rmsnorm",
        norm_epsilon=1e-6 if c.norm == "layer" else 1e-5,
        bias=c.biases,
        qk_norm=c.qk_norm,
        dropout=c.dropout,
        remat=c.remat,
        dtype=c.dtype,
    )
