"""Define the U-Net of latent diffusion, with attention to a sequence of text states.

Rombach et al. 2022 (arXiv:2112.10752, sec. 3.3), in the forms of Stable Diffusion 1, 2 and XL, and the U-Net
of DDPM that it comes from. Submodules have the names of diffusers' UNet2DConditionModel and UNet2DModel, so
that their weights are ours but for layout (interop/diffusers.py). Arrays are B x H x W x C.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.core import Keys
from genjax.nn.attention import Rule, attend
from genjax.nn.conv import Conv, upsample
from genjax.nn.dropout import dropout, fold
from genjax.nn.embedding import lookup
from genjax.nn.groupnorm import GroupNorm
from genjax.nn.linear import Linear
from genjax.nn.norms import LayerNorm
from genjax.nn.time_embedding import sinusoid

Kind = Literal["plain", "attention", "transformer"]
"""What follows a residual block: nothing, self-attention, or a transformer that reads the text states too."""


@dataclasses.dataclass(frozen=True)
class Form:
    """Describe the U-Net.

    Attributes:
      channels: of the output.
      widths: channels of each level; each level halves the size.
      blocks: residual blocks of a level on the way down; one more on the way up.
      down: what follows the blocks of each level.
      up: the same of the way up, from the lowest level to the highest.
      middle: what stands between the two blocks of the middle.
      middle_norm: the attention in the middle begins with a group norm.
      depths: layers of the transformers of each level.
      heads: of the attention of each level.
      linear: project into the transformers by linear layers (Stable Diffusion 2 and XL); else by 1x1
        convolutions.
      scale_shift: the time scales and shifts the second norm of a block (Dhariwal & Nichol 2021); else it is
        added before that norm (Ho et al. 2020).
      groups, epsilon: of the group norms.
      cosine_first: order of the sinusoid of the time.
      frequency_shift: of its frequencies, longest^(-i / (width / 2 - shift)).
      classes: labels that are embedded and added to the time; 0 for none.
      added: width of each number's sinusoid in the text-time embedding of Stable Diffusion XL; 0 for none.
      dropout: rate in residual blocks.
      remat: recompute the blocks' activations in the backward pass.
      dtype: of the computation; parameters are float32.
    """

    channels: int
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    down: tuple[Kind, ...] = ("transformer", "transformer", "transformer", "plain")
    up: tuple[Kind, ...] = ("plain", "transformer", "transformer", "transformer")
    middle: Kind = "transformer"
    middle_norm: bool = True
    depths: tuple[int, ...] = (1, 1, 1, 1)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    linear: bool = False
    scale_shift: bool = False
    groups: int = 32
    epsilon: float = 1e-5
    cosine_first: bool = True
    frequency_shift: int = 0
    classes: int = 0
    added: int = 0
    dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Given:
    """Hold the conditions of a call.

    Attributes:
      states: of the text, read by the transformers.
      mask: 0 marks padding among the states; None if there is none.
      label: of the class.
      pooled: one vector for the text (Stable Diffusion XL).
      numbers: sizes and crops (Stable Diffusion XL): six for each row.
    """

    states: Float[Array, "B L S"] | None = None
    mask: Array | None = None
    label: Int[Array, " B"] | None = None
    pooled: Float[Array, "B P"] | None = None
    numbers: Float[Array, "B N"] | None = None


class Residual(nn.Module):
    """Add a residual branch: norm, SiLU, conv, time, norm, SiLU, dropout, conv."""

    form: Form
    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], time: Float[Array, "B E"], keys: Keys | None
    ) -> Float[Array, "B H W F"]:
        f = self.form
        norm = lambda name, silu=True: GroupNorm(
            f.groups, silu=silu, dtype=f.dtype, epsilon=f.epsilon, name=name
        )
        conv = lambda name, **how: Conv(self.features, dtype=f.dtype, name=name, **how)
        h = conv("conv1")(norm("norm1")(x))
        width = (1 + f.scale_shift) * self.features
        t = nn.Dense(width, dtype=f.dtype, name="time_emb_proj")(nn.silu(time))[:, None, None]
        if f.scale_shift:
            scale, shift = jnp.split(t, 2, axis=-1)
            h = nn.silu(norm("norm2", silu=False)(h) * (1 + scale) + shift)
        else:
            h = norm("norm2")(h + t)
        h = dropout(h, f.dropout, keys)
        h = conv("conv2", kernel_init=nn.initializers.zeros)(h)
        if x.shape[-1] != self.features:
            x = conv("conv_shortcut", kernel_size=1)(x)
        return x + h


def attended(
    x: Float[Array, "B T W"],
    heads: int,
    bias: bool,
    states: Float[Array, "B L S"] | None = None,
    mask: Float[Array, "B L"] | None = None,
) -> Float[Array, "B T W"]:
    """Compute attention of a sequence to itself or to states; called from a compact method, in its scope.

    Args:
      bias: learn biases of queries, keys and values.
      mask: 0 marks padding among the states.
    """
    memory = x if states is None else states.astype(x.dtype)
    project = lambda name, y, bias: Linear(x.shape[-1], bias, y.shape[-1] ** -0.5, str(x.dtype), name=name)(y)
    split = lambda y: y.reshape(*y.shape[:2], heads, -1)
    q = split(project("to_q", x, bias))
    k = split(project("to_k", memory, bias))
    v = split(project("to_v", memory, bias))
    seen = None if mask is None else (mask > 0).astype(jnp.int32)
    h = attend(q, k, v, Rule(key_segment=seen))
    return project("to_out_0", h.reshape(x.shape), True)


class Heads(nn.Module):
    """Apply `attended` with parameters of its own."""

    heads: int

    @nn.compact
    def __call__(
        self, x: Array, states: Array | None = None, mask: Array | None = None
    ) -> Float[Array, "B T W"]:
        return attended(x, self.heads, False, states, mask)


class Attention(nn.Module):
    """Add self-attention over all pixels (UNet2DModel)."""

    form: Form
    level: int
    norm: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], given: Given) -> Float[Array, "B H W C"]:
        del given
        f = self.form
        h = x
        if self.norm:
            h = GroupNorm(f.groups, dtype=f.dtype, epsilon=f.epsilon, name="group_norm")(x)
        out = attended(h.reshape(x.shape[0], -1, x.shape[-1]), f.heads[self.level], True)
        return x + out.reshape(x.shape)


class Layer(nn.Module):
    """Apply self-attention, attention to the text states, and a gated MLP, each as a residual branch."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"], given: Given) -> Float[Array, "B T W"]:
        x = x + Heads(self.heads, name="attn1")(LayerNorm(name="norm1")(x))
        y = LayerNorm(name="norm2")(x)
        x = x + Heads(self.heads, name="attn2")(y, given.states, given.mask)
        return x + Gated(name="ff")(LayerNorm(name="norm3")(x))


