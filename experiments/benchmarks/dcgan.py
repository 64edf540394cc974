"""Time the DCGAN training step, both players' updates, against PyTorch's, in float32 and one process.

    python -m experiments.benchmarks.dcgan [--rounds 10] [--width 32] [--latent 64] [--batch 64] [--side 28]

The genjax side is the real step (training.step.make_step: noise, both gradients, both Adams, batch
statistics, state donated) under jit, from the data's bytes. The torch side is the usual training loop: one
fake batch serves both players, losses are softplus of logits, torch.optim.Adam(fused), images already in
float32; eager, eager in channels_last, and with both modules under torch.compile. All start from the same
weights. Both losses of the first two steps, with the same noise, are compared before anything is timed: the
generator's first loss depends on one discriminator update, the losses of the second step on all updates.
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
from genjax.models import gan
from genjax.nn.conv import halvings
from genjax.training import step as training

LEVELS = 256
RATE = 2e-4
BETAS = (0.5, 0.999)
PHASES = ("discriminator", "generator")


def genjax_step(size: argparse.Namespace, image: np.ndarray) -> tuple[Callable, dict, Callable]:
    """Return (a step that returns its metrics, the initial parameters as NumPy arrays, step -> noise)."""
    spec = Spec({"image": Element(image.shape[1:], "uint8", LEVELS, kind="image", role="target")})
    network = {"name": "dcgan", "width": size.width}
    model = gan.build(gan.Config(network=network, latent=size.latent), spec)
    optimizers = {player: optax.adam(RATE, *BETAS) for player in PHASES}
    batch = {"image": jnp.asarray(image), "mask": jnp.ones(len(image))}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    params = jax.tree.map(np.array, state.variables.params)
    critic = params["discriminator"]
    params["discriminator"] = {**critic["network"], "out": critic["out"]}
    compiled = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root = jax.random.key(1)
    box = [state]

    def step():
        box[0], metrics = compiled(box[0], {}, batch, root, PHASES)
        return metrics

    def noise(n: int) -> np.ndarray:
        keys = row_keys(root, n, jnp.arange(len(image)))
        return np.array(jax.vmap(lambda key: jax.random.normal(key, (size.latent,)))(keys))

    return step, params, noise


def torch_players(size: argparse.Namespace, params: dict):
    """Return (generator, discriminator) as torch modules with these parameters."""
    from torch import nn

    n = halvings(size.side, size.side)
    w = size.width
    low = size.side // 2**n
    generator = nn.Sequential(
        nn.Linear(size.latent, w * 2**n * low * low, bias=False),
        nn.Unflatten(1, (w * 2**n, low, low)),
        nn.BatchNorm2d(w * 2**n),
        nn.ReLU(),
    )
    up = []
    for i in reversed(range(n)):
        up.append(nn.ConvTranspose2d(w * 2 ** (i + 1), w * 2**i, 4, 2, 1, bias=False))
        generator.extend([up[-1], nn.BatchNorm2d(w * 2**i), nn.ReLU()])
    last = nn.Conv2d(w, 1, 3, 1, 1)
    generator.extend([last, nn.Tanh()])
    first = nn.Conv2d(1, w, 3, 1, 1)
    discriminator = nn.Sequential(first, nn.LeakyReLU(0.2))
    down = [nn.Conv2d(w * 2**i, w * 2 ** (i + 1), 4, 2, 1) for i in range(n)]
    for layer in down:
        discriminator.extend([layer, nn.LeakyReLU(0.2)])
    head = nn.Linear(w * 2**n * low * low, 1)
    discriminator.extend([nn.Flatten(), head, nn.Flatten(0)])
    g = params["generator"]
    d = params["discriminator"]
    # Features are flattened as H W C in genjax and as C H W in torch.
    grid = (low, low, w * 2**n)
    put(
        generator[0].weight,
        g["in"]["kernel"].reshape(-1, *grid).transpose(3, 1, 2, 0).reshape(-1, size.latent),
    )
    put(head.weight, d["out"]["kernel"].reshape(grid).transpose(2, 0, 1).reshape(1, -1))
    put(head.bias, d["out"]["bias"])
    # torch's transposed convolution mirrors its kernel.
    for i, layer in zip(reversed(range(n)), up, strict=True):
        put(layer.weight, g[f"up_{i}"]["kernel"][::-1, ::-1].transpose(2, 3, 0, 1))
    convolutions = {last: g["out"], first: d["in"], **{x: d[f"down_{i}"] for i, x in enumerate(down)}}
    for layer, p in convolutions.items():
        put(layer.weight, p["kernel"].transpose(3, 2, 0, 1))
        put(layer.bias, p["bias"])
    # Batch norms start at scale 1 and shift 0 on both sides.
    return generator, discriminator


def put(to, value: np.ndarray) -> None:
    """Copy an array into a torch parameter."""
    import torch

    with torch.no_grad():
        to.copy_(torch.tensor(value.copy()))


def torch_step(size: argparse.Namespace, image: np.ndarray, params: dict, form: str) -> Callable:
    """Return a step of both players in PyTorch; it returns (discriminator's loss, generator's loss).

    Args:
      form: "eager", "channels_last" or "compile".
    """
    import torch
    from torch.nn.functional import softplus

    layout = torch.channels_last if form == "channels_last" else torch.contiguous_format
    generator, discriminator = torch_players(size, params)
    for module in (generator, discriminator):
        module.to(memory_format=layout)  # pyright: ignore[reportCallIssue] (its stubs want a device)
    optimizers = [
        torch.optim.Adam(m.parameters(), lr=RATE, betas=BETAS, fused=True) for m in (discriminator, generator)
    ]
    real = torch.tensor(image.transpose(0, 3, 1, 2).astype(np.float32) * (2 / (LEVELS - 1)) - 1)
    real = real.to(memory_format=layout)
    generate = torch.compile(generator) if form == "compile" else generator
    discriminate = torch.compile(discriminator) if form == "compile" else discriminator

    def step(noise: np.ndarray | None = None):
        z = torch.randn(len(image), size.latent) if noise is None else torch.tensor(noise)
        fake = generate(z)
        optimizers[0].zero_grad(set_to_none=True)
        loss = softplus(-discriminate(real)).mean() + softplus(discriminate(fake.detach())).mean()
        loss.backward()
        optimizers[0].step()
        optimizers[1].zero_grad(set_to_none=True)
        # The generator's update needs no gradient of the discriminator's weights.
        discriminator.requires_grad_(False)
        other = softplus(-discriminate(fake)).mean()
        other.backward()
        discriminator.requires_grad_(True)
        optimizers[1].step()
        return loss.detach(), other.detach()

    return step


def check(ours: Callable, thunks: dict[str, Callable], noise: Callable) -> None:
    """Compare the losses of the first two steps.

    Raises:
      SystemExit: if they differ.
    """
    first = [[float(m[f"{phase}/loss"].value) for phase in PHASES] for m in (ours(), ours())]
    for name, theirs in thunks.items():
        for n, losses in enumerate(first):
            other = [float(x) for x in theirs(noise(n))]
            # Adam's first update is the sign of the gradient, which rounding decides where it is nearly zero.
            for a, b in zip(losses, other, strict=True):
                if not math.isclose(a, b, rel_tol=(1e-5, 1e-4)[n]):
                    raise SystemExit(f"losses of step {n} differ: genjax {losses}, {name} {other}")


def main() -> None:
    """Check that all sides compute the same losses, time them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {"width": 32, "latent": 64, "batch": 64, "side": 28, "rounds": 10, "burst": 3}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    shape = (args.batch, args.side, args.side, 1)
    image = np.random.default_rng(0).integers(0, LEVELS, shape).astype(np.uint8)
    ours, params, noise = genjax_step(args, image)
    forms = {"torch eager": "eager", "torch channels_last": "channels_last"}
    if not args.no_compile:
        forms["torch.compile"] = "compile"
    theirs = {name: torch_step(args, image, params, form) for name, form in forms.items()}
    check(ours, theirs, noise)
    thunks = {"genjax": ours, **theirs}
    rows = harness.compare(thunks, rounds=args.rounds, burst=args.burst, reference="torch eager")
    size = f"width {args.width}, {args.side}x{args.side}, batch {args.batch}"
    print(harness.markdown(rows, f"DCGAN step, both players: {size}"))


if __name__ == "__main__":
    main()
