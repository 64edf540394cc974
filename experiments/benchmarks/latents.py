"""Time training steps of models with latent variables against PyTorch's, in float32 and one process.

    python -m experiments.benchmarks.latents [--rounds 10] [--batch 64]

A convolutional VAE, a VQ-VAE with a codebook of moving averages, and RealNVP, on 28x28 images. The genjax
side is the real step (training.step.make_step: noise, gradient, Adam, state donated) under jit, from the
bytes of the data. The torch side (latents_torch.py) has the same weights and torch.optim.Adam(fused). The
losses of the first two steps, with the same noise, are compared before anything is timed. Then: images per
second that the VAE and RealNVP sample, and the memory of the importance-weighted likelihood for few and for
many draws.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import harness
from genjax.core import Element, Model, Spec, Variables, row_keys
from genjax.models import flow, vae, vqvae
from genjax.training import step as training

SIDE = 28
LEVELS = 256
RATE = 1e-3
SPEC = Spec({"image": Element((SIDE, SIDE, 1), "uint8", LEVELS, kind="image", role="target")})
LATENT = 16
CHECKERBOARD, STEPS = 4, 4


class Ours(NamedTuple):
    """Hold the genjax side.

    Attributes:
      step: runs one step and returns its metrics.
      loss: the name of the loss among them.
      start: the initial variables.
      key: of step n, for the rows' keys.
    """

    step: Callable[[], dict[str, Any]]
    loss: str
    start: Variables
    key: jax.Array


def ours(model: Model, player: str, image: np.ndarray) -> Ours:
    """Return the genjax side of a model with one player."""
    optimizers = {player: optax.adam(RATE)}
    batch = {"image": jnp.asarray(image), "mask": jnp.ones(len(image))}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    start = jax.tree.map(np.array, state.variables)
    (phase,) = model.phases
    compiled = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root = jax.random.key(1)
    box = [state]

    def step() -> dict[str, Any]:
        box[0], metrics = compiled(box[0], {}, batch, root, (phase,))
        return metrics

    return Ours(step, f"{phase}/loss", start, root)


def paths(tree: Any) -> dict[str, np.ndarray]:
    """Return {path: array}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves}


def theirs(peer: Any, image: np.ndarray, draw: Callable[[], Any], compiled: bool) -> Callable:
    """Return a step of a torch module that returns its loss; `draw` makes the noise."""
    import torch

    optimizer = torch.optim.Adam(peer.parameters(), lr=RATE, fused=True)
    x = torch.tensor(image.transpose(0, 3, 1, 2).astype(np.float32))
    forward = torch.compile(peer) if compiled else peer

    def step(noise: np.ndarray | None = None):
        z = draw() if noise is None else torch.tensor(noise)
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, z)
        loss.backward()
        optimizer.step()
        peer.learn()
        return loss.detach()

    return step


def cases(batch: int) -> dict[str, tuple[Model, str, Callable[[Variables], Any], Callable, Callable]]:
    """Return {name: (model, player, the peer of its variables, noise of row keys, torch's noise)}."""
    import torch

    from experiments.benchmarks import latents_torch as peers

    conv = vae.build(vae.Config(latent=LATENT, likelihood="bernoulli"), SPEC)
    vq = vqvae.Config(likelihood="normal", revive=0.0)
    nvp = flow.Config(mixing="reverse", checkerboard=CHECKERBOARD, steps=STEPS)
    normal = jax.vmap(lambda key: jax.random.normal(key, (LATENT,)))
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (SIDE, SIDE, 1)))
    return {
        "VAE, convolutional": (
            conv,
            "vae",
            lambda v: peers.VAE(paths(v.params["vae"])),
            normal,
            lambda: torch.randn(batch, LATENT),
        ),
        "VQ-VAE": (
            vqvae.build(vq, SPEC),
            "codec",
            lambda v: peers.VQVAE(
                paths(v.params["codec"]), v.state["quantiser"]["book_000"]._asdict(), vq.smallest
            ),
            lambda keys: jnp.zeros(1),
            lambda: torch.zeros(1),
        ),
        "RealNVP": (
            flow.build(nvp, SPEC),
            "flow",
            lambda v: peers.RealNVP(paths(v.params["flow"]), CHECKERBOARD, STEPS),
            lambda keys: uniform(keys).transpose(0, 3, 1, 2),
            lambda: torch.rand(batch, 1, SIDE, SIDE),
        ),
    }


