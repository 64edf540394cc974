"""Time parts of adversarial networks against PyTorch's, in float32 and one process.

    python -m experiments.benchmarks.adversarial [--rounds 8] [--batch 32]

A block of BigGAN's generator (two convolutions, batch norms that read the class and z) and the synthesis of
StyleGAN2 (modulated convolutions, filters, skip images), from the same weights: forward, and forward with the
gradients of the weights and the inputs. Outputs and gradients are compared before anything is timed. Then:
images per second that generators draw, and the seconds that compiling a training step takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import harness
from genjax.core import Element, Spec, Tree, row_keys
from genjax.models import gan
from genjax.nn.gans import resnet, stylegan2
from genjax.training import step as training
from genjax.training.trees import named

SIDE = 32
SPEC = Spec(
    {
        "image": Element((SIDE, SIDE, 3), "uint8", 256, kind="image", role="target"),
        "label": Element((), "int32", 10, kind="label", role="condition"),
    }
)
NETWORKS = {
    "DCGAN": {"name": "dcgan", "width": 32},
    "BigGAN": {"name": "resnet", "width": 32, "widest": 128, "skip": True, "shared": 32, "attention": (16,)},
    "StyleGAN2": {"name": "stylegan2", "width": 32, "widest": 128, "style": 64},
    "R3GAN": {"name": "r3gan", "width": 32, "widest": 128, "blocks": 1},
}


class Case(NamedTuple):
    """Hold a function of (params, inputs) and its parameters.

    Attributes:
      apply: (params, *inputs) -> output (B, H, W, C).
      params: NumPy arrays.
      inputs: NumPy arrays, images as B H W C.
      peer: the name of the class in adversarial_torch.py.
    """

    apply: Callable[..., jax.Array]
    params: Tree
    inputs: tuple[np.ndarray, ...]
    peer: str


def cases(batch: int) -> dict[str, Case]:
    """Return what is timed, by name."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    block = resnet.Up(resnet.Config(width=64, skip=True), 64)
    inputs = (draw(batch, 16, 16, 128), draw(batch, 48))
    made: Any = jax.jit(lambda key: block.init(key, *inputs, True))(jax.random.key(0))
    statistics = made["batch_stats"]

    def up(params: Tree, x: jax.Array, given: jax.Array) -> jax.Array:
        found: Any = block.apply(
            {"params": params, "batch_stats": statistics}, x, given, True, mutable=["batch_stats"]
        )
        return found[0]

    config = stylegan2.Config(width=32, widest=128, style=64, noise=False)
    network = stylegan2.generator(config, (SIDE, SIDE, 3))
    z = draw(batch, 64)
    tree: Any = jax.jit(lambda key: network.init(key, z, np.zeros((batch, 0), np.float32), False))(
        jax.random.key(1)
    )
    params = {name: x for name, x in tree["params"].items() if name != "map"}
    styles = draw(batch, network.depth, 64)  # type: ignore[attr-defined]

    def synthesis(params: Tree, styles: jax.Array) -> jax.Array:
        whole = {**tree["params"], **params}
        return network.apply(  # type: ignore[return-value]
            {"params": whole, "batch_stats": tree["batch_stats"]}, styles, None, method="synthesis"
        )

    host = lambda x: jax.tree.map(np.array, x)
    return {
        "BigGAN block 128 to 64 channels, 16x16 to 32x32": Case(
            up, host(made["params"]), inputs, "BigGANBlock"
        ),
        "StyleGAN2 synthesis, 32x32": Case(synthesis, host(params), (styles,), "Synthesis"),
    }


def ours(case: Case) -> tuple[Callable[[], jax.Array], Callable[[], Any]]:
    """Return (forward, forward with the gradients of the sum of squares)."""
    forward = jax.jit(case.apply)
    loss = lambda params, *inputs: jnp.square(case.apply(params, *inputs)).sum()
    both = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(1 + len(case.inputs)))))
    params = jax.tree.map(jnp.asarray, case.params)
    inputs = [jnp.asarray(x) for x in case.inputs]
    return lambda: forward(params, *inputs), lambda: both(params, *inputs)


