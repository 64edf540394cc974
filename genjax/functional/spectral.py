"""Divide kernels by their largest singular value (Miyato et al. 2018, arXiv:1802.05957, algorithm 1).

A kernel (..., D) is a matrix with D columns. Its singular value is estimated by power iteration from a
vector u (D,) that is kept from step to step. Vectors are a flat dict {path of the kernel: u}.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.core import Tree

Vectors = dict[str, Any]


def vectors(key: jax.Array, params: Tree) -> Vectors:
    """Return a random unit vector for every leaf of `params` that is named kernel."""
    drawn = {}
    for n, (path, x) in enumerate(jax.tree_util.tree_leaves_with_path(params)):
        if x.ndim > 1 and _name(path).split(".")[-1] == "kernel":
            drawn[_name(path)] = _unit(jax.random.normal(jax.random.fold_in(key, n), x.shape[-1:]))
    return drawn


def iterated(params: Tree, vectors: Vectors, rounds: int = 1) -> Vectors:
    """Return the vectors after `rounds` power iterations; no gradient flows into them."""
    kernels = {_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)}
    new = {}
    for name, u in vectors.items():
        w = jax.lax.stop_gradient(_matrix(kernels[name]))
        for _ in range(rounds):
            u = _unit(_unit(w @ u) @ w)
        new[name] = u
    return new


def normalised(params: Tree, vectors: Vectors) -> Tree:
    """Return the params with each kernel divided by sigma = v^T W u, v = W u / |W u|.

    u and v are constants of the gradient (appendix A).
    """

    def one(path: Any, x: jax.Array) -> jax.Array:
        u = vectors.get(_name(path))
        if u is None:
            return x
        w = _matrix(x)
        u = jax.lax.stop_gradient(u)
        v = _unit(jax.lax.stop_gradient(w @ u))
        return x / (v @ w @ u)

    return jax.tree_util.tree_map_with_path(one, params)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _matrix(kernel: jax.Array) -> Float[Array, "I D"]:
    return kernel.reshape(-1, kernel.shape[-1])


def _unit(x: Float[Array, " D"]) -> Float[Array, " D"]:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
