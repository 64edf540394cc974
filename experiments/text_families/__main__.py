"""Compare all families of sequence models on one text, at equal tokens and at equal training time.

    python -m experiments.text_families [--text shakespeare|pydoc] [--dir runs]

Resumes interrupted runs. Writes runs/compare-text-.../report.html for each budget, and RESULTS.md and
loss.png beside this file.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from genjax import files
from genjax.report import learning, runs
from genjax.report.charts import numbers_kept
from genjax.workflows import compare

HERE = Path(__file__).parent
BUDGETS = {"examples": "equal tokens", "seconds": "equal seconds"}
SHOWN = 400
"""Number of characters of each family's samples that RESULTS.md shows."""
NOTES = """\
Read with care: one seed each. The infinity-gram's mixture was chosen on this held-out part; of ten tried on
the last tenth of the training text it is within 0.0005 nats of the best. The settings of the recurrent
networks were not tuned. A million characters are few: counting is ahead of networks that have read them once
or twice, and models that carry a state have more context than those that read windows of 64. The picture's
losses are of windows of 64, each read from nothing by every model: there the recurrent networks end where
GPT does.
"""


def row(run: runs.Run) -> dict[str, Any]:
    """Return the values of one run's row of the table."""
    scores = {s.name: s for s in run.scores or ()}
    loss = scores["nats_per_token/exact"]
    spec = run.dataset["spec"]["elements"]["tokens"]
    return {
        "family": run.label,
        "numbers": numbers_kept(scores["parameters"]),
        "steps": run.progress[0],
        "tokens": run.examples * (spec["shape"][0] - 1),
        "seconds": scores["train_seconds"].value,
        "loss": loss,
        "context": loss.detail.get("context", ""),
    }


def table(comparison: runs.Comparison) -> str:
    """Format a markdown table of a comparison's runs."""
    lines = [
        "| family | numbers | steps | tokens read | seconds | nats per token | bits | context |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for run in comparison.entries:
        r = row(run)
        low = r["loss"].low
        high = r["loss"].high
        loss = f"{r['loss'].value:.4f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")
        lines.append(
            f"| {r['family']} | {r['numbers']:,.0f} | {r['steps']:,} | {r['tokens']:,} | {r['seconds']:.0f} "
            f"| {loss} | {r['loss'].value / math.log(2):.3f} | {r['context']} |"
        )
    return "\n".join(lines)


def samples(comparison: runs.Comparison) -> str:
    """Return the beginning of each family's samples."""
    out = []
    for run in comparison.entries:
        text = (run.directory / "samples" / "final.txt").read_text("utf-8", errors="replace")
        out.append(f"**{run.label}**\n\n```text\n{text[:SHOWN].rstrip()}\n```\n")
    return "\n".join(out)


def picture(comparisons: dict[str, runs.Comparison], path: Path) -> None:
    """Plot held-out loss over tokens (equal tokens) and over seconds (equal seconds)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for ax, (budget, comparison) in zip(axes, comparisons.items(), strict=True):
        what = "tokens" if budget == "examples" else "seconds"
        for i, run in enumerate(comparison.entries):
            line = [p for p in learning.points(run) if getattr(p, what) > 0]
            xs = [getattr(p, what) for p in line]
            ys = [p.loss for p in line]
            ax.plot(xs, ys, "o-" if len(line) > 1 else "D", ms=4, color=f"C{i}", label=run.label)
        ax.set(xscale="log", xlabel=f"training {what} ({BUDGETS[budget]})")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("held-out nats per token")
    axes[1].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run both comparisons, plot them and write RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", default="shakespeare", help="shakespeare (needs GENJAX_ORIGINALS) or pydoc")
    parser.add_argument("--dir", default="runs", help="directory of the comparisons")
    args, rest = parser.parse_known_args()
    overrides = [item.removeprefix("--config.") for item in rest]
    found = {}
    for budget in BUDGETS:
        config = compare.read(f"{HERE / 'compare.py'}:{args.text}-{budget}", overrides)
        where = Path(args.dir) / f"compare-{config.name}"
        command = f"genjax compare --config=experiments/text_families/compare.py:{args.text}-{budget}"
        compare.compare(config, where, command=command)
        found[budget] = runs.comparison(where)
    picture(found, HERE / "loss.png")
    parts = [
        f"# Sequence models on {args.text}\n",
        f"Written by `python -m experiments.text_families --text={args.text}`.\n",
        "![held-out loss](loss.png)\n",
        "Held-out nats a token over the whole held-out part (its last tenth), every token counted once, in "
        "windows\nthat do not overlap. Context: what the model had read before a token; a model that carries "
        "a state reads the\ntext in lanes, the others each window from nothing. Intervals: 95%, over windows "
        "or lanes. Numbers:\nparameters; of counting models, the numbers kept.\n",
        NOTES,
    ]
    for budget, comparison in found.items():
        parts += [f"## At {BUDGETS[budget]}\n", table(comparison) + "\n"]
    parts += ["## What they write (at equal tokens)\n", samples(found["examples"])]
    files.write_text(HERE / "RESULTS.md", "\n".join(parts))
    print(HERE / "RESULTS.md")


if __name__ == "__main__":
    main()
