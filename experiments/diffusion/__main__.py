"""Measure samples of finished diffusion runs against the number of evaluations of the network.

    python -m experiments.diffusion runs/compare-diffusion/* [--samplers ddim heun ...] [--nfe 1 2 4 ...]

Writes curves.json and curves.png: for each run and sampler, the Fréchet distance, precision and recall at
each number of evaluations (NFE; guidance doubles the cost of each and is not counted).
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

from genjax import evaluation
from genjax.sampling.methods import METHODS
from genjax.sampling.sampler import options
from genjax.workflows import assemble, evaluate

SAMPLERS = ("ddim", "ddpm", "heun", "dpm_solver", "dpm_solver_sde", "deis", "unipc", "lms")
COUNTS = (1, 2, 4, 8, 16, 35, 100, 250)


def steps_of(sampler: str, count: int) -> int | None:
    """Return the steps with exactly so many evaluations; None if no number of steps has them."""
    evaluations = METHODS[sampler]().evaluations
    return next((n for n in range(1, count + 1) if evaluations(n) == count), None)


def curves(
    run: Path, samplers: Sequence[str], counts: Sequence[int], samples: int, spacing: str
) -> list[dict[str, Any]]:
    """Return a record for each sampler and number of evaluations of one run."""
    trained = assemble.restore(run)
    model = trained.experiment.model
    dataset = trained.experiment.dataset
    config = evaluate.config_of(trained, {"samples": samples, "sets": 1, "metrics": ("frechet", "prdc")})
    features = evaluate.features(config.features, dataset, Path("runs") / "features", say=print)
    reference = evaluation.ReferenceStatistics(dataset, features, config)
    records = []
    for sampler in samplers:
        for count in counts:
            steps = steps_of(sampler, count)
            if steps is None:
                continue
            asked = {**trained.experiment.settings.sample, "sampler": sampler, "steps": steps}
            chosen = options(model, {**asked, "spacing": spacing})
            scores, _ = evaluation.evaluate(
                model, trained.variables, dataset, features, config, chosen, reference=reference
            )
            values = {score.name: score.value for score in scores}
            records.append({"run": run.name, "sampler": sampler, "nfe": count, "steps": steps, **values})
            print(json.dumps(records[-1]), flush=True)
    return records


def draw(records: Sequence[dict[str, Any]], out: Path) -> None:
    """Draw the Fréchet distance over the evaluations: a panel for each run, a line for each sampler."""
    runs = list(dict.fromkeys(r["run"] for r in records))
    figure, axes = plt.subplots(1, len(runs), figsize=(4.5 * len(runs), 4), sharey=True, squeeze=False)
    for axis, run in zip(axes[0], runs, strict=True):
        for sampler in dict.fromkeys(r["sampler"] for r in records if r["run"] == run):
            line = [r for r in records if r["run"] == run and r["sampler"] == sampler]
            axis.plot([r["nfe"] for r in line], [r["frechet"] for r in line], "o-", ms=3, label=sampler)
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
    parser.add_argument("--spacing", default="trailing")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder of the two files")
    args = parser.parse_args()
    records = []
    for run in args.runs:
        records += curves(run, args.samplers, args.nfe, args.samples, args.spacing)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "curves.json").write_text(json.dumps(records, indent=1))
    draw(records, args.out / "curves.png")
    print(args.out / "curves.png")


if __name__ == "__main__":
    main()