class Gated(nn.Module):
    """Apply an MLP with the exact GELU as its gate (Shazeer 2020, arXiv:2002.05202)."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        width = x.shape[-1]
        dtype = str(x.dtype)
        h = Projection(8 * width, name="net_0")(x)
        value, gate = jnp.split(h, 2, axis=-1)
        h = value * jax.nn.gelu(gate, approximate=False)
        return Linear(width, True, (4 * width) ** -0.5, dtype, name="net_2")(h)


class Projection(nn.Module):
    """Hold the first layer of the MLP under diffusers' name for it."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T F"]:
        return Linear(self.features, True, x.shape[-1] ** -0.5, str(x.dtype), name="proj")(x)


class Transformer(nn.Module):
    """Add transformer layers over all pixels, which also attend to the text states."""

    form: Form
    level: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], given: Given) -> Float[Array, "B H W C"]:
        f = self.form
        B, H, W, C = x.shape
        # diffusers has 1e-6 here, whatever the other norms have.
        h = GroupNorm(f.groups, dtype=f.dtype, epsilon=1e-6, name="norm")(x)
        flat = lambda y: y.reshape(B, H * W, C)
        if f.linear:
            h = Linear(C, True, C**-0.5, str(h.dtype), name="proj_in")(flat(h))
        else:
            h = flat(Conv(C, kernel_size=1, dtype=f.dtype, name="proj_in")(h))
        for i in range(f.depths[self.level]):
            h = Layer(f.heads[self.level], name=f"transformer_blocks_{i}")(h, given)
        if f.linear:
            return x + Linear(C, True, 0.0, str(h.dtype), name="proj_out")(h).reshape(x.shape)
        zeros = nn.initializers.zeros
        out = Conv(C, kernel_size=1, dtype=f.dtype, kernel_init=zeros, name="proj_out")
        return x + out(h.reshape(x.shape))


AFTER: dict[str, type[nn.Module]] = {"attention": Attention, "transformer": Transformer}


class Level(nn.Module):
    """Apply the residual blocks of one level, each with what follows it, and change the size.

    Attributes:
      level: index of the level, from the highest size.
      kind: what follows the blocks.
      count: of the blocks.
      resize: "down", "up" or None at the end.
    """

    form: Form
    level: int
    kind: Kind
    count: int
    resize: Literal["down", "up"] | None

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "B H W C"],
        time: Float[Array, "B E"],
        given: Given,
        skips: list[Array] | None,
        keys: list[Keys | None],
    ) -> tuple[Array, list[Array]]:
        """Return the output, and the output of every block and of the change of size.

        Args:
          skips: of the way down, from which the way up takes one for each block; None on the way down.
          keys: of the dropout of each block.
        """
        f = self.form
        width = f.widths[self.level]
        block = nn.remat(Residual) if f.remat else Residual
        after = AFTER.get(self.kind)
        passed = []
        for i in range(self.count):
            if skips is not None:
                h = jnp.concatenate([h, skips.pop()], axis=-1)
            h = block(f, width, name=f"resnets_{i}")(h, time, keys[i])
            if after is not None:
                # Under rematerialisation the attention is recomputed, too: its scores are the largest part.
                make = nn.remat(after) if f.remat else after
                h = make(f, self.level, name=f"attentions_{i}")(h, given)
            passed.append(h)
        if self.resize == "down":
            h = Resample(width, 2, f.dtype, name="downsamplers_0")(h)
            passed.append(h)
        elif self.resize == "up":
            h = Resample(width, 1, f.dtype, name="upsamplers_0")(upsample(h))
        return h, passed


