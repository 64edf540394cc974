"""Time implementations of causal attention against PyTorch's scaled_dot_product_attention, in float32.

    python -m experiments.benchmarks.attention [--lengths 64 512 4096] [--rounds 5]

The forward pass, and the forward and backward pass, are timed separately. "dense" and "chunked" are
nn.attention's implementations; "positions first" is the same computation with the usual "bthd,bshd->bhts"
products; "jax" is the XLA implementation of jax.nn.dot_product_attention. torch has no windows: it is given
the mask instead. All outputs or gradients are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import harness
from genjax.nn.attention import Rule, attend

CASES = {64: (12, 4, 32), 512: (4, 4, 32), 4096: (1, 4, 32)}
"""Length -> (batch, heads, features of a head)."""


def positions_first(q: jax.Array, k: jax.Array, v: jax.Array, window: int) -> jax.Array:
    """Compute causal attention in the usual layout: batch, positions, heads, features."""
    away = jnp.arange(q.shape[1])[:, None] - jnp.arange(k.shape[1])[None, :]
    seen = (away >= 0) & ((away < window) if window else True)
    scores = jnp.einsum("bthd,bshd->bhts", q * q.shape[-1] ** -0.5, k)
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(jnp.where(seen, scores, -1e30)), v)


def ours(window: int, implementation: Any) -> Callable:
    """Return nn.attention.attend with one of its implementations."""
    rule = Rule(causal=True, window=window)
    return lambda q, k, v: attend(q, k, v, rule, implementation=implementation)


def builtin(window: int) -> Callable:
    """Return jax.nn.dot_product_attention in its XLA implementation."""
    local = (window - 1, 0) if window else None
    return lambda q, k, v: jax.nn.dot_product_attention(
        q, k, v, is_causal=True, local_window_size=local, implementation="xla"
    )


def torch_call(arrays: list[np.ndarray], gradient: np.ndarray, window: int, backward: bool) -> Callable:
    """Return PyTorch's call on the same arrays, B T H D: the output, or its three gradients."""
    import torch

    length = gradient.shape[1]
    tensors = [torch.tensor(x.transpose(0, 2, 1, 3).copy(), requires_grad=backward) for x in arrays]
    mask = None
    if window:
        away = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        mask = (away >= 0) & (away < window)
    g = torch.tensor(gradient.transpose(0, 2, 1, 3).copy())

    def call() -> Any:
        out = torch.nn.functional.scaled_dot_product_attention(
            *tensors, attn_mask=mask, is_causal=mask is None
        )
        return torch.autograd.grad(out, tensors, g) if backward else out

    return call


def thunks(length: int, window: int, backward: bool) -> dict[str, Callable]:
    """Return each implementation's call on the same inputs.

    Raises:
      SystemExit: if two of them compute different values.
    """
    batch, heads, features = CASES[length]
    r = np.random.default_rng(0)
    q, k, v, g = (r.normal(size=(batch, length, heads, features)).astype(np.float32) for _ in range(4))
    forms = {
        "dense": ours(window, "dense"),
        "chunked": ours(window, "chunked"),
        "positions first": lambda q, k, v: positions_first(q, k, v, window),
        "jax": builtin(window),
    }
    arrays = [jnp.asarray(x) for x in (q, k, v)]

    def call(form: Callable) -> Callable:
        if not backward:
            run = jax.jit(form)
            return lambda: run(*arrays)
        run = jax.jit(lambda q, k, v, g: jax.vjp(form, q, k, v)[1](g))
        return lambda: run(*arrays, g)

    peer = torch_call([q, k, v], g, window, backward)
    found = {name: call(form) for name, form in forms.items()} | {"torch": peer}
    theirs = peer()
    theirs = [x.detach().numpy().transpose(0, 2, 1, 3) for x in (theirs if backward else [theirs])]
    for name in forms:
        for a, b in zip(jax.tree.leaves(found[name]()), theirs, strict=True):
            if np.abs(np.asarray(a) - b).max() > 1e-4 * np.abs(b).max():
                raise SystemExit(f"{name} and torch differ at length {length}, window {window}")
    return found


def main() -> None:
    """Check that all implementations agree, time them and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--window", type=int, default=256, help="window of the second table of the longest length"
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    harness.torch_threads()
    for length in args.lengths:
        for window in (0, args.window) if length >= 4096 else (0,):
            for backward in (False, True):
                calls = thunks(length, window, backward)
                rows = harness.compare(
                    calls, rounds=args.rounds, burst=1 if length >= 4096 else 5, warmup=1, reference="torch"
                )
                what = "forward and backward" if backward else "forward"
                batch, heads, features = CASES[length]
                size = f"{batch} x {length}, {heads} heads of {features}" + (
                    f", window {window}" * bool(window)
                )
                print(harness.markdown(rows, f"attention, {what}: {size}"), end="\n\n")


if __name__ == "__main__":
    main()
