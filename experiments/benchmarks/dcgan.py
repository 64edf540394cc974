"""The DCGAN training step, both players' updates, beside PyTorch's, in one process and float32.

    python -m experiments.benchmarks.dcgan [--rounds 10] [--width 32] [--latent 64] [--batch 64] [--side 28]

The genjax side is the real step (training.step.make_step: noise, both gradients, both Adams, batch
statistics, state donated) under jit, from the data's bytes. The torch side is the usual loop of the usual
modules: one fake batch serves both players, losses are softplus of logits, torch.optim.Adam(fused), images
already in float32; eager, eager in channels_last, and with both modules under torch.compile. All begin at the
same weights; both losses of the first step and the discriminator's of the second, from the same noise, are
compared before anything is timed: the generator's sees one discriminator update, the second step's all.
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

LEVELS, RATE, BETAS = 256, 2e-4, (0.5, 0.999)
PLAYS = ("discriminator", "generator")


def genjax_step(size: argparse.Namespace, image: np.ndarray) -> tuple[Callable, dict, Callable]:
    """(one step that returns its metrics, the parameters at the start as numpy, step -> its noise)."""
    spec = Spec({"image": Element(image.shape[1:], "uint8", LEVELS)})
    model = gan.build(gan.Config(latent=size.latent, width=size.width), spec)
    optimizers = {player: optax.adam(RATE, *BETAS) for player in PLAYS}
    batch = {"image": jnp.asarray(image), "mask": jnp.ones(len(image))}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    params = jax.tree.map(np.array, state.variables.params)
    compiled = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root, box = jax.random.key(1), [state]

    def step():
        box[0], metrics = compiled(box[0], {}, batch, root, PLAYS)
        return metrics

    def noise(n: int) -> np.ndarray:
        keys = row_keys(root, n, jnp.arange(len(image)))
        return np.array(jax.vmap(lambda key: jax.random.normal(key, (size.latent,)))(keys))

    return step, params, noise


def torch_players(size: argparse.Namespace, params: dict):
    """(generator, discriminator) as torch modules with these parameters."""
    import torch
    from torch import nn

    n, w = halvings(size.side, size.side), size.width
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

    def put(to, value: np.ndarray) -> None:
        with torch.no_grad():
            to.copy_(torch.tensor(value.copy()))

    g, d = params["generator"], params["discriminator"]
    grid = (low, low, w * 2**n)  # flattened as H W C here, as C H W there
    put(
        generator[0].weight,
        g["in"]["kernel"].reshape(-1, *grid).transpose(3, 1, 2, 0).reshape(-1, size.latent),
    )
    put(head.weight, d["out"]["kernel"].reshape(grid).transpose(2, 0, 1).reshape(1, -1))
    put(head.bias, d["out"]["bias"])
    for i, layer in zip(reversed(range(n)), up, strict=True):  # torch's transposed kernels are mirrored
        put(layer.weight, g[f"up_{i}"]["kernel"][::-1, ::-1].transpose(2, 3, 0, 1))
    convolutions = {last: g["out"], first: d["in"], **{x: d[f"down_{i}"] for i, x in enumerate(down)}}
    for layer, p in convolutions.items():
        put(layer.weight, p["kernel"].transpose(3, 2, 0, 1))
        put(layer.bias, p["bias"])
    return generator, discriminator  # batch norms start at 1 and 0 on both sides


def torch_step(size: argparse.Namespace, image: np.ndarray, params: dict, form: str) -> Callable:
    """One step of both players; returns (discriminator's loss, generator's).

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
    fake_of, judge = generator, discriminator
    if form == "compile":
        fake_of, judge = torch.compile(generator), torch.compile(discriminator)

    def step(noise: np.ndarray | None = None):
        z = torch.randn(len(image), size.latent) if noise is None else torch.tensor(noise)
        fake = fake_of(z)
        optimizers[0].zero_grad(set_to_none=True)
        loss = softplus(-judge(real)).mean() + softplus(judge(fake.detach())).mean()
        loss.backward()
        optimizers[0].step()
        optimizers[1].zero_grad(set_to_none=True)
        discriminator.requires_grad_(False)  # the generator's move needs no gradient of its weights
        other = softplus(-judge(fake)).mean()
        other.backward()
        discriminator.requires_grad_(True)
        optimizers[1].step()
        return loss.detach(), other.detach()

    return step


def check(ours: Callable, thunks: dict[str, Callable], noise: Callable) -> None:
    """Exits where the losses of the first two steps differ."""
    first = [[float(m[f"{phase}/loss"].value) for phase in PLAYS] for m in (ours(), ours())]
    for name, theirs in thunks.items():
        for n, losses in enumerate(first):
            other = [float(x) for x in theirs(noise(n))]
            # Adam's first moves are signs: rounding decides those where a gradient is nearly nothing.
            for a, b in zip(losses, other, strict=True):
                if not math.isclose(a, b, rel_tol=(1e-5, 1e-4)[n]):
                    raise SystemExit(f"losses of step {n} differ: genjax {losses}, {name} {other}")


def main() -> None:
    """Checks that all sides compute the same losses, times them, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {"width": 32, "latent": 64, "batch": 64, "side": 28, "rounds": 10, "burst": 3}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    shape = args.batch, args.side, args.side, 1
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
