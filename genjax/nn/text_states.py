"""Read the text that a model is conditioned on, and encode it as a sequence of states."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch, Keys, Spec
from genjax.errors import ConfigError
from genjax.functional import noise
from genjax.nn.embedding import lookup
from genjax.nn.linear import Linear
from genjax.nn.transformer import Stack, Transformer


@dataclasses.dataclass(frozen=True)
class Text:
    """Read the first condition that is a row of tokens (L,), or of states (L, S) from another encoder.

    Attributes:
      name: of the element.
      vocabulary: of tokens; 0 for states.
      mask: name of the column that is 0 on padding; it is 1 everywhere if the data has none.
    """

    name: str
    vocabulary: int
    mask: str

    @classmethod
    def of(cls, spec: Spec) -> Text:
        """Return the text of a spec.

        Raises:
          ConfigError: it has none.
        """
        for name in spec.conditions:
            element = spec[name]
            tokens = len(element.shape) == 1 and element.levels
            if tokens or (len(element.shape) == 2 and not element.levels):
                return cls(name, element.levels or 0, f"{name}_mask")
        raise ConfigError(
            f"model.text: the data has no text; its conditions are {', '.join(spec.conditions) or 'none'}",
            "choose data with captions, or set model.text to False",
        )

    def given(self, batch: Batch) -> Batch:
        """Return the columns of a batch or a prompt that hold the text; {} if it has none."""
        return {name: batch[name] for name in (self.name, self.mask) if name in batch}

    def read(self, batch: Batch, rows: int, length: int) -> tuple[Array, Float[Array, "B L"]]:
        """Return the tokens or states, and a mask that is 0 on padding: everywhere where no text is given.

        Args:
          length: L, of a batch without text.
        """
        if self.name not in batch:
            return jnp.zeros((rows, length), jnp.int32), jnp.zeros((rows, length))
        x = jnp.asarray(batch[self.name])
        return x, jnp.asarray(batch.get(self.mask, jnp.ones(x.shape[:2])), jnp.float32)


def hidden(keys: Keys, mask: Float[Array, "B L"], rate: float) -> Float[Array, "B L"]:
    """Hide the whole text of a share of the rows."""
    return jnp.where(noise.bernoulli(keys, rate)[:, None], 0.0, mask)


class Encoder(nn.Module):
    """Encode tokens, or the states of another encoder, with a bidirectional transformer.

    A learned first state is always visible: what is hidden or empty has this one alone.

    Attributes:
      width: of the states.
      layers: of the transformer; 0 for none.
      vocabulary: of tokens; 0 for states.
      dtype: of the computation; parameters are float32.
    """

    width: int
    layers: int
    vocabulary: int
    dtype: Literal["float32", "bfloat16"] = "float32"

    @nn.compact
    def __call__(
        self, x: Array, mask: Float[Array, "B L"], keys: Keys | None = None
    ) -> tuple[Float[Array, "B L+1 W"], Float[Array, "B L+1"]]:
        """Return the states with the first one before them, and their mask."""
        if self.vocabulary:
            table = self.param("token_embedding", nn.initializers.normal(0.02), (self.vocabulary, self.width))
            h = lookup(table, x.astype(jnp.int32)).astype(self.dtype)
        else:
            h = Linear(self.width, True, x.shape[-1] ** -0.5, self.dtype, name="in")(x)
        first = self.param("first", nn.initializers.normal(0.02), (self.width,)).astype(self.dtype)
        h = jnp.concatenate([jnp.broadcast_to(first[None, None], (h.shape[0], 1, self.width)), h], axis=1)
        mask = jnp.concatenate([jnp.ones_like(mask[:, :1]), mask], axis=1)
        if self.layers:
            # About 32 features in a head, and an even number, which rotary positions need.
            heads = math.gcd(max(self.width // 32, 1), self.width // 2)
            stack = Stack(
                self.layers, heads, self.width, 4 * self.width, causal=False, rope=True, dtype=self.dtype
            )
            places = jnp.broadcast_to(jnp.arange(h.shape[1])[None], h.shape[:2])
            h, _ = Transformer(stack, name="encoder")(h, places, None, keys, mask=mask)
        return h, mask