def theirs(case: Case, *, compiled: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the same in PyTorch; the second returns (loss, gradients of the inputs)."""
    import torch

    from experiments.benchmarks import adversarial_torch

    peer = getattr(adversarial_torch, case.peer)(named(case.params))
    run = torch.compile(peer) if compiled else peer
    channels_first = lambda x: x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
    inputs = [torch.tensor(channels_first(x).copy(), requires_grad=True) for x in case.inputs]

    def forward() -> Any:
        with torch.no_grad():
            return run(*inputs)

    def both() -> Any:
        for p in (*peer.parameters(), *inputs):
            p.grad = None
        loss = run(*inputs).square().sum()
        loss.backward()
        return loss.detach(), [x.grad for x in inputs]

    return forward, both


def difference(case: Case) -> tuple[float, float]:
    """Return the largest differences of the output and of the inputs' gradients, relative to the largest."""
    forward, both = ours(case)
    their_forward, their_both = theirs(case, compiled=False)
    last = lambda x: x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    gap = lambda a, b: float(np.abs(a - b).max() / np.abs(b).max())
    output = gap(np.asarray(forward()), last(their_forward().numpy()))
    _, gradients = both()
    _, slopes = their_both()
    pairs = zip(gradients[1:], slopes, strict=True)
    return output, max(gap(np.asarray(a), last(b.numpy())) for a, b in pairs)


def generation(batch: int, seconds: float = 3.0) -> str:
    """Return a table of images per second, and of the seconds that the first training step takes."""
    lines = ["| network | images per second | first step, s | later steps, ms |", "|---|---|---|---|"]
    for name, network in NETWORKS.items():
        model = gan.build(gan.Config(network=network), SPEC)
        optimizers = {player: optax.adam(1e-3) for player in model.players}
        rows = {
            "image": jnp.zeros((batch, SIDE, SIDE, 3), jnp.uint8),
            "label": jnp.zeros((batch,), jnp.int32),
            "mask": jnp.ones(batch),
        }
        state = jax.jit(lambda key, m=model, o=optimizers, r=rows: training.create(m, o, key, r))(
            jax.random.key(0)
        )
        step = jax.jit(training.make_step(model, optimizers), static_argnums=4)
        root = jax.random.key(1)
        phases = tuple(model.phases)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, {}, rows, root, phases))
            times.append(time.perf_counter() - start)
        sample = jax.jit(lambda v, keys, m=model: m.sample(v, keys, {}))  # type: ignore[misc]
        keys = row_keys(root, 0, jnp.arange(batch))
        jax.block_until_ready(sample(state.variables, keys))
        done = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            jax.block_until_ready(sample(state.variables, keys))
            done += batch
        rate = done / (time.perf_counter() - start)
        lines.append(f"| {name} | {rate:,.0f} | {times[0]:.1f} | {1e3 * min(times[1:]):.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Check that both sides compute the same, time them and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    for name, case in cases(args.batch).items():
        output, slope = difference(case)
        if max(output, slope) > 1e-4:
            raise SystemExit(f"{name}: outputs differ by {output:.2g}, gradients by {slope:.2g}")
        eager = theirs(case, compiled=False)
        compiled = None if args.no_compile else theirs(case, compiled=True)
        for n, way in enumerate(("forward", "forward and gradients")):
            thunks = {"genjax": ours(case)[n], "torch eager": eager[n]}
            if compiled is not None:
                thunks["torch.compile"] = compiled[n]
            rows = harness.compare(thunks, rounds=args.rounds, burst=3, reference="torch eager")
            print(harness.markdown(rows, f"{name}, batch {args.batch}: {way}"))
            print()
    print(f"### Generators of {SIDE}x{SIDE} colour images, batch {args.batch}\n")
    print(generation(args.batch))


if __name__ == "__main__":
    main()
