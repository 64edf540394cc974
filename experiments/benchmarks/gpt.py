"""Time the GPT training step against PyTorch's: same architecture, batch and optimiser, in one process.

    python -m experiments.benchmarks.gpt [--rounds 20] [--layers 4] [--heads 4] [--width 128] [--batch 12]

Both sides compute in float32. The genjax side is the real step (training.step.make_step: gradient, global
norm, AdamW, state donated) under jit. The torch side is the usual GPT-2 module with
scaled_dot_product_attention, no biases, cross entropy and torch.optim.AdamW(fused), eager and under
torch.compile. Both train on the same batch from the same weights; their first losses are compared before
anything is timed, so that both compute the same function.
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
from genjax.core import Element, Spec
from genjax.models import gpt
from genjax.training import step as training

VOCABULARY = 65  # characters of tiny_shakespeare


def genjax_step(shape: argparse.Namespace, tokens: np.ndarray, **fields) -> tuple[Callable, dict]:
    """Return (a step that returns its metrics, the initial parameters as NumPy arrays)."""
    spec = Spec({"tokens": Element((shape.length + 1,), "int32", VOCABULARY, kind="tokens", role="target")})
    config = gpt.Config(
        layers=shape.layers, heads=shape.heads, width=shape.width, condition_dropout=0.0, **fields
    )
    model = gpt.build(config, spec, {})
    optimizers = {"model": optax.adamw(1e-3, b2=0.99, weight_decay=0.1)}
    batch = {"tokens": jnp.asarray(tokens), "mask": jnp.ones(len(tokens))}
    state = jax.jit(lambda key: training.create(model, optimizers, key, batch))(jax.random.key(0))
    params = jax.tree.map(np.array, state.variables.params["model"])
    compiled = jax.jit(training.make_step(model, optimizers), static_argnums=4, donate_argnums=0)
    root = jax.random.key(1)
    box = [state]

    def step():
        box[0], metrics = compiled(box[0], {}, batch, root, ("nll",))
        return metrics

    return step, params


def torch_step(shape: argparse.Namespace, tokens: np.ndarray, params: dict, compiled: bool) -> Callable:
    """Return a step of the same model in PyTorch, from the same parameters; it returns the loss."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            w = shape.width
            self.attention_norm = nn.LayerNorm(w, bias=False)
            self.mlp_norm = nn.LayerNorm(w, bias=False)
            self.qkv = nn.Linear(w, 3 * w, bias=False)
            self.out = nn.Linear(w, w, bias=False)
            self.up = nn.Linear(w, 4 * w, bias=False)
            self.down = nn.Linear(4 * w, w, bias=False)

        def forward(self, x):
            b, t, w = x.shape
            qkv = self.qkv(self.attention_norm(x)).view(b, t, 3, shape.heads, w // shape.heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
            return x + self.down(functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            w = shape.width
            self.tokens = nn.Embedding(VOCABULARY + 1, w)
            self.positions = nn.Parameter(torch.zeros(shape.length, w))
            self.blocks = nn.ModuleList(Block() for _ in range(shape.layers))
            self.norm = nn.LayerNorm(w, bias=False)
            self.head = nn.Linear(w, VOCABULARY, bias=False)

        def forward(self, tokens, targets):
            x = self.tokens(tokens) + self.positions
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x))
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    model = GPT()
    load(model, params)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    rows = torch.tensor(tokens, dtype=torch.long)
    x = rows[:, :-1].contiguous()
    y = rows[:, 1:].contiguous()
    forward = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def load(model, params: dict) -> None:
    """Copy a genjax GPT's parameters into the torch module."""
    import torch

    def put(to, value):
        with torch.no_grad():
            to.copy_(torch.tensor(np.array(value)))

    put(model.tokens.weight, params["token_embedding"])
    put(model.positions, params["position_embedding"])
    put(model.head.weight, params["head"]["kernel"].T)
    put(model.norm.weight, params["stack"]["norm"]["scale"])
    for i, block in enumerate(model.blocks):
        p = params["stack"][f"block_{i}"]
        put(block.attention_norm.weight, p["attention_norm"]["scale"])
        put(block.mlp_norm.weight, p["mlp_norm"]["scale"])
        qkv = [p["attention"]["project"][name]["kernel"].T for name in ("query", "key", "value")]
        put(block.qkv.weight, np.concatenate(qkv))
        put(block.out.weight, p["attention"]["out"]["kernel"].T)
        put(block.up.weight, p["mlp"]["project"]["up"]["kernel"].T)
        put(block.down.weight, p["mlp"]["down"]["kernel"].T)


def main() -> None:
    """Check that both sides compute the same loss, time them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {"layers": 4, "heads": 4, "width": 128, "length": 64, "batch": 12, "rounds": 20, "burst": 5}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    harness.torch_threads()
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (args.batch, args.length + 1), np.int32)
    ours, params = genjax_step(args, tokens)
    eager = torch_step(args, tokens, params, compiled=False)
    first = float(ours()["nll/loss"].value)
    other = float(eager())
    if not math.isclose(first, other, rel_tol=1e-5):
        raise SystemExit(f"the first losses differ: genjax {first}, torch {other}")
    thunks = {"genjax": ours, "torch eager": eager}
    if not args.no_compile:
        thunks["torch.compile"] = torch_step(args, tokens, params, compiled=True)
    rows = harness.compare(thunks, rounds=args.rounds, burst=args.burst, reference="torch eager")
    size = f"{args.layers} layers, {args.heads} heads, width {args.width}, {args.batch} x {args.length}"
    print(harness.markdown(rows, f"GPT step: {size}"))


if __name__ == "__main__":
    main()
