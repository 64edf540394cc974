"""Measure a teacher and its students with few evaluations of the network.

    python -m experiments.diffusion.fewer_steps TEACHER STUDENT ... [--nfe 1 2 4] [--samples 1000]

Writes few.json and few.png: the Fréchet distance of each run at each number of evaluations (NFE), beside that
of the teacher with Heun's method at 35. A student is sampled as its config says, in so many steps.
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

BEST = {"sampler": "heun", "steps": 18, "spacing": "karras"}
"""Heun's method at 35 evaluations."""


def draw(records: Sequence[dict[str, Any]], best: float, out: Path) -> None:
    """Draw the Fréchet distance of each run over the evaluations."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for run in dict.fromkeys(r["run"] for r in records):
        line = [r for r in records if r["run"] == run]
        axis.plot([r["nfe"] for r in line], [r["frechet"] for r in line], "o-", label=run)
    axis.axhline(best, color="black", lw=0.8, label="teacher, Heun, 35 evaluations")
    axis.set(xscale="log", yscale="log", xlabel="evaluations of the network", ylabel="Fréchet distance")
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out, dpi=150)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teacher", type=Path)
    parser.add_argument("students", nargs="+", type=Path)
    parser.add_argument("--nfe", nargs="+", type=int, default=(1, 2, 4))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--sets", type=int, default=1, help="sets of samples, for intervals")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the two files")
    args = parser.parse_args()
    teacher = Measure(args.teacher, args.samples, args.sets)
    best = teacher.scores(BEST, {"nfe": 35})
    records = [teacher.scores({"sampler": "ddim", "steps": n}, {"nfe": n}) for n in args.nfe]
    for run in args.students:
        student = Measure(run, args.samples, args.sets)
        records += [student.scores({"steps": n}, {"nfe": n}) for n in args.nfe]
    for record in records:
        ratio = record["frechet"] / best["frechet"]
        print(f"{record['run']}, {record['nfe']} evaluations: {ratio:.2f} times the teacher's distance at 35")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "few.json").write_text(json.dumps([best, *records], indent=1))
    draw(records, best["frechet"], args.out / "few.png")
    print(args.out / "few.png")


if __name__ == "__main__":
    main()
