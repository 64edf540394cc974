"""Print the table of a finished comparison of codecs, and draw what VQ and VQ-GAN reconstruct.

    python -m experiments.codecs runs/compare-codecs-mnist5k [--out reconstructions.png]

The picture has a line of held-out images, one of their reconstructions by `vq`, and one of those by `vqgan`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from genjax.core import Batch
from genjax.workflows import assemble

COLUMNS = {
    "reconstruction_psnr": ("PSNR, dB", "{:.2f}"),
    "reconstruction_ssim": ("SSIM", "{:.3f}"),
    "reconstruction_frechet": ("Fréchet distance", "{:.1f}"),
    "code_bits": ("bits per image", "{:.0f}"),
    "code_use": ("codes in use", "{:.2f}"),
    "code_perplexity": ("perplexity", "{:.0f}"),
}
"""{score: (head, form)}."""
SHOWN = ("vq", "vqgan")
IMAGES, STRIDE = 14, 7
"""How many held-out images are drawn, and the rows between two of them."""
SCALE = 3


def line(name: str, scores: dict[str, dict]) -> str:
    """Return a line of the table, with intervals where there are some."""
    cells = []
    for score, (_, form) in COLUMNS.items():
        found = scores[score]
        text = form.format(found["value"])
        if found["low"] is not None:
            text += f" ({form.format(found['low'])} to {form.format(found['high'])})"
        cells.append(text)
    return f"| {name} | {' | '.join(cells)} |"


def reconstructed(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (held-out images, their reconstructions) of a run."""
    trained = assemble.restore(run)
    model = trained.experiment.model
    dataset = trained.experiment.dataset
    assert model.codec is not None
    rows = dataset.eval.rows(np.arange(IMAGES) * STRIDE % len(dataset.eval))
    batch: Batch = {**{k: jnp.asarray(x) for k, x in rows.items()}, "mask": jnp.ones(IMAGES)}
    variables = trained.ready("eval")
    codes = jax.jit(model.codec.encode)(variables, batch)
    (name,) = dataset.spec.targets
    return rows[name], np.asarray(jax.jit(model.codec.decode)(variables, codes)[name])


def draw(directory: Path, out: Path) -> None:
    """Write the picture."""
    lines = []
    for name in SHOWN:
        real, found = reconstructed(directory / name)
        lines += [found] if lines else [real, found]
    sheet = np.concatenate([np.concatenate(list(images), 1) for images in lines], 0)
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    size = (SCALE * picture.width, SCALE * picture.height)
    picture.resize(size, Image.Resampling.NEAREST).save(out)


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, help="reconstructions.png in the directory by default")
    args = parser.parse_args()
    about = json.loads((args.directory / "compare.json").read_text())
    print(f"| codec | {' | '.join(head for head, _ in COLUMNS.values())} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for name in about["entries"]:
        scores = {s["name"]: s for s in json.loads((args.directory / name / "scores.json").read_text())}
        print(line(name, scores))
    out = args.out or args.directory / "reconstructions.png"
    draw(args.directory, out)
    print(f"\n{out}")


if __name__ == "__main__":
    main()
