"""Print the table of a finished comparison of adversarial networks, from its report.json.

python -m experiments.adversarial runs/compare-adversarial-full
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = {
    "frechet": ("Fréchet distance", "{:.1f}"),
    "precision": ("precision", "{:.2f}"),
    "recall": ("recall", "{:.2f}"),
    "density": ("density", "{:.2f}"),
    "coverage": ("coverage", "{:.2f}"),
    "conditional_accuracy": ("class asked for", "{:.2f}"),
    "synthetic_accuracy": ("trained on samples", "{:.2f}"),
    "samples_per_second_64": ("images per second", "{:,.0f}"),
}
"""{score: (head, form)}."""


def line(entry: dict[str, Any]) -> str:
    """Return a line of the table: means over trainings, with the interval of the Fréchet distance."""
    cells = []
    for name, (_, form) in COLUMNS.items():
        score = entry["scores"].get(name)
        text = "" if score is None else form.format(score["value"])
        if score is not None and name == "frechet" and score["low"] is not None:
            text += f" ({form.format(score['low'])} to {form.format(score['high'])})"
        cells.append(text)
    steps = [training["steps"] for training in entry["trainings"]]
    size = f"{min(steps):,} to {max(steps):,} | {entry['params']:,}"
    return f"| {entry['family']} | {size} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    report = json.loads((args.directory / "report.json").read_text())
    heads = ["", "steps", "parameters", *(head for head, _ in COLUMNS.values())]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for entry in report["entries"].values():
        if entry["scores"]:
            print(line(entry))


if __name__ == "__main__":
    main()
