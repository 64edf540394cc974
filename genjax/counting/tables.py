"""Count what follows a context in dense tables, and smooth the counts.

A context is a tuple of features (label, position, neighbouring tokens), most important first. Every prefix of
the features has its own table, and a longer context is smoothed with the shorter one (MacKay & Peto 1995):

    p_k(x | c) = (n_k(c, x) + weight p_{k-1}(x | c)) / (n_k(c) + weight),    p_{-1} = 1 / V
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genjax.views.sequences import Sequence


@struct.dataclass
class Counts:
    """Hold the counts of tokens after contexts.

    Attributes:
      pairs: n_k(c, x) of each table, int32, contexts x V.
      totals: n_k(c) of each table, int32: the sums over V.
      rows: int32, rows counted.
    """

    pairs: tuple[Int[Array, "C V"], ...]
    totals: tuple[Int[Array, " C"], ...]
    rows: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """Define a past token, `lag` back in raster order; it exists if column + dx and channel + dc do."""

    lag: int
    dx: int = 0
    dc: int = 0


def previous(number: int) -> tuple[Neighbour, ...]:
    """Return the last `number` tokens, the latest first."""
    return tuple(Neighbour(lag) for lag in range(1, number + 1))


def nearest(number: int, shape: tuple[int, ...]) -> tuple[Neighbour, ...]:
    """Return the `number` nearest pixels that precede one in raster order (a causal template), nearest first.

    In images with several channels, the earlier channels of the same pixel come first.
    """
    channels = shape[2] if len(shape) == 3 else 1
    earlier = [Neighbour(dc, dc=-dc) for dc in range(1, channels)]
    reach = range(-number, number + 1)
    past = [(dy, dx) for dy in range(-number, 1) for dx in reach if (dy, dx) < (0, 0)]
    past.sort(key=lambda at: (at[0] ** 2 + at[1] ** 2, -at[0], at[1]))
    row = shape[1] * channels
    return tuple([*earlier, *(Neighbour(-dy * row - dx * channels, dx) for dy, dx in past)][:number])


@dataclasses.dataclass(frozen=True)
class Contexts:
    """Define the features of a context and number the contexts.

    Attributes:
      sequence: the form of the tokens.
      neighbours: past tokens, most important first.
      bins: values that the level of a neighbour is rounded to; one more stands for "outside".
      position: the position in the row is a feature too, after the label.
    """

    sequence: Sequence
    neighbours: tuple[Neighbour, ...]
    bins: int
    position: bool

    @property
    def memory(self) -> int:
        """The past tokens that a context needs."""
        return max((n.lag for n in self.neighbours), default=1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of values of each feature."""
        label = (self.sequence.classes + 1,) if self.sequence.classes else ()
        place = (self.sequence.length,) if self.position else ()
        return (*label, *place, *(self.bins + 1,) * len(self.neighbours))

    @property
    def tables(self) -> tuple[int, ...]:
        """The number of contexts of each table; one table per prefix of the features, the empty one first."""
        return tuple(math.prod(self.sizes[:k]) for k in range(len(self.sizes) + 1))

    def number(
        self, past: Int[Array, "B M+T"], positions: Int[Array, "B T"], label: Int[Array, " B"]
    ) -> list[Int[Array, "B T"]]:
        """Return the index of every target's context in each table.

        Args:
          past: the tokens read: `memory` before these inputs (start tokens before the row), then the T
            inputs. A value outside [0, levels) counts as outside.
          positions: of the targets in their rows.
          label: 0 .. classes; the last stands for no label.
        """
        s = self.sequence
        T = positions.shape[1]
        slots = [jnp.broadcast_to(label[:, None], positions.shape)] if s.classes else []
        if self.position:
            slots.append(jnp.minimum(positions, s.length - 1))
        width = s.shape[1] if len(s.shape) > 1 else 0
        channels = s.shape[2] if len(s.shape) == 3 else 1
        for n in self.neighbours:
            begin = past.shape[1] - T - n.lag + 1
            value = past[:, begin : begin + T]
            inside = value < s.levels
            if n.dx:
                column = positions // channels % width + n.dx
                inside &= (column >= 0) & (column < width)
            if n.dc:
                inside &= positions % channels + n.dc >= 0
            slots.append(jnp.where(inside, value * self.bins // s.levels, self.bins))
        numbers = [jnp.zeros_like(positions)]
        for slot, size in zip(slots, self.sizes, strict=True):
            numbers.append(numbers[-1] * size + slot)
        return numbers


def empty(tables: tuple[int, ...], levels: int) -> Counts:
    """Return zero counts for tables of these numbers of contexts."""
    return Counts(
        tuple(jnp.zeros((size, levels), jnp.int32) for size in tables),
        tuple(jnp.zeros((size,), jnp.int32) for size in tables),
        jnp.zeros((), jnp.int32),
    )


def add(
    counts: Counts,
    contexts: list[Int[Array, "N"]],
    targets: Int[Array, "N"],
    weight: Int[Array, "N"],
    rows: jax.Array,
) -> Counts:
    """Add these pairs to the counts; in place if the buffers are donated."""
    pairs = tuple(p.at[c, targets].add(weight) for p, c in zip(counts.pairs, contexts, strict=True))
    totals = tuple(t.at[c].add(weight) for t, c in zip(counts.totals, contexts, strict=True))
    return Counts(pairs, totals, counts.rows + rows)


def smoothed(
    pairs: list[Float[Array, "*S"]], totals: list[Float[Array, "*S"]], levels: int, weight: float
) -> Float[Array, "*S"]:
    """Compute the probability of a token: each table is smoothed with the previous one, the first with 1/V.

    This is the hierarchical Dirichlet language model of MacKay & Peto 1995 (see the module's docstring). The
    longest table alone with weight = delta V is additive smoothing.

    Args:
      pairs, totals: n_k(c, x) and n_k(c), shortest context first, of shapes that agree.
    """
    p = jnp.full_like(pairs[0], 1.0 / levels)
    for n, total in zip(pairs, totals, strict=True):
        p = (n + weight * p) / (total + weight)
    return p
