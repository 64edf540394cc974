"""Turn images into black and white: by a threshold, or by a draw that is new at every presentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from genjax.data.permutation import mix
from genjax.data.plans import Plan, Plans
from genjax.data.rows import Columns, Rows
from genjax.errors import DataError
from genjax.spec import Element

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Binarised(Rows):
    """Replace the levels of images by 0 and 1.

    With draws, a pixel of level k of L is 1 with probability k / (L - 1) (Salakhutdinov & Murray 2008;
    drawn anew at every presentation by Burda et al. 2016). The draw is a function of the seed of the order
    and the place in the stream, so that a resumed run repeats it. In the order `once`, and in random access,
    the place is the row itself: an evaluation always reads the same pixels.

    Args:
      levels: of each image, by the name of its column.
      draw: draw the pixels; else a pixel is 1 in the upper half of the levels.
    """

    def __init__(self, rows: Rows, levels: Mapping[str, int], draw: bool):
        self.rows = rows
        self.levels = dict(levels)
        self.draw = draw
        self.memory = rows.memory

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, indices: np.ndarray) -> Columns:
        return self._binary(self.rows(indices), 0, indices)

    def first(self, limit: int) -> Rows:
        """Return the first `limit` rows, or all if there are fewer."""
        return Binarised(self.rows.first(limit), self.levels, self.draw)

    def plans(self, order: str, batch: int, seed: int) -> Plans:
        """Return the plans of the rows, with the seed and the places of the draws as `details`."""
        return _Placed(self.rows.plans(order, batch, seed), batch, seed)

    def read(self, plan: Plan) -> Columns:
        """Return the rows of a batch that `plans` planned."""
        inner, seed, places = plan.details
        return self._binary(self.rows.read(inner), seed, places)

    def describe(self) -> list[tuple[str, str]]:
        """Return lines (name, value) for a description of the dataset."""
        how = "drawn at every presentation" if self.draw else "by a threshold"
        return [*self.rows.describe(), ("binarised", how)]

    def _binary(self, columns: Columns, seed: int, places: np.ndarray) -> Columns:
        out = dict(columns)
        for name, levels in self.levels.items():
            image = columns[name]
            if self.draw:
                white = uniform(seed, places, image[0].size).reshape(image.shape) * (levels - 1) < image
            else:
                white = 2 * image.astype(np.int64) >= levels
            out[name] = white.astype(np.uint8)
        return out


class _Placed:
    """Add to each plan of the rows what a draw depends on."""

    def __init__(self, plans: Plans, batch: int, seed: int):
        self.plans = plans
        self.batch = batch
        self.seed = seed

    @property
    def epoch(self) -> float:
        return self.plans.epoch

    def __call__(self, number: int, part: tuple[int, int], fresh: bool) -> Plan:
        plan = self.plans(number, part, fresh)
        places = number * self.batch + np.arange(*part, dtype=np.int64)
        return plan._replace(details=(plan, self.seed, places))


def uniform(seed: int, places: np.ndarray, size: int) -> np.ndarray:
    """Return `size` numbers in [0, 1) per place, float32: a function of (seed, place, position) alone."""
    start = mix(np.array([seed & (2**64 - 1)], np.uint64) + _GOLDEN)
    rows = mix(start ^ places.astype(np.uint64))
    words = mix(rows[:, None] + np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN)
    # The 24 highest bits are the most that a float32 holds exactly.
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def binarised(
    elements: Mapping[str, Element], rows: list[Rows], draw: bool
) -> tuple[dict[str, Element], list[Rows]]:
    """Return the elements and the parts with every image in two levels.

    Raises:
      DataError: there are no images of whole levels.
    """
    levels = {n: e.levels for n, e in elements.items() if len(e.shape) == 3 and e.levels}
    if not levels:
        raise DataError("data.binarise needs images of whole levels", "leave data.binarise at None")
    changed = {n: dataclasses.replace(e, levels=2) if n in levels else e for n, e in elements.items()}
    return changed, [Binarised(part, levels, draw) for part in rows]
