"""Draw the matrix of losses and penalties from a finished comparison.

    python -m experiments.mode_collapse runs/compare-mode-collapse-matrix [--out matrix.png]

A cell has the modes that were found, the share of high-quality samples, and a frame if the alarm of the last
evaluation was raised. Prints, over all runs of the comparison, how often that alarm was right: modes are lost
if the samples found fewer than all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from experiments.mode_collapse.compare import LOSSES, PENALTIES
from genjax.evaluation.collapse import FAR


class Result(NamedTuple):
    """Hold what became of one training.

    Attributes:
      found, total: modes.
      good: share of high-quality samples.
      divergence: reverse KL of the modes, in nats.
      alarm: of the last evaluation; None if there was no diagnosis.
    """

    found: float
    total: int
    good: float | None
    divergence: float
    alarm: bool | None


def read(run: Path) -> Result:
    """Return the result of a finished run directory."""
    scores = {s["name"]: s for s in json.loads((run / "scores.json").read_text())}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in lines if "diagnosis/alarm" in record][-1:]
    if "modes_found" in scores:
        found, divergence = scores["modes_found"], scores["mode_divergence"]
        total = found["protocol"]["modes"]
    else:
        found, divergence = scores["classes_found"], scores["class_divergence"]
        total = found["protocol"]["classes"]
    good = scores["high_quality"]["value"] if "high_quality" in scores else None
    alarms = [bool(r["diagnosis/lost"]) or r["diagnosis/precision"] < FAR for r in last]
    return Result(found["value"], total, good, divergence["value"], alarms[0] if alarms else None)


def results(directory: Path) -> dict[str, list[Result]]:
    """Return {entry: the result of each of its trainings}."""
    about = json.loads((directory / "compare.json").read_text())
    return {name: [read(run) for run in _runs(directory / name)] for name in about["entries"]}


def _runs(entry: Path) -> list[Path]:
    repeats = sorted(entry.glob("seed-*"))
    return [run for run in (repeats or [entry]) if (run / "scores.json").exists()]


def draw(found: dict[str, list[Result]], out: Path) -> None:
    """Draw the matrix."""
    losses = [loss for loss in LOSSES if any(name.startswith(f"{loss}_") for name in found)]
    figure, axes = plt.subplots(figsize=(1.6 * len(PENALTIES) + 2, 0.9 * len(losses) + 1))
    axes.set_xticks(range(len(PENALTIES)), list(PENALTIES))
    axes.set_yticks(range(len(losses)), [loss.replace("_", " ") for loss in losses])
    axes.set_xlim(-0.5, len(PENALTIES) - 0.5)
    axes.set_ylim(len(losses) - 0.5, -0.5)
    for y, loss in enumerate(losses):
        for x, penalty in enumerate(PENALTIES):
            for result in found.get(f"{loss}_{penalty.replace('+', '_')}", [])[:1]:
                _cell(axes, x, y, result)
    axes.set_title("Modes found, high-quality samples; framed: collapse alarm")
    axes.tick_params(length=0)
    figure.tight_layout()
    figure.savefig(out, dpi=150)


def _cell(axes: Any, x: int, y: int, result: Result) -> None:
    share = result.found / result.total
    good = 1.0 if result.good is None else result.good
    colour = plt.get_cmap("RdYlGn")(share * good)
    edge = "black" if result.alarm else "white"
    box = Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, facecolor=colour, edgecolor=edge, linewidth=2)
    axes.add_patch(box)
    text = f"{result.found:.0f} of {result.total}\n{good:.0%}"
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def main() -> None:
    """Print the table of a comparison, and draw its matrix."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, help="the picture; matrix.png in the directory by default")
    args = parser.parse_args()
    found = results(args.directory)
    print("| entry | trainings | modes | high quality | reverse KL | alarms |\n|---|---|---|---|---|---|")
    for name, each in found.items():
        if each:
            print(_line(name, each))
    every = [result for each in found.values() for result in each if result.alarm is not None]
    if every:
        right = sum(result.alarm == (result.found < result.total) for result in every)
        print(f"\nThe alarm was right in {right} of {len(every)} trainings.")
    if any(name.startswith(LOSSES[-1]) for name in found):
        out = args.out or args.directory / "matrix.png"
        draw(found, out)
        print(out)


def _line(name: str, each: list[Result]) -> str:
    mean = lambda values: sum(values) / len(values)
    modes = mean([r.found for r in each])
    spread = mean([(r.found - modes) ** 2 for r in each]) ** 0.5
    shares = [r.good for r in each if r.good is not None]
    good = f"{mean(shares):.1%}" if shares else ""
    divergence = mean([r.divergence for r in each])
    alarms = sum(bool(r.alarm) for r in each)
    of = f"{modes:.1f} ± {spread:.1f} of {each[0].total}"
    return f"| {name} | {len(each)} | {of} | {good} | {divergence:.3f} | {alarms} |"


if __name__ == "__main__":
    main()
