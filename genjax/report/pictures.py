"""Samples, real rows and nearest neighbours as embedded pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from genjax.markup import Html, tag
from genjax.report import grids
from genjax.report.runs import Comparison, Run

if TYPE_CHECKING:
    import numpy as np

ROW = 20
SHARPEST = 2_000_000


def image(pixels: np.ndarray, levels: int, columns: int, alt: str) -> Html:
    """An embedded grid of tiles, enlarged by whole pixels."""
    scale = grids.scale_for(max(pixels.shape[1:3]))
    gap = max(2, scale * pixels.shape[2] // 6)
    levels = max(levels, int(pixels.max()) + 1)  # a sample beyond the data's levels must not break the page
    picture = grids.grid(pixels, levels, columns, scale, gap=gap, background=None)
    return tag("img", src=grids.data_uri(picture), alt=alt, width=picture.width, height=picture.height)


def rows_of(samples: Mapping[str, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray | None] | None:
    """(images, labels or None) where the samples are images that can be drawn."""
    pixels = None if samples is None else samples.get("image")
    if pixels is None or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not len(pixels):
        return None
    return pixels, (samples or {}).get("label")


def strip(samples: Mapping[str, np.ndarray] | None, levels: int, alt: str) -> Html:
    """One row of samples in order of class, as two pictures: a phone shows the first alone."""
    found = rows_of(samples)
    if found is None:
        return tag("div", "no pictures yet", class_="none")
    pixels, labels = found
    chosen = row(labels, len(pixels))
    half = ROW // 2
    parts = [chosen[:half], chosen[half:]]
    return tag(
        "div",
        [image(pixels[part], levels, half, alt if n == 0 else "") for n, part in enumerate(parts) if part],
        class_="tiles",
    )


def row(labels: np.ndarray | None, available: int, length: int = ROW) -> list[int]:
    """The rows of the strip: each class once, then each again, in the order in which they were drawn."""
    import numpy as np

    if labels is None:
        return list(range(min(length, available)))
    labels = np.asarray(labels)[:available]
    classes = np.unique(labels)
    places = {int(c): np.flatnonzero(labels == c) for c in classes}
    rounds = max(len(p) for p in places.values())
    order = [int(places[int(c)][r]) for r in range(rounds) for c in classes if r < len(places[int(c)])]
    return order[:length]


def sheet(
    samples: Mapping[str, np.ndarray] | None, levels: int, alt: str, reach: float = 0.0, per_class: int = 8
) -> Html:
    """Samples, large: images in a column for each class (or the first 80 as drawn), points as dots."""
    import numpy as np

    if samples is not None and "point" in samples:
        return points(samples["point"], alt, reach=reach)
    found = rows_of(samples)
    if found is None:
        return tag("p", "no pictures yet", class_="none")
    pixels, labels = found
    if labels is None:
        level = tag("div", tag("span", "\u00a0"), class_="labels", aria_hidden="true")
        return tag("div", level, image(pixels[:80], levels, 10, alt))
    classes = np.unique(np.asarray(labels)[: len(pixels)])[:10]
    columns = [np.flatnonzero(labels[: len(pixels)] == c)[:per_class] for c in classes]
    deep = min(len(c) for c in columns)
    order = [int(c[r]) for r in range(deep) for c in columns]
    heads = tag("div", [tag("span", c) for c in classes], class_="labels", aria_hidden="true")
    return tag("div", heads, image(pixels[order], levels, len(classes), alt))


def film(run: Run, most: int = 4) -> Html | None:
    """How the samples grew: pictures that training left, evenly chosen, the last among them."""
    found = run.pictures()
    if len(found) < 2:
        return None
    places = sorted(
        {round(i * (len(found) - 1) / (min(most, len(found)) - 1)) for i in range(min(most, len(found)))}
    )
    frames = [(step, _file(path)) for step, path in (found[i] for i in places)]
    return tag(
        "div",
        [
            tag(
                "figure",
                tag("img", src=uri, alt=f"{run.label} at step {step}")
                if uri
                else tag("p", "unreadable", class_="none"),
                tag("figcaption", f"step {step:,}".replace(",", " ")),
            )
            for step, uri in frames
        ],
        class_="steps",
    )


def latest(run: Run) -> Html | None:
    """The last picture that training left, large, for a run that has not been sampled yet."""
    found = run.pictures()
    uri = _file(found[-1][1]) if found else None
    return tag("img", src=uri, alt=f"{run.label} at step {found[-1][0]}") if uri else None


def _file(path: Path) -> str | None:
    """A picture file as a URI: its upper left part where it is large, None where it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            if picture.width * picture.height > SHARPEST:
                picture = picture.crop((0, 0, min(picture.width, 1400), min(picture.height, 1400)))
            return grids.data_uri(picture)
    except (OSError, UnidentifiedImageError, ValueError):
        return None


def pairs(run: Run, levels: int, most: int = 8) -> Html | None:
    """The samples nearest to any training image, beside it, with their distance; nearest first."""
    import numpy as np

    found = run.neighbours
    if not found:
        return None
    sample, near = found.get("image", found.get("sample")), found.get("neighbour", found.get("nearest"))
    distance = found.get("distance")
    if sample is None or near is None or distance is None or sample.ndim != 4 or not len(sample):
        return None
    distance = distance.reshape(len(sample), -1)[:, 0]
    near = near if near.ndim == 4 else near[:, 0]
    order = np.argsort(distance, kind="stable")[:most]
    return tag(
        "div",
        [
            tag(
                "figure",
                image(
                    np.stack([sample[i], near[i]]), levels, 2, f"sample {i} and its nearest training image"
                ),
                tag("figcaption", f"{distance[i]:#.3g}"),
            )
            for i in order
        ],
        class_="pairs",
    )


def points(rows: np.ndarray, alt: str, most: int = 1500, reach: float = 0.0) -> Html:
    """Two-dimensional samples as dots; the frame is the same for all that have the same `reach`."""
    rows = rows[:most, :2].astype(float)
    reach = reach or float(abs(rows).max()) * 1.1 or 1.0
    dots = "".join(f"M{x / reach:.3f} {-y / reach:.3f}h0" for x, y in rows)
    return tag(
        "svg",
        tag("path", d=dots, class_="cloud"),
        viewBox="-1.02 -1.02 2.04 2.04",
        role="img",
        aria_label=alt,
        class_="points",
    )


def text(run: Run, most: int = 900) -> Html | None:
    """What the run wrote as text (samples/final.txt), its beginning; None where it wrote none."""
    try:
        written = (run.directory / "samples" / "final.txt").read_text("utf-8", errors="replace")
    except OSError:
        return None
    return tag("pre", written[:most] + ("…" if len(written) > most else ""), class_="text")


def any_images(comparison: Comparison) -> bool:
    """Whether there is anything to draw."""
    return any(
        rows_of(s) is not None or (s is not None and "point" in s)
        for s in (comparison.real, *(r.samples for r in comparison.entries))
    )
