"""Fill gaps in held-out text with masked diffusion and with GPT, from a finished comparison.

    python -m experiments.masked_text runs/compare-masked-text-full [--rows 256] [--gap 24]

Both write the characters in the middle of a row. Masked diffusion reads the text on both sides of the gap,
GPT only what comes before it. An n-gram that was trained beside them judges the whole row: it sees whether
the text behind the gap follows from what was written. Writes fills.md into the directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax import files
from genjax.core import row_keys
from genjax.workflows import assemble

NAMES = {"truth": "the text itself", "masked": "masked diffusion", "gpt": "GPT"}
SHOWN = 6


def filled(
    run: assemble.Trained, rows: Int[Array, "N T"], gap: tuple[int, int], ahead: bool
) -> Int[Array, "N T"]:
    """Return the rows with a gap that the model has written.

    Args:
      gap: its first place, and the one behind it.
      ahead: the model reads the text behind the gap, too.
    """
    low, high = gap
    model = run.experiment.model
    assert model.sample is not None
    keys = row_keys(jax.random.key(0), 0, jnp.arange(len(rows)))
    prompt = rows[:, :low]
    if ahead:
        assert model.mask is not None
        prompt = rows.at[:, low:high].set(model.mask)
    options = run.experiment.settings.sample
    drawn = model.sample(run.ready(), keys, {"tokens": prompt}, **options)["tokens"]
    return rows.at[:, low:high].set(drawn[:, low:high])


def nats(run: assemble.Trained, rows: Int[Array, "N T"]) -> Float[np.ndarray, " N"]:
    """Return the nats of each row under a model of exact likelihood."""
    likelihood = run.experiment.model.likelihood
    assert likelihood is not None
    keys = row_keys(jax.random.key(0), 0, jnp.arange(len(rows)))
    mean, _ = jax.jit(likelihood)(run.ready(), {"tokens": rows, "mask": jnp.ones(len(rows))}, keys)
    return np.asarray(mean.total)


def main() -> None:
    """Fill, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--gap", type=int, default=24)
    args = parser.parse_args()
    runs = {name: assemble.restore(args.directory / name) for name in ("gpt", "masked", "ngram")}
    dataset = runs["gpt"].experiment.dataset
    truth = jnp.asarray(dataset.eval.rows(np.arange(args.rows))["tokens"])
    low = (truth.shape[1] - args.gap) // 2
    gap = (low, low + args.gap)
    rows = {
        "truth": truth,
        "masked": filled(runs["masked"], truth, gap, ahead=True),
        "gpt": filled(runs["gpt"], truth, gap, ahead=False),
    }
    known = nats(runs["ngram"], truth)
    lines = [
        "| the gap is written by | nats above the text itself | characters of the text |",
        "|---|---|---|",
    ]
    for name, own in rows.items():
        more = nats(runs["ngram"], own) - known
        error = more.std() / len(more) ** 0.5
        same = float((own == truth)[:, low : low + args.gap].mean())
        lines.append(f"| {NAMES[name]} | {more.mean():.2f} ± {1.96 * error:.2f} | {same:.3f} |")
    assert dataset.tokenizer is not None
    decode = dataset.tokenizer.decode
    for i in range(SHOWN):
        lines += ["", "```text"]
        for name, own in rows.items():
            parts = (own[i, :low], own[i, low : low + args.gap], own[i, low + args.gap :])
            before, inside, after = (decode(np.asarray(p).tolist()).replace("\n", "⏎") for p in parts)
            lines.append(f"{before}[{inside}]{after}  ({name})")
        lines.append("```")
    files.write_text(args.directory / "fills.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
