"""Hold the network of a diffusion: its embeddings of time, label and text, and the U-Net, DiT or MLP."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.nn import conditions
from genjax.nn.activations import GATED
from genjax.nn.denoisers.config import Config
from genjax.nn.dit import DiT
from genjax.nn.edm2_unet import EDM2UNet
from genjax.nn.embedding import lookup
from genjax.nn.ldm_unet import Form, Given, Kind, LDMUNet
from genjax.nn.mlp import one_hot
from genjax.nn.residual_mlp import ResidualMLP
from genjax.nn.text_states import Encoder
from genjax.nn.time_embedding import TimeEmbedding
from genjax.nn.transformer import Stack
from genjax.nn.unet import UNet

States = tuple[Float[Array, "B L S"], Float[Array, "B L"]]
"""The states of a text, and their mask (0 on padding)."""


class Network(nn.Module):
    """Map (x_t, t, label, text) to the predicted quantity. A negative label means no label.

    Attributes:
      config: with `network` other than "auto".
      channels: of the output images.
      classes: 0 without labels.
      spans: the network also reads the length of the interval of times that ends at t (MeanFlow).
      vocabulary: of the text's tokens; 0 for states of another encoder, or without text.
    """

    config: Config
    channels: int
    classes: int
    spans: bool = False
    vocabulary: int = 0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *shape"],
        t: Float[Array, " B"],
        label: Int[Array, " B"],
        keys: Keys | None = None,
        span: Float[Array, " B"] | None = None,
        text: tuple[Array, Float[Array, "B L"]] | None = None,
    ) -> Float[Array, "B *shape"]:
        """Return the prediction.

        Args:
          span: length of the interval that ends at t; needed with `spans`.
          text: tokens or states, and their mask; needed with `config.text`.
        """
        c = self.config
        states = None
        if c.text:
            assert text is not None
            width = c.width if c.network == "transformer" else 4 * c.width
            states = Encoder(width, c.text_layers, self.vocabulary, c.dtype, name="text")(*text, keys)
        if c.network == "edm2_unet":
            return self._edm2(x, t, label, keys)
        if c.network == "ldm_unet":
            return self._ldm(x, t, label, keys, states)
        condition = self._condition(t, label, span)
        if c.network == "mlp":
            flat = x.reshape(x.shape[0], -1)
            size = flat.shape[1] // x.shape[-1] * self.channels
            net = ResidualMLP(size, c.width, c.blocks, c.dropout, jnp.dtype(c.dtype), name="mlp")
            return net(flat, condition, keys).reshape(*x.shape[:-1], self.channels)
        if c.network == "transformer":
            net = DiT(self.channels, c.patch, _stack(c), name="transformer")
            return net(x, condition, keys, states)
        names = ("width", "multipliers", "blocks", "attention", "head", "dropout", "groups", "remat")
        fields = {n: getattr(c, n) for n in names}
        return UNet(self.channels, **fields, dtype=jnp.dtype(c.dtype), name="unet")(x, condition, keys)

    def _condition(
        self, t: Float[Array, " B"], label: Int[Array, " B"], span: Float[Array, " B"] | None
    ) -> Float[Array, "B E"]:
        """Return the embedding of time, interval and label."""
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
        return condition

    def _edm2(self, x: Array, t: Array, label: Array, keys: Keys | None) -> Float[Array, "B H W C"]:
        c = self.config
        names = ("width", "multipliers", "blocks", "attention", "head", "dropout", "remat")
        fields: dict[str, Any] = {n: getattr(c, n) for n in names}
        net = EDM2UNet(
            self.channels, **fields, classes=self.classes, dtype=jnp.dtype(c.dtype), name="edm2_unet"
        )
        slot = one_hot(conditions.slots(label, self.classes), self.classes + 1) if self.classes else None
        return net(x, t, slot, keys)

    def _ldm(
        self, x: Array, t: Array, label: Array, keys: Keys | None, states: States | None
    ) -> Float[Array, "B H W C"]:
        c = self.config
        widths = tuple(m * c.width for m in c.multipliers)
        sizes = [max(x.shape[1:3]) // 2**i for i in range(len(widths))]
        reading: Kind = "transformer" if c.text else "attention"
        kinds: tuple[Kind, ...] = tuple(reading if s in c.attention else "plain" for s in sizes)
        form = Form(
            channels=self.channels,
            widths=widths,
            blocks=c.blocks,
            down=kinds,
            up=kinds[::-1],
            middle=reading,
            depths=(1,) * len(widths),
            heads=tuple(w // c.head for w in widths),
            groups=c.groups,
            cosine_first=c.sines != "first",
            frequency_shift=int(c.sines == "shifted"),
            classes=self.classes + 1 if self.classes else 0,
            dropout=c.dropout,
            remat=c.remat,
            dtype=jnp.dtype(c.dtype),
        )
        slot = conditions.slots(label, self.classes) if self.classes else None
        given = Given(*(states or (None, None)), label=slot)
        # The first step of a chain of T is time 1 / T here, and 0 there.
        return LDMUNet(form, name="ldm_unet")(x, c.timesteps * t - 1.0, given, keys)


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
        cross=c.text,
        norm="layernorm" if c.norm == "layer" else "rmsnorm",
        norm_epsilon=1e-6 if c.norm == "layer" else 1e-5,
        bias=c.biases,
        qk_norm=c.qk_norm,
        dropout=c.dropout,
        remat=c.remat,
        dtype=c.dtype,
    )
