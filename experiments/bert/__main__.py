"""Train a masked language model on the prose of Python's documentation; report its loss and fill gaps.

    python -m experiments.bert [--dir=runs/pydoc-bert] [--config.train.steps=3000 ...]

Trains configs/pydoc/bert.py, or resumes an existing run, and writes fills.md into the run's directory.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from genjax import files, settings
from genjax.sampling.masked import fill
from genjax.workflows import assemble, train

SENTENCES = (
    "The arguments are evaluated before the [] is called.",
    "If the list is empty, an exception is [].",
    "A class definition defines a class [].",
    "The try statement specifies exception [] for a group of statements.",
    "Strings are immutable sequences of Unicode code [].",
    "Dictionaries are indexed by [].",
)
"""Sentences to complete; [] marks the missing token."""


def curve(directory: Path) -> list[tuple[int, float, float]]:
    """Read (step, loss in nats per masked token, accuracy) on the held-out split from the metrics."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text("utf-8").splitlines()]
    held = [line for line in lines if line["split"] == "eval"]
    return [(line["step"], line["mlm/loss"], line["mlm/accuracy"]) for line in held]


def fills(trained: assemble.Trained, k: int = 5) -> list[str]:
    """Return each sentence with the k most probable tokens of its gap and their probabilities."""
    tokenizer = trained.experiment.dataset.tokenizer
    model = trained.experiment.model
    assert tokenizer is not None
    assert model.predict is not None
    mask = trained.experiment.dataset.spec.special["mask"]
    predict = jax.jit(model.predict)
    out = []
    width = trained.experiment.dataset.spec["tokens"].shape[0]
    for sentence in SENTENCES:
        # The space before a gap belongs to the missing token.
        before, after = (tokenizer.encode(part) for part in sentence.replace(" []", "[]").split("[]"))
        row = np.zeros((1, width), np.int32)
        tokens = np.concatenate([before, [mask], after])
        row[0, : len(tokens)] = tokens
        batch = {"tokens": jnp.asarray(row), "length": jnp.array([len(tokens)])}
        got = fill(predict(trained.variables, batch)["logits"], jnp.array([[len(before)]]), k)
        words = [
            f"{tokenizer.decode([t]).strip() or '(space)'} {p:.2f}"
            for t, p in zip(got.tokens[0, 0].tolist(), got.probs[0, 0].tolist(), strict=True)
        ]
        gap = sentence.replace("[]", "[...]")
        out.append(f"- {gap}  **{', '.join(words)}**")
    return out


def main() -> None:
    """Train or resume the run, then write and print its loss curve and the filled gaps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", default="runs/pydoc-bert", help="the run's directory")
    args, rest = parser.parse_known_args()
    overrides = [text.removeprefix("--config.") for text in rest]
    where = train.train(settings.complete(settings.load("pydoc/bert", overrides)), args.dir)
    trained = assemble.restore(where)
    lines = [
        f"After {trained.step} steps.",
        "",
        "| step | nats per masked token | accuracy |",
        "|---|---|---|",
        *(f"| {step} | {loss:.3f} | {accuracy:.3f} |" for step, loss, accuracy in curve(where)),
        "",
        *fills(trained),
    ]
    files.write_text(where / "fills.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
