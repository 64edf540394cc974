"""Compare genjax's Kneser-Ney n-grams with KenLM's: perplexity on the same tokens, and time.

    python -m experiments.kenlm --kenlm=PATH            # a folder with lmplz, build_binary and query
    python -m experiments.kenlm --kenlm=PATH --build    # builds them there first (needs cmake and Boost)

Writes RESULTS.md beside this file. tiny_shakespeare needs its original file (GENJAX_ORIGINALS).
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.kenlm import ours, theirs
from genjax import data, files

CORPORA = {
    "tiny_shakespeare, words": {"name": "tfds:tiny_shakespeare", "tokenizer": "words"},
    "tiny_shakespeare, characters": {"name": "tfds:tiny_shakespeare", "tokenizer": "chars"},
    "pydoc, words": {"name": "pydoc", "tokenizer": "words"},
}
ORDERS = (3, 5)


class Text(NamedTuple):
    """Hold the tokens of a training and a held-out text; every line ends with its end token."""

    train: np.ndarray
    held: np.ndarray
    levels: int
    end: int
    unknown: int | None


def load(fields: dict[str, Any]) -> Text:
    """Load a dataset's two texts; an end token closes the last line of each, where the text was cut."""
    d = data.load(data.Config(**fields, length=64))
    assert d.tokenizer is not None
    end = int(d.tokenizer.encode("\n")[0])
    texts = []
    for split in (d.train, d.eval):
        rows = split.rows(np.arange(len(split)))["tokens"]
        tokens = np.concatenate([rows[0, :1], rows[:, 1:].reshape(-1)])
        texts.append(tokens if tokens[-1] == end else np.append(tokens, end))
    train, held = texts
    return Text(train, held, d.tokenizer.vocabulary, end, d.spec.special.get("unk"))


def compare(name: str, text: Text, order: int, kenlm: Path) -> dict[str, str]:
    """Measure both implementations on one text and order; return one row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        k = theirs.measure(kenlm, Path(folder), text, order)
    g = ours.measure(text, order)
    assert (g.tokens, g.unseen) == (k.tokens, k.unseen), f"the texts differ: {g} {k}"
    difference = 100 * (g.perplexity / k.perplexity - 1)
    print(f"{name}, order {order}: genjax {g.perplexity:.4f}, KenLM {k.perplexity:.4f}", flush=True)
    return {
        "text": name,
        "order": str(order),
        "V": f"{text.levels:,}",
        "tokens read": f"{len(text.train):,}",
        "scored (unseen)": f"{g.tokens:,} ({g.unseen:,})",
        "KenLM": f"{k.perplexity:.4f}",
        "genjax": f"{g.perplexity:.4f}",
        "difference": f"{difference:+.4f} %",
        "train, KenLM (s)": f"{k.train:.2f}",
        "train, genjax (s)": f"{g.read:.2f} + {g.finish:.2f}",
        "compile (s)": f"{g.compile:.1f}",
        "score, KenLM (s)": f"{k.score:.2f}",
        "score, genjax (s)": f"{g.score:.2f}",
    }


def page(rows: list[dict[str, str]], command: str) -> str:
    """Format RESULTS.md."""
    names = list(rows[0])
    table = [names, ["---"] * len(names), *(list(row.values()) for row in rows)]
    lines = [
        "# n-grams: genjax and KenLM",
        "",
        f"`{command}`, {platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__} on "
        f"{jax.devices()[0].platform}. Perplexity is exp of the mean nats per token, line ends and unseen "
        "words included. [README.md](README.md) explains the columns and the conventions.",
        "",
        *("| " + " | ".join(row) + " |" for row in table),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run all comparisons and write RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kenlm", type=Path, required=True, help="folder of lmplz, build_binary and query")
    parser.add_argument("--build", action="store_true", help="download KenLM's source and build it there")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    arguments = parser.parse_args()
    if arguments.build:
        theirs.build(arguments.kenlm)
    rows = []
    for name, fields in CORPORA.items():
        text = load(fields)
        rows += [compare(name, text, order, arguments.kenlm) for order in ORDERS]
    files.write_text(arguments.out, page(rows, "python -m experiments.kenlm --kenlm=PATH"))


if __name__ == "__main__":
    main()
