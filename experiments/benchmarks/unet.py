"""Time the U-Net training step against PyTorch's: same architecture, batch and optimiser, in one process.

    python -m experiments.benchmarks.unet [--rounds 5] [--burst 2] [--batch 64] [--width 32] [--size 28]

Both sides compute in float32. The genjax side is the real step (training.step.make_step with
models/diffusion.py: times, noise, label dropout, gradient, global norm, Adam, state donated) under jit. The
torch side draws the same random variables and is the usual module code with torch.optim.Adam(fused): eager,
in channels_last, and under torch.compile. Before anything is timed, the outputs of both networks from the
same weights are compared.

XLA allocates a step's temporaries (here 620 MB) at every step, and glibc maps such blocks and faults them in
each time, which takes a fifth of the processor time. MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1
MALLOC_ARENA_MAX=1 in the environment keeps them (mallopt within the process did not reach XLA's threads). The
setting applies to both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import harness
from genjax.core import Batch, Element, Spec
from genjax.functional import schedules
from genjax.models import diffusion
from genjax.training import step as training

CLASSES = 10
LEVELS = 256


def data(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Draw a batch of random images and labels."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, LEVELS, (args.batch, args.size, args.size, 1)).astype(np.uint8),
        "label": rng.integers(0, CLASSES, args.batch).astype(np.int32),
        "mask": np.ones(args.batch, np.float32),
    }


def genjax_step(config: diffusion.Config, args: argparse.Namespace, batch: Batch) -> tuple[Callable, dict]:
    """Return (a step that returns its metrics, random parameters of its shapes as NumPy arrays)."""
    image = Element((args.size, args.size, 1), "uint8", LEVELS, kind="image", role="target")
    label = Element((), "int32", CLASSES, kind="label", role="condition")
    model = diffusion.build(config, Spec({"image": image, "label": label}), {})
    optimizers = {"denoiser": optax.adam(1e-3)}
    batch = jax.tree.map(jnp.asarray, batch)
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    rng = np.random.default_rng(1)
    draw = lambda x: (0.1 * rng.normal(size=x.shape)).astype(np.float32)
    params = jax.tree.map(draw, state.variables.params["denoiser"])
    compiled = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root = jax.random.key(1)
    box = [state]

    def step():
        box[0], metrics = compiled(box[0], {}, batch, root, ("denoise",))
        return metrics

    return step, params


def torch_residual(config: diffusion.Config):
    """Return the class of nn.unet.Residual in PyTorch: (channels, features) -> module."""
    from torch import nn
    from torch.nn import functional

    embedding = 4 * config.width

    class Residual(nn.Module):
        def __init__(self, channels, features):
            super().__init__()
            self.norm_in = nn.GroupNorm(config.groups, channels, eps=1e-6)
            self.conv_in = nn.Conv2d(channels, features, 3, padding=1, bias=False)
            self.film = nn.Linear(embedding, 2 * features)
            self.norm_out = nn.GroupNorm(config.groups, features, eps=1e-6, affine=False)
            self.conv_out = nn.Conv2d(features, features, 3, padding=1)
            self.skip = nn.Conv2d(channels, features, 1) if channels != features else nn.Identity()

        def forward(self, x, condition):
            h = self.conv_in(functional.silu(self.norm_in(x)))
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            h = functional.silu(self.norm_out(h) * (1 + scale) + shift)
            return self.skip(x) + self.conv_out(h)

    return Residual


def torch_attention(config: diffusion.Config):
    """Return the class of nn.unet.Attention in PyTorch: channels -> module."""
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.norm = nn.GroupNorm(config.groups, channels, eps=1e-6)
            self.qkv = nn.Linear(channels, 3 * channels, bias=False)
            self.out = nn.Linear(channels, channels)
            self.heads = max(channels // config.head, 1)

        def forward(self, x):
            b, c, height, w = x.shape
            h = self.qkv(self.norm(x).flatten(2).transpose(1, 2))
            q, k, v = h.view(b, height * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            h = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, height * w, c)
            return x + self.out(h).transpose(1, 2).reshape(x.shape)

    return Attention


def torch_parts(config: diffusion.Config):
    """Return nn.unet.UNet's layers in PyTorch by the names of their parameters."""
    from torch import nn

    Residual = torch_residual(config)
    width = config.width
    parts = nn.ModuleDict({"in": nn.Conv2d(1, width, 3, padding=1)})
    add = parts.__setitem__
    skips = [width]
    now = width
    for level, multiplier in enumerate(config.multipliers):
        for i in range(config.blocks):
            add(f"down{level}_{i}", Residual(now, multiplier * width))
            now = multiplier * width
            skips.append(now)
        if level < len(config.multipliers) - 1:
            add(f"down{level}", nn.Conv2d(now, now, 3, stride=2, padding=1))
            skips.append(now)
    add("middle_0", Residual(now, now))
    add("middle_attention", torch_attention(config)(now))
    add("middle_1", Residual(now, now))
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for i in range(config.blocks + 1):
            add(f"up{level}_{i}", Residual(now + skips.pop(), multiplier * width))
            now = multiplier * width
        if level:
            add(f"up{level}", nn.Conv2d(now, now, 3, padding=1))
    add("norm", nn.GroupNorm(config.groups, now, eps=1e-6))
    add("out", nn.Conv2d(now, 1, 3, padding=1))
    return parts