class Resample(nn.Module):
    """Apply the 3x3 convolution of a change of size, under diffusers' name."""

    features: int
    strides: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        # One row and column on each side, also with strides.
        padding = ((1, 1), (1, 1))
        strides = self.strides
        return Conv(self.features, strides=strides, padding=padding, dtype=self.dtype, name="conv")(x)


class Middle(nn.Module):
    """Apply a residual block, what stands in the middle, and another block."""

    form: Form

    @nn.compact
    def __call__(self, h: Array, time: Array, given: Given, keys: list[Keys | None]) -> Array:
        f = self.form
        last = len(f.widths) - 1
        block = nn.remat(Residual) if f.remat else Residual
        h = block(f, f.widths[-1], name="resnets_0")(h, time, keys[0])
        after = AFTER.get(f.middle)
        if after is not None:
            make = nn.remat(after) if f.remat else after
            how = {} if f.middle_norm else {"norm": False}
            h = make(f, last, **how, name="attentions_0")(h, given)
        return block(f, f.widths[-1], name="resnets_1")(h, time, keys[1])


class Embedding(nn.Module):
    """Apply two linear layers with SiLU between them: "linear_1" and "linear_2"."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B F"]) -> Float[Array, "B W"]:
        h = nn.silu(nn.Dense(self.width, dtype=self.dtype, name="linear_1")(x.astype(self.dtype)))
        return nn.Dense(self.width, dtype=self.dtype, name="linear_2")(h)


class Table(nn.Module):
    """Embed labels."""

    classes: int
    width: int

    @nn.compact
    def __call__(self, label: Int[Array, " B"]) -> Float[Array, "B W"]:
        table = self.param("embedding", nn.initializers.normal(0.02), (self.classes, self.width))
        return lookup(table, label)


class LDMUNet(nn.Module):
    """Map x, the time and conditions to a map of the size of x."""

    form: Form

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        position: Float[Array, " B"],
        given: Given | None = None,
        keys: Keys | None = None,
    ) -> Float[Array, "B H W {self.form.channels}"]:
        """Return the output map (float32).

        Args:
          position: of the time: a step of the chain, from 0.
          given: the conditions that the form asks for.
          keys: of dropout; None for none.
        """
        f = self.form
        given = given or Given()
        levels = len(f.widths)
        sites = itertools.count()
        noise = lambda count: [fold(keys, next(sites)) for _ in range(count)]
        time = self._embedded(position, given)
        h = Conv(f.widths[0], dtype=f.dtype, name="conv_in")(x.astype(f.dtype))
        skips = [h]
        for i in range(levels):
            resize = "down" if i < levels - 1 else None
            level = Level(f, i, f.down[i], f.blocks, resize, name=f"down_blocks_{i}")
            h, passed = level(h, time, given, None, noise(f.blocks))
            skips += passed
        h = Middle(f, name="mid_block")(h, time, given, noise(2))
        for i in range(levels):
            resize = "up" if i < levels - 1 else None
            level = Level(f, levels - 1 - i, f.up[i], f.blocks + 1, resize, name=f"up_blocks_{i}")
            h, _ = level(h, time, given, skips, noise(f.blocks + 1))
        norm = GroupNorm(f.groups, silu=True, dtype=f.dtype, epsilon=f.epsilon, name="conv_norm_out")
        out = Conv(f.channels, dtype=f.dtype, kernel_init=nn.initializers.zeros, name="conv_out")
        return out(norm(h)).astype(jnp.float32)

    def _embedded(self, position: Float[Array, " B"], given: Given) -> Float[Array, "B E"]:
        """Return the embedding of the time, the label, and Stable Diffusion XL's pooled text and numbers."""
        f = self.form
        width = 4 * f.widths[0]
        how = {"scale": 1.0, "cosine_first": f.cosine_first, "shift": f.frequency_shift}
        time = Embedding(width, f.dtype, name="time_embedding")(sinusoid(position, f.widths[0], **how))
        if f.classes:
            assert given.label is not None
            time = time + Table(f.classes, width, name="class_embedding")(given.label).astype(f.dtype)
        if f.added:
            assert given.pooled is not None
            assert given.numbers is not None
            flat = sinusoid(given.numbers.reshape(-1), f.added, **how)
            flat = flat.reshape(given.numbers.shape[0], -1)
            joined = jnp.concatenate([given.pooled, flat], axis=-1)
            time = time + Embedding(width, f.dtype, name="add_embedding")(joined)
        return time
