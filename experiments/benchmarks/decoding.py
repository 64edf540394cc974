"""Time greedy decoding against transformers' generate: the same GPT-2 weights, float32, one process.

    python -m experiments.benchmarks.decoding [--shape nano small] [--batch 1 16] [--new 128] [--rounds 5]

The genjax side is `sampling.autoregressive.generate` (prefill and one compiled scan), the other side
GPT2LMHeadModel.generate(use_cache=True, do_sample=False) with two torch threads. Both continue the same
prompts; their tokens are compared before anything is timed. "nano" has 4 layers, 4 heads, width 128 and a
vocabulary of 65; "small" has the shape of GPT-2 124M (12 layers, 12 heads, width 768, vocabulary of 50,257)
with random weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import harness
from genjax.core import Element, Spec, Variables
from genjax.models import gpt
from genjax.nn.transformer import Transformer
from genjax.sampling.autoregressive import generate

SHAPES = {"nano": (4, 4, 128, 65, 256), "small": (12, 12, 768, 50257, 1024)}
"""Shape -> (layers, heads, width, vocabulary, positions)."""


def peer(shape: str):
    """Return a GPT2LMHeadModel of this shape, with weights so large that its greedy choices vary."""
    # An incompatible torchvision would break the import of transformers, which works without it.
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    import torch
    import transformers

    layers, heads, width, vocabulary, positions = SHAPES[shape]
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.05,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def ours(shape: str, theirs) -> tuple:
    """Return (decoder, variables, stack) of a genjax GPT with the same weights."""
    layers, heads, width, vocabulary, positions = SHAPES[shape]
    config = gpt.Config(layers=layers, heads=heads, width=width, bias=True, tied=True, condition_dropout=0.0)
    spec = Spec({"tokens": Element((positions + 1,), "int32", vocabulary, kind="tokens", role="target")})
    model = gpt.build(config, spec, {})
    w = {name: jnp.asarray(p.detach().numpy()) for name, p in theirs.transformer.named_parameters()}

    def linear(name: str) -> dict:
        return {"kernel": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}

    def norm(name: str) -> dict:
        return {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}

    def block(name: str) -> dict:
        joint = linear(f"{name}.attn.c_attn")
        parts = [jax.tree.map(lambda x, n=n: jnp.split(x, 3, axis=-1)[n], joint) for n in range(3)]
        return {
            "attention_norm": norm(f"{name}.ln_1"),
            "attention": {
                "project": dict(zip(("query", "key", "value"), parts, strict=True)),
                "out": linear(f"{name}.attn.c_proj"),
            },
            "mlp_norm": norm(f"{name}.ln_2"),
            "mlp": {
                "project": {"up": linear(f"{name}.mlp.c_fc")},
                "down": linear(f"{name}.mlp.c_proj"),
            },
        }

    stack = {f"block_{n}": block(f"h.{n}") for n in range(layers)} | {"norm": norm("ln_f")}
    params = {
        # One more row, for the start token, which is never predicted.
        "token_embedding": jnp.pad(w["wte.weight"], ((0, 1), (0, 0))),
        "position_embedding": w["wpe.weight"],
        "stack": stack,
    }
    return model.decoder, Variables(params={"model": params}), config.stack()


def thunks(shape: str, batch: int, new: int, prompt: int) -> dict[str, Callable]:
    """Return the call of each side.

    Raises:
      SystemExit: if their tokens differ.
    """
    import torch

    theirs = peer(shape)
    decoder, variables, stack = ours(shape, theirs)
    tokens = np.random.default_rng(0).integers(0, SHAPES[shape][3], (batch, prompt), np.int32)
    rows = torch.tensor(tokens, dtype=torch.long)
    keys = jax.random.split(jax.random.key(0), batch)
    begun = jnp.asarray(tokens)

    def jax_side():
        return generate(decoder, variables, keys, begun, length=new, temperature=0.0).tokens

    def torch_side():
        with torch.no_grad():
            writer: Any = theirs  # the type checker does not see the class's `generate`
            return writer.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                do_sample=False,
                use_cache=True,
                max_new_tokens=new,
                pad_token_id=0,
            )[:, prompt:]

    same = (np.asarray(jax_side()) == torch_side().numpy()).mean()
    if same < 1:
        raise SystemExit(f"only {same:.1%} of the tokens agree")
    size = Transformer.cache_bytes(stack, batch, prompt + new) / 2**20
    print(f"{shape}, batch {batch}: the same {batch * new} tokens; cache {size:.1f} MiB", file=sys.stderr)
    return {"genjax": jax_side, "transformers": torch_side}


def main() -> None:
    """Check that both sides generate the same tokens, time them and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    for name, default in {"new": 128, "prompt": 16, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    harness.torch_threads()
    for shape in args.shape:
        for batch in args.batch:
            both = thunks(shape, batch, args.new, args.prompt)
            burst = 3 if shape == "nano" else 1
            rows = harness.compare(both, rounds=args.rounds, burst=burst, warmup=1, reference="transformers")
            print(harness.markdown(rows, f"decoding, {shape}, batch {batch}, {args.new} new tokens"))
            for row in rows:
                print(f"\n{row.name}: {1e3 * batch * args.new / row.median_ms:.0f} tokens/s", end="")
            print("\n")


if __name__ == "__main__":
    main()