def torch_network(config: diffusion.Config):
    """Return the network of models/diffusion.py in PyTorch, with the same names of its children."""
    import torch
    from torch import nn
    from torch.nn import functional

    width = config.width
    embedding = 4 * width

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.label = nn.Embedding(CLASSES + 1, embedding)
            self.inner = nn.Linear(width, embedding)
            self.outer = nn.Linear(embedding, embedding)
            self.parts = torch_parts(config)
            rate = torch.arange(width // 2) * (-np.log(10_000.0) / (width // 2))
            self.register_buffer("frequency", torch.exp(rate).float())

        def forward(self, x, t, label):
            angle = 1000.0 * t[:, None] * self.frequency
            e = self.inner(torch.cat([torch.sin(angle), torch.cos(angle)], dim=1))
            e = functional.silu(self.outer(functional.silu(e)) + self.label(label))
            p = self.parts
            h = p["in"](x)
            skips = [h]
            last = len(config.multipliers) - 1
            for level in range(last + 1):
                for i in range(config.blocks):
                    h = p[f"down{level}_{i}"](h, e)
                    skips.append(h)
                if level < last:
                    h = p[f"down{level}"](h)
                    skips.append(h)
            h = p["middle_1"](p["middle_attention"](p["middle_0"](h, e)), e)
            for level in range(last, -1, -1):
                for i in range(config.blocks + 1):
                    h = p[f"up{level}_{i}"](torch.cat([h, skips.pop()], dim=1), e)
                if level:
                    h = functional.interpolate(h, scale_factor=2.0)
                    h = p[f"up{level}"](h[:, :, : skips[-1].shape[2], : skips[-1].shape[3]])
            return p["out"](functional.silu(p["norm"](h)))

    return Network()


def load(network, params: dict) -> None:
    """Copy a genjax network's parameters into the torch module."""
    import torch

    def put(to, value):
        value = np.asarray(value)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        with torch.no_grad():
            to.copy_(torch.tensor(np.ascontiguousarray(value)).reshape(to.shape))

    def fill(module, tree):
        for name, value in tree.items():
            if name in ("kernel", "scale"):
                put(module.weight, value)
            elif name == "bias":
                put(module.bias, value)
            else:
                fill(getattr(module, name), value)

    with torch.no_grad():
        network.label.weight.copy_(torch.tensor(params["label"]))
    for name in ("inner", "outer"):
        fill(getattr(network, name), params["time"][name])
    for name, tree in params["unet"].items():
        fill(network.parts[name], tree)


def torch_step(network, args: argparse.Namespace, batch: Batch, *, compiled=False, last=False) -> Callable:
    """Return a step of the same objective in PyTorch; it returns the loss."""
    import torch

    network = network.to(memory_format=torch.channels_last) if last else network
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(network) if compiled else network
    alphas, sigmas = (
        torch.tensor(np.asarray(c)) for c in schedules.chain("linear", 1000)(jnp.arange(1001) / 1000)
    )
    images = torch.tensor(batch["image"]).permute(0, 3, 1, 2)
    images = images.contiguous(memory_format=torch.channels_last) if last else images.contiguous()
    labels = torch.tensor(batch["label"], dtype=torch.long)

    def step():
        x_0 = images.float() * (2.0 / (LEVELS - 1)) - 1.0
        i = torch.randint(1, 1001, (args.batch,))
        noise = torch.randn_like(x_0)
        hide = torch.rand(args.batch) < 0.1
        x = alphas[i].view(-1, 1, 1, 1) * x_0 + sigmas[i].view(-1, 1, 1, 1) * noise
        optimizer.zero_grad(set_to_none=True)
        loss = (forward(x, i / 1000.0, torch.where(hide, CLASSES, labels)) - noise).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def check(config: diffusion.Config, args: argparse.Namespace, params: dict) -> float:
    """Return the largest difference of the networks' outputs from the same weights, over their maximum."""
    import torch

    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, args.size, args.size, 1)).astype(np.float32)
    t = np.array([0.01, 0.2, 0.5, 1.0])
    label = np.array([0, 3, 9, CLASSES])
    ours = diffusion.Network(config, 1, CLASSES)
    ours = jax.jit(ours.apply)({"params": params}, x, jnp.asarray(t, jnp.float32), jnp.asarray(label))
    theirs = torch_network(config)
    load(theirs, params)
    with torch.no_grad():
        y = theirs(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(t).float(), torch.tensor(label))
    ours = np.asarray(ours)
    y = y.permute(0, 2, 3, 1).numpy()
    return float(np.abs(ours - y).max() / np.abs(y).max())


def main() -> None:
    """Check that both sides compute the same function, time them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"width": 32, "size": 28, "batch": 64, "rounds": 5, "burst": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    config = diffusion.Config(width=args.width)
    batch = data(args)
    ours, params = genjax_step(config, args, batch)
    difference = check(config, args, params)
    if difference > 1e-4:
        raise SystemExit(f"the two sides compute different functions: relative difference {difference:.1e}")
    thunks = {"genjax": ours, "torch eager": torch_step(torch_network(config), args, batch)}
    thunks["torch channels_last"] = torch_step(torch_network(config), args, batch, last=True)
    if not args.no_compile:
        thunks["torch.compile"] = torch_step(torch_network(config), args, batch, compiled=True)
    rows = harness.compare(thunks, rounds=args.rounds, burst=args.burst, warmup=1, reference="torch eager")
    print(harness.markdown(rows, f"U-Net step: width {args.width}, {args.batch} x {args.size} x {args.size}"))


if __name__ == "__main__":
    main()
