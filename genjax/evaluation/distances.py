"""Compute pairwise Euclidean distances in chunks: float32 products on the device, float64 decisions.

The product form |x|^2 + |y|^2 - 2 x.y runs at the speed of a matrix product but loses digits if points are
near. Features are therefore centred and scaled first, and every squared distance gets a bound on its error.
Questions that the bound leaves undecided (which is the k-th neighbour; is a point inside a ball) are settled
on the host from the float64 differences of those few pairs. Results equal the float64 computation, on any
device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""

EXTRA = 4
"""Candidates kept beyond the k-th, so that near ties rarely need the whole row."""
PAIRS = 4096
"""Pairs whose float64 differences are held at once."""


class Frame(NamedTuple):
    """Hold the centre (D,) and the scale by which features are normalised for float32."""

    centre: np.ndarray
    scale: float

    @classmethod
    def of(cls, features: np.ndarray) -> Frame:
        """Return the frame in which these features have mean 0 and largest magnitude 1."""
        centre = features.mean(0, dtype=np.float64)
        span = max(
            float(np.abs(features.max(0) - centre).max()), float(np.abs(features.min(0) - centre).max())
        )
        return cls(centre, span or 1.0)


class Points(NamedTuple):
    """Hold features (N, D) as given, and for the device: scaled (N, D) and squared norms (N,)."""

    raw: np.ndarray
    scaled: Float[Array, "N D"]
    norms: Float[Array, " N"]
    scale: float

    @classmethod
    def of(cls, features: np.ndarray, frame: Frame) -> Points:
        """Return the points of features in a frame."""
        scaled = jnp.asarray(((features - frame.centre) / frame.scale).astype(np.float32))
        return cls(features, scaled, _norms(scaled), frame.scale)

    def __len__(self) -> int:
        return len(self.raw)

    def chunks(self, size: int) -> Iterator[tuple[int, int, Float[Array, "C D"], Float[Array, " C"]]]:
        """Yield (start, rows that count, scaled, norms). Every chunk has `size` rows: one program for all."""
        for start in range(0, len(self), size):
            rows = np.arange(start, start + size).clip(max=len(self) - 1)
            yield start, min(size, len(self) - start), self.scaled[rows], self.norms[rows]


def check(*features: np.ndarray) -> list[np.ndarray]:
    """Return the features as matrices of floats.

    Raises:
      ValueError: not (N, D) with one D, empty, or not finite.
    """
    out = [np.asarray(x) for x in features]
    out = [x if x.dtype in (np.float32, np.float64) else x.astype(np.float64) for x in out]
    if any(x.ndim != 2 or not x.size or x.shape[1] != out[0].shape[1] for x in out):
        raise ValueError(f"features must be (N, D) with one D, got {', '.join(str(x.shape) for x in out)}")
    if not all(np.isfinite(x).all() for x in out):
        raise ValueError("features are not finite")
    return out


def chunk_of(queries: int, points: int, chunk: int | None) -> int:
    """Return the rows of a chunk: `chunk`, or so many that a block of distances takes about 64 MiB."""
    return min(queries, chunk or int(np.clip((1 << 24) // points, 16, 2048)))


@jax.jit
def _norms(x: Float[Array, "N D"]) -> Float[Array, " N"]:
    return jnp.sum(x * x, axis=1)


def squared(
    q: Float[Array, "C D"], q_norms: Float[Array, " C"], p: Float[Array, "N D"], p_norms: Float[Array, " N"]
) -> tuple[Float[Array, "C N"], Float[Array, "C N"]]:
    """Return (squared distances, a bound on the error of each); called under jit.

    The bound allows for rounding of the inputs, the norms and a sum of D products, whose error grows like
    sqrt(D) (Higham and Mary 2019, probabilistic rounding bounds; the factor is generous).
    """
    norms = q_norms[:, None] + p_norms[None, :]
    # HIGHEST: accelerators would otherwise multiply in bfloat16 or TF32.
    d2 = norms - 2 * jnp.matmul(q, p.T, precision=jax.lax.Precision.HIGHEST)
    slack = (8 + 2 * q.shape[1] ** 0.5) * float(jnp.finfo(jnp.float32).eps)
    return d2, slack * norms


@functools.partial(jax.jit, static_argnames=("m", "k"))
def _candidates(
    q: Float[Array, "C D"],
    q_norms: Float[Array, " C"],
    p: Float[Array, "N D"],
    p_norms: Float[Array, " N"],
    self_index: Int[Array, " C"],
    *,
    m: int,
    k: int,
) -> tuple[Float[Array, "C m"], Int[Array, "C m"], Float[Array, " C"]]:
    """Return the m smallest squared distances of each row, their indices, and the error bound at the k-th."""
    d2, bound = squared(q, q_norms, p, p_norms)
    d2 = jnp.where(jnp.arange(p.shape[0])[None, :] == self_index[:, None], jnp.inf, d2)
    negative, index = jax.lax.top_k(-d2, m)
    # Candidates near the k-th distance have norms of their own; the largest bound of the m covers them.
    return -negative, index, jnp.take_along_axis(bound, index, axis=1).max(1)


def pair_squared(a: np.ndarray, i: np.ndarray, b: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Compute the squared distances of the pairs (a[i], b[j]) from float64 differences."""
    out = np.empty(len(i))
    for s in range(0, len(i), PAIRS):
        gap = a[i[s : s + PAIRS]].astype(np.float64) - b[j[s : s + PAIRS]]
        out[s : s + PAIRS] = np.einsum("nd,nd->n", gap, gap)
    return out


