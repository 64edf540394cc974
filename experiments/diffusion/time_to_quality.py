"""Print the seconds of training until samples have the class asked for, from checkpoints of finished runs.

    genjax train --config=digits/diffusion --dir=runs/ttq --config.train.checkpoint_every=50 \\
      --config.train.keep_last=1000 --config.train.log_every=50
    python -m experiments.diffusion.time_to_quality runs/ttq [--accuracy 0.95] [--samples 500]

Reads checkpoints from the first on until one is good enough. Seconds are those that the log has at its step:
compilation, evaluation and saving do not count. Intervals of the share are 95% (Wilson).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.diffusion.measure import Measure
from genjax.training import checkpoint, metricslog


def seconds(run: Path, step: int) -> float:
    """Return the seconds of training at a step, those of the last log line up to it.

    Raises:
      ValueError: the log has no line so early.
    """
    lines, _ = metricslog.read(run)
    known = [line["seconds"] for line in lines if "seconds" in line and line["step"] <= step]
    if not known:
        raise ValueError(f"{run}/metrics.jsonl has no line up to step {step}; train with a smaller log_every")
    return max(known)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--accuracy", type=float, default=0.95)
    parser.add_argument("--samples", type=int, default=500)
    args = parser.parse_args()
    for run in args.runs:
        measure = None
        reached = "not reached"
        for step in checkpoint.saved_steps(run):
            measure = measure or Measure(run, args.samples, step=step)
            measure.at(step)
            share = measure.scores({}, {"step": step, "seconds": seconds(run, step)})["conditional_accuracy"]
            if share >= args.accuracy:
                reached = f"{seconds(run, step):.1f} seconds, {step} steps"
                break
        print(f"{run}: {args.accuracy:g} of the samples have the class asked for: {reached}")


if __name__ == "__main__":
    main()
