"""Draw noise from the keys of rows: row i is a function of key i alone, however rows are grouped."""

from __future__ import annotations

from typing import overload

import jax
from jaxtyping import Array, Bool, Float, Int

from genjax.core import Keys


@overload
def fold(keys: None, site: int | jax.Array) -> None: ...
@overload
def fold(keys: Keys, site: int | jax.Array) -> Keys: ...
@overload
def fold(keys: Keys | None, site: int | jax.Array) -> Keys | None: ...
def fold(keys: Keys | None, site: int | jax.Array) -> Keys | None:
    """Return fold_in(key, site) per row: the keys of one more source of noise. None (no noise) stays None."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, site)


def normal(keys: Keys, shape: tuple[int, ...]) -> Float[Array, "B *shape"]:
    """Draw standard normal rows, float32."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def truncated_normal(keys: Keys, shape: tuple[int, ...], most: float) -> Float[Array, "B *shape"]:
    """Draw standard normal rows whose absolute values are at most `most`, float32."""
    return jax.vmap(lambda key: jax.random.truncated_normal(key, -most, most, shape))(keys)


def uniform(keys: Keys) -> Float[Array, " B"]:
    """Draw one number in [0, 1) per row."""
    return jax.vmap(lambda key: jax.random.uniform(key))(keys)


def bernoulli(keys: Keys, rate: float) -> Bool[Array, " B"]:
    """Draw True with probability `rate` per row."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)


def integers(keys: Keys, low: int, high: int) -> Int[Array, " B"]:
    """Draw one int32 in [low, high) per row."""
    return jax.vmap(lambda key: jax.random.randint(key, (), low, high))(keys)
