"""Time a recurrent stack's values and gradients against torch.nn's and against JAX's own derivative.

    python -m experiments.benchmarks.recurrent [--cell lstm] [--layers 2] [--width 256] [--batch 32]

All sides compute sum(outputs * fixed weights) and its gradient with respect to every parameter, from the same
parameters, in float32 and one process; losses and recurrent gradients are compared before anything is timed.
"derived" is the same layer with the scan differentiated by JAX, which adds every step's outer product to the
recurrent kernel's gradient.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import harness
from genjax.nn import recurrent
from genjax.nn.linear import linear


def stack(cell: recurrent.Cell, run: Callable, x: jax.Array, params: list[dict]) -> jax.Array:
    """Compute the T x B x H outputs of a stack of layers; `run` is `unroll` or `derived`."""
    for p in params:
        z = linear(x, p["input"]) + p["bias"][None, None]
        zero = tuple(jnp.zeros((x.shape[1], p["recurrent"].shape[0])) for _ in range(cell.states))
        x = run(cell, p["recurrent"], p["small"], z, zero)[0]
    return x


def derived(cell: recurrent.Cell, kernel, small, inputs, state):
    """Run the cell as a scan with JAX's own derivative; arguments as in `unroll`."""

    def body(state, z):
        r = state[0] @ kernel
        state = cell.step(small, z + r, None, state) if cell.summed else cell.step(small, z, r, state)
        return state, state

    return jax.lax.scan(body, state, inputs)[1]


def weights(shape: argparse.Namespace, cell: recurrent.Cell) -> list[dict]:
    """Draw the parameters of each layer, uniform in +-H**-0.5 as torch's initial ones."""
    r = np.random.default_rng(0)
    H = shape.width
    uniform = lambda *size: jnp.asarray(r.uniform(-(H**-0.5), H**-0.5, size), jnp.float32)
    small = {"candidate_bias": uniform(H)} if shape.cell == "gru" else {}
    G = H * cell.gates
    return [
        {"input": uniform(H, G), "recurrent": uniform(H, G), "bias": uniform(G), "small": small}
        for _ in range(shape.layers)
    ]


def torch_side(shape: argparse.Namespace, x, weight, params: list[dict]) -> tuple[Callable, Callable]:
    """Return torch's (pass that returns the loss, function that returns layer 0's recurrent gradient)."""
    import torch

    kinds = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    module = kinds[shape.cell](shape.width, shape.width, shape.layers)
    to = lambda a: torch.tensor(np.array(a))
    with torch.no_grad():
        for n, p in enumerate(params):
            getattr(module, f"weight_ih_l{n}").copy_(to(p["input"]).T)
            getattr(module, f"weight_hh_l{n}").copy_(to(p["recurrent"]).T)
            getattr(module, f"bias_ih_l{n}").copy_(to(p["bias"]))
            getattr(module, f"bias_hh_l{n}").zero_()
            if p["small"]:
                getattr(module, f"bias_hh_l{n}")[2 * shape.width :] = to(p["small"]["candidate_bias"])
    inputs = to(x)
    outputs = to(weight)

    def run():
        module.zero_grad(set_to_none=True)
        loss = (module(inputs)[0] * outputs).sum()
        loss.backward()
        return loss.detach()

    return run, lambda: module.weight_hh_l0.grad.T.numpy()


def main() -> None:
    """Check that all sides agree, time them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=sorted(recurrent.CELLS), default="lstm")
    defaults = {"layers": 2, "width": 256, "length": 64, "batch": 32, "rounds": 12, "burst": 3, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    harness.torch_threads(args.threads)
    cell = recurrent.CELLS[args.cell]
    r = np.random.default_rng(1)
    size = (args.length, args.batch, args.width)
    x, weight = (jnp.asarray(r.normal(size=size), jnp.float32) for _ in range(2))
    params = weights(args, cell)
    sides = {}
    for name, run in (("genjax", recurrent.unroll), ("derived", derived)):
        loss = lambda p, run=run: (stack(cell, run, x, p) * weight).sum()
        take = jax.jit(jax.value_and_grad(loss))
        sides[name] = lambda take=take: take(params)
    theirs, gradient = torch_side(args, x, weight, params)
    expected = float(theirs())
    for name, thunk in sides.items():
        value, grads = thunk()
        g = np.asarray(grads[0]["recurrent"])
        far = np.abs(g - gradient()).max() / np.abs(gradient()).max()
        if abs(float(value) - expected) > 1e-3 * abs(expected) or far > 1e-4:
            raise SystemExit(
                f"{name} and torch differ: losses {float(value)} and {expected}; gradients by {far:.1e}"
            )
    thunks = {**sides, "torch": theirs}
    rows = harness.compare(thunks, rounds=args.rounds, burst=args.burst, reference="torch")
    title = f"{args.cell}, {args.layers} layers of {args.width}, batch {args.batch}, {args.length} steps"
    print(harness.markdown(rows, f"Recurrent stack, values and gradients: {title}"))


if __name__ == "__main__":
    main()
