"""Hold a codec of real-valued codes with its learned variables."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Batch, Codec, Model, Spec, Variables
from genjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class Space:
    """Encode rows and decode codes.

    Attributes:
      codec: of the model.
      variables: finished (`Model.finish`).
      spec: of the data.
      name: of the codes.
    """

    codec: Codec
    variables: Variables
    spec: Spec
    name: str

    @classmethod
    def of(cls, model: Model, variables: Variables, spec: Spec) -> Space:
        """Return the space of a model's codes.

        Raises:
          ConfigError: the model has no codec, or its codes are not one real-valued array per row.
        """
        if model.codec is None:
            raise ConfigError(
                "the model has no codec: it encodes nothing",
                "use a run of a VAE or a flow; GANs have project, mix, factors and curve",
            )
        codes = model.codec.spec(spec)
        names = codes.targets
        if len(names) != 1 or codes[names[0]].levels:
            raise ConfigError(
                f"its codes {', '.join(names)} are not one real-valued array per row",
                "use a codec of real-valued codes, such as a VAE: whole numbers have no directions",
            )
        return cls(model.codec, variables, spec, names[0])

    def encode(self, batch: Batch) -> Float[Array, "B *Z"]:
        """Return the codes of rows; of a posterior, its mean."""
        return _encode(self.codec, self.name, self.variables, batch)

    def decode(self, codes: Float[Array, "B *Z"], given: Batch) -> Batch:
        """Return the targets of the data for these codes.

        Args:
          given: the conditions of each row, where the decoder reads some.
        """
        rows = _decode(self.codec, self.variables, {**self.conditions(given), self.name: codes})
        return {name: rows[name] for name in self.spec.targets}

    def expected(self, codes: Float[Array, "B *Z"], given: Batch) -> Batch:
        """Return what `decode` rounds, in the units of the data; differentiable in the codes.

        Values are clipped to the levels, as those of `decode` are; the gradient passes the clipping.

        Raises:
          ConfigError: the codec does not define it.
        """
        if self.codec.expected is None:
            raise ConfigError("the codec's decoder has no gradient", "use a VAE or a flow")
        found = self.codec.expected(self.variables, {**self.conditions(given), self.name: codes})
        return {name: clipped(x, self.spec[name].levels) for name, x in found.items()}

    def conditions(self, rows: Batch) -> Batch:
        """Return the conditions among the columns of `rows`."""
        return {name: jnp.asarray(rows[name]) for name in self.spec.conditions if name in rows}


def clipped(x: Float[Array, "B *shape"], levels: int | None) -> Float[Array, "B *shape"]:
    """Clip to [0, levels) with the gradient of x: a value that was clipped wrongly can still move back."""
    return x + jax.lax.stop_gradient(jnp.clip(x, 0, levels - 1) - x) if levels else x


def _encode_rows(codec: Codec, name: str, variables: Variables, batch: Batch) -> jax.Array:
    return codec.encode(variables, batch)[name]


def _decode_rows(codec: Codec, variables: Variables, codes: Batch) -> Batch:
    return codec.decode(variables, codes)


_encode: Any = jax.jit(_encode_rows, static_argnums=(0, 1))
_decode: Any = jax.jit(_decode_rows, static_argnums=0)
