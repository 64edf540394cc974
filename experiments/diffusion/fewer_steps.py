"""Measure a teacher and its students with few evaluations of the network.

    python -m experiments.diffusion.fewer_steps TEACHER STUDENT ... [--nfe 1 2 4] [--samples 1000]

Writes few.json and few.png: the Fréchet distance of each run at each number of evaluations (NFE), beside that
of the teacher with Heun's method at 35. A student is sampled as its config says, in so many steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from genjax import evaluation
from genjax.sampling.sampler import options
from genjax.workflows import assemble, evaluate

BEST = {"sampler": "heun", "steps": 18, "spacing": "karras"}
"""Heun's method at 35 evaluations."""
METRICS = ("frechet", "prdc", "accuracy")


class Measure:
    """Score a finished run with other options of its sampler."""

    def __init__(self, run: Path, samples: int):
        """Restore the run, and prepare the reference."""
        self.run = run
        self.trained = assemble.restore(run)
        self.dataset = self.trained.experiment.dataset
        self.config = evaluate.config_of(self.trained, {"samples": samples, "metrics": METRICS})
        self.features = evaluate.features(
            self.config.features, self.dataset, Path("runs") / "features", say=print
        )
        self.reference = evaluation.ReferenceStatistics(self.dataset, self.features, self.config)

    def scores(self, nfe: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record of the scores at `nfe` evaluations."""
        model = self.trained.experiment.model
        asked = {**self.trained.experiment.settings.sample, **changes}
        scores, _ = evaluation.evaluate(
            model,
            self.trained.variables,
            self.dataset,
            self.features,
            self.config,
            options(model, asked),
            reference=self.reference,
        )
        values = {s.name: s.value for s in scores} | {
            f"{s.name}_{end}": getattr(s, end)
            for s in scores
            if s.name == "frechet"
            for end in ("low", "high")
        }
        record = {"run": self.run.name, "nfe": nfe, **changes, **values}
        print(json.dumps(record), flush=True)
        return record


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
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the two files")
    args = parser.parse_args()
    teacher = Measure(args.teacher, args.samples)
    best = teacher.scores(35, BEST)
    records = [teacher.scores(n, {"sampler": "ddim", "steps": n}) for n in args.nfe]
    for run in args.students:
        student = Measure(run, args.samples)
        records += [student.scores(n, {"steps": n}) for n in args.nfe]
    for record in records:
        ratio = record["frechet"] / best["frechet"]
        print(f"{record['run']}, {record['nfe']} evaluations: {ratio:.2f} times the teacher's distance at 35")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "few.json").write_text(json.dumps([best, *records], indent=1))
    draw(records, best["frechet"], args.out / "few.png")
    print(args.out / "few.png")


if __name__ == "__main__":
    main()
