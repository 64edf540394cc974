"""Measure fidelity against diversity over the guidance of one finished diffusion run.

    python -m experiments.diffusion.guidance RUN [--guidance 0 1 1.5 2 3 5] [--samples 1000]

Writes guidance.json and guidance.png: precision against recall, and the share of samples of the class asked
for and the Fréchet distance over the guidance (0: no label, 1: the conditional estimate).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from experiments.diffusion.measure import Measure

PANELS = {"frechet": "Fréchet distance", "conditional_accuracy": "class asked for"}


def draw(records: Sequence[dict[str, Any]], out: Path) -> None:
    """Draw the three panels."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    axes[0].plot([r["recall"] for r in records], [r["precision"] for r in records], "o-")
    for r in records:
        axes[0].annotate(f"{r['guidance']:g}", (r["recall"], r["precision"]), fontsize=8)
    axes[0].set(xlabel="recall", ylabel="precision", title="guidance beside each point")
    for axis, (score, label) in zip(axes[1:], PANELS.items(), strict=True):
        axis.plot([r["guidance"] for r in records], [r[score] for r in records], "o-")
        axis.set(xlabel="guidance", ylabel=label)
    figure.tight_layout()
    figure.savefig(out, dpi=150)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--guidance", nargs="+", type=float, default=(0.0, 1.0, 1.5, 2.0, 3.0, 5.0))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--sets", type=int, default=1, help="sets of samples, for intervals")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the two files")
    args = parser.parse_args()
    measure = Measure(args.run, args.samples, args.sets)
    records = [measure.scores({"guidance": w}) for w in args.guidance]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "guidance.json").write_text(json.dumps(records, indent=1))
    draw(records, args.out / "guidance.png")
    print(args.out / "guidance.png")


if __name__ == "__main__":
    main()
