"""Time the VAE training step against PyTorch's: the same MLP, batch and Adam, in float32 and one process.

    python -m experiments.benchmarks.vae [--rounds 20] [--hidden 400] [--latent 20] [--batch 128]

The genjax side is the real step (training.step.make_step: noise, gradient, Adam, state donated) under jit,
from the data's bytes. The torch side is the usual module (784-400-20, binary cross-entropy with logits, the
KL term in closed form, torch.optim.Adam(fused)) on images already in float32, eager and under torch.compile.
Both start from the same weights. The losses of the first two steps, with the same noise, are compared before
anything is timed, so that both compute the same function and the same update.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import harness
from genjax.core import Element, Spec, row_keys
from genjax.models import vae
from genjax.training import step as training

SIDE = 28
LEVELS = 256
RATE = 1e-3


def genjax_step(size: argparse.Namespace, image: np.ndarray) -> tuple[Callable, dict, Callable]:
    """Return (a step that returns its metrics, the initial parameters as NumPy arrays, step -> noise)."""
    spec = Spec({"image": Element((SIDE, SIDE, 1), "uint8", LEVELS, kind="image", role="target")})
    config = vae.Config(latent=size.latent, network="mlp", hidden=(size.hidden,), likelihood="bernoulli")
    model = vae.build(config, spec)
    optimizers = {"vae": optax.adam(RATE)}
    batch = {"image": jnp.asarray(image), "mask": jnp.ones(len(image))}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    params = jax.tree.map(np.array, state.variables.params["vae"])
    compiled = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root = jax.random.key(1)
    box = [state]

    def step():
        box[0], metrics = compiled(box[0], {}, batch, root, ("vae",))
        return metrics

    def noise(n: int) -> np.ndarray:
        keys = row_keys(root, n, jnp.arange(len(image)))
        return np.array(jax.vmap(lambda key: jax.random.normal(key, (size.latent,)))(keys))

    return step, params, noise


def torch_step(size: argparse.Namespace, image: np.ndarray, params: dict, compiled: bool) -> Callable:
    """Return a step of the same model in PyTorch, from the same parameters; it returns the loss."""
    import torch
    from torch import nn
    from torch.nn import functional

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            pixels = SIDE * SIDE
            self.encode = nn.Linear(pixels, size.hidden)
            self.posterior = nn.Linear(size.hidden, 2 * size.latent)
            self.decode = nn.Linear(size.latent, size.hidden)
            self.out = nn.Linear(size.hidden, pixels)

        def forward(self, x, target, noise):
            mean, log_std = self.posterior(functional.silu(self.encode(x))).chunk(2, -1)
            logits = self.out(functional.silu(self.decode(mean + log_std.exp() * noise)))
            distortion = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
            kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum()
            return (distortion + kl) / len(x)

    model = VAE()
    layers = {
        model.encode: params["encoder"]["body"]["dense_0"],
        model.posterior: params["encoder"]["posterior"],
        model.decode: params["decoder"]["body"]["dense_0"],
        model.out: params["decoder"]["out"],
    }
    with torch.no_grad():
        for layer, p in layers.items():
            layer.weight.copy_(torch.tensor(p["kernel"].T.copy()))
            layer.bias.copy_(torch.tensor(p["bias"]))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    target = torch.tensor(image.reshape(len(image), -1) / np.float32(LEVELS - 1), dtype=torch.float32)
    forward = torch.compile(model) if compiled else model

    def step(noise: np.ndarray | None = None):
        z = torch.randn(len(image), size.latent) if noise is None else torch.tensor(noise)
        optimizer.zero_grad(set_to_none=True)
        loss = forward(target, target, z)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def main() -> None:
    """Check that both sides compute the same losses, time them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {"hidden": 400, "latent": 20, "batch": 128, "rounds": 20, "burst": 20}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    image = np.random.default_rng(0).integers(0, LEVELS, (args.batch, SIDE, SIDE, 1)).astype(np.uint8)
    ours, params, noise = genjax_step(args, image)
    thunks = {"genjax": ours, "torch eager": torch_step(args, image, params, compiled=False)}
    if not args.no_compile:
        thunks["torch.compile"] = torch_step(args, image, params, compiled=True)
    first = [float(ours()["vae/loss"].value) for _ in range(2)]
    for name, theirs in list(thunks.items())[1:]:
        for n, loss in enumerate(first):
            other = float(theirs(noise(n)))
            if not math.isclose(loss, other, rel_tol=1e-5 if n == 0 else 1e-4):
                raise SystemExit(f"losses of step {n} differ: genjax {loss}, {name} {other}")
    rows = harness.compare(thunks, rounds=args.rounds, burst=args.burst, reference="torch eager")
    size = f"{SIDE * SIDE}-{args.hidden}-{args.latent}, batch {args.batch}"
    print(harness.markdown(rows, f"VAE step: {size}"))


if __name__ == "__main__":
    main()