def compare(name: str, case: tuple, args: argparse.Namespace, image: np.ndarray) -> None:
    """Check that both sides compute the same losses, time them and print the table."""
    model, player, peer, noise, draw = case
    mine = ours(model, player, image)
    thunks: dict[str, Callable] = {"genjax": mine.step}
    thunks["torch eager"] = theirs(peer(mine.start), image, draw, compiled=False)
    if not args.no_compile:
        thunks["torch.compile"] = theirs(peer(mine.start), image, draw, compiled=True)
    first = [float(mine.step()[mine.loss].value) for _ in range(2)]
    for other, step in list(thunks.items())[1:]:
        for n, loss in enumerate(first):
            keys = row_keys(mine.key, n, jnp.arange(len(image)))
            found = float(step(np.array(noise(keys))))
            if not math.isclose(loss, found, rel_tol=1e-5 if n == 0 else 3e-4):
                raise SystemExit(f"{name}: losses of step {n} differ: genjax {loss}, {other} {found}")
    rows = harness.compare(thunks, rounds=args.rounds, burst=args.burst, reference="torch eager")
    print(harness.markdown(rows, f"{name}: step, {SIDE}x{SIDE}, batch {len(image)}"))
    print(flush=True)


def throughput(name: str, model: Model, batch: int, rounds: int) -> None:
    """Print how many images per second a model samples."""
    example = {**SPEC.example(batch), "mask": jnp.ones(batch)}
    variables = jax.jit(lambda key: model.init(key, example, {}))(jax.random.key(0))
    assert model.sample is not None
    sample = jax.jit(model.sample)
    keys = row_keys(jax.random.key(2), 0, jnp.arange(batch))
    harness.wait(sample(variables, keys, {}))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        harness.wait(sample(variables, keys, {}))
        times.append(time.perf_counter() - start)
    print(f"| {name} | {batch / np.median(times):,.0f} |")


def memory(model: Model, batch: int) -> None:
    """Print the temporary memory of the compiled importance-weighted likelihood, by the number of draws."""
    example = {**SPEC.example(batch), "mask": jnp.ones(batch)}
    variables = jax.eval_shape(lambda key: model.init(key, example, {}), jax.random.key(0))
    keys = jax.eval_shape(lambda: row_keys(jax.random.key(2), 0, jnp.arange(batch)))
    assert model.likelihood is not None
    for draws in (1, 50, 5000):
        call = jax.jit(model.likelihood, static_argnames="samples")
        found = call.lower(variables, example, keys, samples=draws).compile().memory_analysis()
        assert found is not None
        print(f"| {draws:,} | {found.temp_size_in_bytes / 2**20:.1f} |")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"batch": 64, "rounds": 10, "burst": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    image = np.random.default_rng(0).integers(0, LEVELS, (args.batch, SIDE, SIDE, 1)).astype(np.uint8)
    every = cases(args.batch)
    for name, case in every.items():
        compare(name, case, args, image)
    print(f"| sampling, batch {args.batch} | images per second |\n|---|---|")
    for name in ("VAE, convolutional", "RealNVP"):
        throughput(name, every[name][0], args.batch, args.rounds)
    print(f"\n| draws of the VAE's likelihood, batch {args.batch} | temporary memory, MiB |\n|---|---|")
    memory(vae.build(vae.Config(latent=LATENT), SPEC), args.batch)


if __name__ == "__main__":
    main()
