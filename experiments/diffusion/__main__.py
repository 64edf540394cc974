"""Measure samples of finished diffusion runs against the number of evaluations of the network.

    python -m experiments.diffusion runs/compare-diffusion/* [--samplers ddim heun ...] [--nfe 1 2 4 ...]

Writes curves.json and curves.png: for each run and sampler, the Fréchet distance, precision and recall at
each number of evaluations (NFE; guidance doubles the cost of each and is not counted). What curves.json holds
already is not measured again.
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
from genjax import files
from genjax.sampling.methods import METHODS

SAMPLERS = ("ddim", "ddpm", "heun", "dpm_solver", "dpm_solver_sde", "deis", "unipc", "lms")
COUNTS = (1, 2, 4, 8, 16, 35, 100, 250)


def steps_of(sampler: str, count: int) -> int | None:
    """Return the steps with exactly so many evaluations; None if no number of steps has them."""
    evaluations = METHODS[sampler]().evaluations
    return next((n for n in range(1, count + 1) if evaluations(n) == count), None)


def draw(records: Sequence[dict[str, Any]], out: Path) -> None:
    """Draw the Fréchet distance over the evaluations: a panel for each run, a line for each sampler."""
    runs = list(dict.fromkeys(r["run"] for r in records))
    figure, axes = plt.subplots(1, len(runs), figsize=(4.5 * len(runs), 4), sharey=True, squeeze=False)
    for axis, run in zip(axes[0], runs, strict=True):
        for sampler in dict.fromkeys(r["sampler"] for r in records if r["run"] == run):
            line = sorted(
                (r["nfe"], r["frechet"]) for r in records if (r["run"], r["sampler"]) == (run, sampler)
            )
            axis.plot(*zip(*line, strict=True), "o-", ms=3, label=sampler)
        axis.set(xscale="log", yscale="log", xlabel="evaluations of the network", title=run)
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel("Fréchet distance")
    figure.tight_layout()
    figure.savefig(out, dpi=150)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS, choices=sorted(METHODS))
    parser.add_argument("--nfe", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--sets", type=int, default=1, help="sets of samples, for intervals")
    parser.add_argument("--guidance", type=float, help="that of the run's config by default")
    parser.add_argument("--spacing", default="trailing")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the two files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "curves.json"
    records = json.loads(path.read_text()) if path.exists() else []
    for run in args.runs:
        measure = None
        for sampler in args.samplers:
            for count in args.nfe:
                steps = steps_of(sampler, count)
                known = [(r["run"], r["sampler"], r["nfe"], r["spacing"]) for r in records]
                if steps is None or (run.name, sampler, count, args.spacing) in known:
                    continue
                measure = measure or Measure(run, args.samples, args.sets)
                given = {"sampler": sampler, "steps": steps, "spacing": args.spacing}
                if args.guidance is not None:
                    given["guidance"] = args.guidance
                records.append(measure.scores(given, {"nfe": count}))
                files.write_text(path, json.dumps(records, indent=1))
    draw(records, args.out / "curves.png")
    print(args.out / "curves.png")


if __name__ == "__main__":
    main()