def nearest(
    queries: np.ndarray,
    points: np.ndarray,
    k: int,
    *,
    exclude_self: bool = False,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of `points` (N, D) to each of `queries` (Q, D), nearest first.

    Args:
      exclude_self: queries and points are the same rows; a row is not its own neighbour.
      chunk: queries at a time; memory is O(chunk * N).

    Returns:
      (distances (Q, k) float64, indices (Q, k) int64). Equal distances come in the order of their indices.

    Raises:
      ValueError: k is not between 1 and the number of neighbours, or bad features.
    """
    queries, points = check(queries, points)
    frame = Frame.of(points)
    q = Points.of(queries, frame)
    p = Points.of(points, frame)
    return _nearest(q, p, k, exclude_self, False, chunk, progress)


def radii(points: Points, k: int, chunk: int | None = None, progress: Progress | None = None) -> np.ndarray:
    """Compute the *squared* distance (N,) float64 of each point to its k-th nearest other point."""
    return _nearest(points, points, k, True, True, chunk, progress)[0]


def _nearest(
    q: Points, p: Points, k: int, exclude_self: bool, last: bool, chunk: int | None, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (distances, indices) of all k, or with `last` (the k-th's squared distance (Q,), empty)."""
    available = len(p) - exclude_self
    if not 1 <= k <= available:
        raise ValueError(f"k is {k}, but there are {available} neighbours")
    m = min(k + EXTRA, available)
    size = chunk_of(len(q), len(p), chunk)
    out_d = np.empty((len(q), k))
    out_i = np.empty((len(q), k), np.int64)
    for start, count, rows, norms in q.chunks(size):
        own = jnp.arange(start, start + size) if exclude_self else jnp.full((size,), -1)
        found = _candidates(rows, norms, p.scaled, p.norms, own, m=m, k=k)
        d2, index, bound = (np.asarray(x)[:count] for x in found)
        s = slice(start, start + count)
        out_d[s], out_i[s] = _settle(q, p, start, d2, index, bound, k, exclude_self, last, m == available)
        if progress:
            progress(start + count, len(q))
    return (out_d[:, -1], out_i[:, :0]) if last else (np.sqrt(out_d), out_i)


def _settle(
    q: Points,
    p: Points,
    start: int,
    d2: np.ndarray,
    index: np.ndarray,
    bound: np.ndarray,
    k: int,
    exclude_self: bool,
    last: bool,
    complete: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest in float64, from m candidates per row in float32 and the bound on their error."""
    kth = d2[:, k - 1 : k]
    slack = 2 * bound[:, None]
    close = np.abs(d2 - kth) <= slack
    needed = close if last else close | (np.arange(d2.shape[1]) < k)
    row, column = np.nonzero(needed)
    exact = d2.astype(np.float64) * p.scale**2
    exact[row, column] = pair_squared(q.raw, start + row, p.raw, index[row, column])
    order = np.lexsort((index, exact), axis=1)[:, :k]
    if not complete:
        # A candidate beyond the m-th might still be nearer than the k-th: these rows are done in full.
        doubtful = np.nonzero(close[:, -1])[0]
        for part in np.array_split(doubtful, -(-len(doubtful) // 256)) if len(doubtful) else []:
            full = _rows_in_float64(q.raw[start + part], p.raw)
            if exclude_self:
                full[np.arange(len(part)), start + part] = np.inf
            best = np.argpartition(full, k - 1, axis=1)[:, :k]
            values = pair_squared(q.raw, np.repeat(start + part, k), p.raw, best.ravel())
            values = values.reshape(best.shape)
            order_part = np.lexsort((best, values), axis=1)
            exact[part, :k] = np.take_along_axis(values, order_part, 1)
            index = index.copy() if not index.flags.writeable else index
            index[part, :k] = np.take_along_axis(best, order_part, 1)
            order[part] = np.arange(k)
    return np.take_along_axis(exact, order, 1), np.take_along_axis(index, order, 1)


def _rows_in_float64(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Compute all squared distances (Q, N) by float64 products, which are precise enough to choose by."""
    centre = p.mean(0, dtype=np.float64)
    q = q - centre
    p = p - centre
    norms = np.einsum("nd,nd->n", q, q)[:, None] + np.einsum("nd,nd->n", p, p)[None]
    return norms - 2 * (q @ p.T)


@jax.jit
def _compare(
    q: Float[Array, "C D"],
    q_norms: Float[Array, " C"],
    q_radii: Float[Array, " C"],
    p: Float[Array, "N D"],
    p_norms: Float[Array, " N"],
    p_radii: Float[Array, " N"],
    count: Int[Array, ""],
) -> tuple[Int[Array, " C"], Bool[Array, " N"], Bool[Array, " N"], Int[Array, "C N"]]:
    """Decide which points are inside which balls, with a bit for each question that float32 leaves open.

    Returns:
      (balls of p around each q, is a q inside the ball of each p, is each p inside the ball of a q,
      undecided: 1 for the first question and 2 for the other).
    """
    d2, bound = squared(q, q_norms, p, p_norms)
    real = (jnp.arange(q.shape[0]) < count)[:, None]
    in_p = d2 - p_radii[None, :]
    in_q = d2 - q_radii[:, None]
    in_p_sure = real & (in_p < -bound)
    in_q_sure = real & (in_q < -bound)
    asks = (real & (jnp.abs(in_p) <= bound)) + 2 * (real & (jnp.abs(in_q) <= bound)).astype(jnp.uint8)
    return in_p_sure.sum(1), in_p_sure.any(0), in_q_sure.any(0), asks.astype(jnp.uint8)


def memberships(
    q: Points,
    q_radii: np.ndarray,
    p: Points,
    p_radii: np.ndarray,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the points that lie strictly inside balls, in O(chunk * N) memory.

    Args:
      q_radii, p_radii: squared radii (Q,) and (N,), float64.

    Returns:
      (number of balls of p that hold each q: (Q,) int64; balls of p that hold any q: (N,) bool; points p
      in the ball of any q: (N,) bool).
    """
    size = chunk_of(len(q), len(p), chunk)
    inside = np.zeros(len(q), np.int64)
    covered = np.zeros(len(p), bool)
    recalled = np.zeros(len(p), bool)
    radii_p = jnp.asarray((p_radii / p.scale**2).astype(np.float32))
    radii_q = (q_radii / p.scale**2).astype(np.float32)
    for start, count, rows, norms in q.chunks(size):
        r = jnp.asarray(radii_q[np.arange(start, start + size).clip(max=len(q) - 1)])
        found = _compare(rows, norms, r, p.scaled, p.norms, radii_p, jnp.int32(count))
        balls, holds, held, asks = (np.asarray(x) for x in found)
        inside[start : start + count] = balls[:count]
        covered |= holds
        recalled |= held
        i, j = np.nonzero(asks[:count])
        if len(i):
            d2 = pair_squared(q.raw, start + i, p.raw, j)
            ask = asks[i, j]
            yes = (ask & 1).astype(bool) & (d2 < p_radii[j])
            np.add.at(inside, start + i[yes], 1)
            covered[j[yes]] = True
            recalled[j[(ask & 2).astype(bool) & (d2 < q_radii[start + i])]] = True
        if progress:
            progress(start + count, len(q))
    return inside, covered, recalled
