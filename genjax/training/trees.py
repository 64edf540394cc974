"""Describe trees by the paths of their leaves, compare two of them, and compute checksums of their values."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from genjax.core import Tree


def name(path: Any) -> str:
    """Return a leaf's path as text: variables/params/decoder/dense_0/kernel."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named(tree: Tree) -> dict[str, Any]:
    """Return the leaves by their paths, in the tree's order."""
    return {name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(tree: Tree) -> dict[str, list[Any]]:
    """Return {path: [shape, dtype]} of a tree of arrays or shapes."""
    return {path: entry(x) for path, x in named(tree).items()}


def entry(x: Any) -> list[Any]:
    """Return [shape, dtype] as plain data."""
    return [list(x.shape), str(x.dtype)]


def _show(entry: Any) -> str:
    return f"{entry[1]}{tuple(entry[0])}"


def difference(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Describe the first leaf by which two described trees differ; None if they are equal."""
    for path, entry in wanted.items():
        if path not in saved:
            return f"it has no leaf {path} {_show(entry)}"
        if list(saved[path]) != list(entry):
            return f"leaf {path} is {_show(saved[path])} there and {_show(entry)} here"
    extra = next((p for p in saved if p not in wanted), None)
    return f"its leaf {extra} {_show(saved[extra])} is not in this model" if extra else None


def unlike(saved: Any, here: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Return (dotted key, value there, value here) of each difference between nested plain data."""
    if isinstance(saved, Mapping) and isinstance(here, Mapping):
        keys = [*here, *(k for k in saved if k not in here)]
        return [d for k in keys for d in unlike(saved.get(k), here.get(k), f"{path}.{k}" if path else str(k))]
    return [] if saved == here else [(path, saved, here)]


def digest(variables: Tree) -> str:
    """Return the sha256 over paths, shapes, dtypes and values: it identifies a frozen stage."""
    h = hashlib.sha256()
    for path, x in named(variables).items():
        value = np.asarray(jax.device_get(x))
        h.update(f"{path}{value.dtype}{value.shape}".encode())
        h.update(np.ascontiguousarray(value).tobytes())
    return h.hexdigest()


def checksums(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    """Compute a checksum of each leaf on its own devices, {path: sum}.

    Orbax and the formats that it writes do not detect a flipped bit in an array.
    """
    if not arrays:
        return {}
    meshes = [x.sharding.mesh for x in arrays.values() if isinstance(x.sharding, NamedSharding)]
    # Replicated, so that every process can read sums of leaves that are sharded over processes.
    whole = NamedSharding(meshes[0], PartitionSpec()) if meshes else None
    sums = np.asarray(_sum_all(whole)(list(arrays.values())))
    return dict(zip(arrays, sums.tolist(), strict=True))


@functools.cache
def _sum_all(sharding: NamedSharding | None) -> Callable[[list[jax.Array]], jax.Array]:
    """Return the compiled function arrays -> their checksums."""
    return jax.jit(lambda arrays: jnp.stack([_sum(x) for x in arrays]), out_shardings=sharding)


def _sum(x: jax.Array) -> jax.Array:
    """Sum the bits times odd weights by position, mod 2^32: the same for every sharding of the array."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{min(8 * x.dtype.itemsize, 32)}")).astype(
        jnp.uint32
    )
    weight = jnp.ones(bits.shape, jnp.uint32)
    for n, prime in zip(
        range(bits.ndim), itertools.cycle((2654435761, 2246822519, 3266489917)), strict=False
    ):
        weight = weight * (2 * jax.lax.broadcasted_iota(jnp.uint32, bits.shape, n) + 1) + jnp.uint32(
            prime & ~1
        )
    return (bits * weight).sum(dtype=jnp.uint32)
