"""Draw how far the critic of each training overfits, and samples of each, from a finished comparison.

    python -m experiments.augmentation runs/compare-augmentation-full [--out FOLDER]

r_t is the mean sign of the critic's logits on training rows (Karras et al. 2020, arXiv:2006.06676, eq. 1);
beside it the probability p of adaptive augmentation, and the mean logit of training rows. Writes curves.png
and samples.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from experiments.augmentation.compare import KINDS

PANELS = {
    "discriminator/overfitting": "r_t",
    "discriminator/augment_p": "p",
    "discriminator/real_logit": "logit of training rows",
}
"""{metric: label}."""


def draw_samples(directory: Path, out: Path) -> None:
    """Draw the samples that were scored, of each training beside those of the others."""
    found = {family: directory / name / "samples" / "final.png" for name, (family, _) in KINDS.items()}
    found = {family: path for family, path in found.items() if path.exists()}
    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 6.4), squeeze=False)
    for axis, (family, path) in zip(axes[0], found.items(), strict=True):
        axis.imshow(plt.imread(path), interpolation="nearest")
        axis.set_title(family)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, help="the folder of both pictures; the directory by default")
    args = parser.parse_args()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(4.5 * len(PANELS), 3.5))
    for name, (family, _) in KINDS.items():
        log = args.directory / name / "metrics.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        for axis, metric in zip(axes, PANELS, strict=True):
            found = [(r["step"], r[metric]) for r in lines if r.get("split") == "train" and metric in r]
            if found:
                axis.plot(*zip(*found, strict=True), label=family)
    for axis, label in zip(axes, PANELS.values(), strict=True):
        axis.set(xlabel="step", ylabel=label)
        axis.legend()
    figure.tight_layout()
    out = args.out or args.directory
    figure.savefig(out / "curves.png", dpi=150)
    draw_samples(args.directory, out / "samples.png")
    print(out / "curves.png", out / "samples.png")


if __name__ == "__main__":
    main()
