"""Give each image a small copy as its condition, for super-resolution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax.data.plans import Plan, Plans
from genjax.data.rows import Columns, Rows
from genjax.errors import DataError
from genjax.spec import Element

SOURCE = "source"
"""The name of the small image."""


class Downsampled(Rows):
    """Add a column with the image at a fraction of its size, by bicubic interpolation of averaged pixels.

    The filter is Pillow's BICUBIC (Keys' kernel with a = -1/2, widened by the factor), as is usual for
    super-resolution.

    Args:
      image: the name of the images' column.
      factor: by which each side is divided.
    """

    def __init__(self, rows: Rows, image: str, factor: int):
        self.rows = rows
        self.image = image
        self.factor = factor
        self.memory = rows.memory

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, indices: np.ndarray) -> Columns:
        return self._with_source(self.rows(indices))

    def first(self, limit: int) -> Rows:
        """Return the first `limit` rows, or all if there are fewer."""
        return Downsampled(self.rows.first(limit), self.image, self.factor)

    def plans(self, order: str, batch: int, seed: int) -> Plans:
        """Return the plans of the rows."""
        return self.rows.plans(order, batch, seed)

    def read(self, plan: Plan) -> Columns:
        """Return the rows of a batch that `plans` planned."""
        return self._with_source(self.rows.read(plan))

    def describe(self) -> list[tuple[str, str]]:
        """Return lines (name, value) for a description of the dataset."""
        return [*self.rows.describe(), (SOURCE, f"{self.image} at 1/{self.factor} of its size")]

    def _with_source(self, columns: Columns) -> Columns:
        return {SOURCE: smaller(columns[self.image], self.factor), **columns}


def smaller(images: np.ndarray, factor: int) -> np.ndarray:
    """Return uint8 images (N, H, W, C) at a fraction of their size."""
    from PIL import Image

    n, height, width, channels = images.shape
    size = (width // factor, height // factor)
    out = np.empty((n, size[1], size[0], channels), np.uint8)
    for i, image in enumerate(images):
        for c in range(channels):
            small = Image.fromarray(image[..., c]).resize(size, Image.Resampling.BICUBIC)
            out[i, ..., c] = np.asarray(small)
    return out


def downsampled(
    elements: Mapping[str, Element], rows: list[Rows], factor: int
) -> tuple[dict[str, Element], list[Rows]]:
    """Return the elements and the parts with `source`, the only condition.

    Raises:
      DataError: there is not one image of 256 levels whose sides can be divided, or there is a `source`.
    """
    found = [
        n
        for n, e in elements.items()
        if e.role == "target" and e.levels == 256 and len(e.shape) == 3 and e.dtype == "uint8"
    ]
    if len(found) != 1 or SOURCE in elements:
        raise DataError(
            "data.downsample needs one target that is an image of 256 levels, and no element `source`",
            "leave data.downsample at None, or choose such data",
        )
    name = found[0]
    element = elements[name]
    height, width, channels = element.shape
    if height % factor or width % factor:
        raise DataError(
            f"data.downsample={factor} does not divide images of {height}x{width}",
            "choose another factor, or set data.size",
        )
    small = element.replace(shape=(height // factor, width // factor, channels), role="condition")
    rest = {n: e.replace(role="auxiliary") if e.role == "condition" else e for n, e in elements.items()}
    return {SOURCE: small, **rest}, [Downsampled(part, name, factor) for part in rows]
