"""Time the Fréchet distance and PRDC against pytorch-fid and prdc in one run.

    python experiments/benchmarks/metrics.py [--rows 5000] [--dims 64 2048] [--repeats 1]

Both sides get the same float32 features in memory. Compilation is timed separately: genjax runs
once before on the same shapes. A ratio below 1 means that genjax is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from genjax.evaluation.frechet import frechet
from genjax.evaluation.prdc import prdc

Metric = Callable[[np.ndarray, np.ndarray], Any]


def features(rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of correlated features (rows, dim) float32."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    real = rng.normal(size=(rows, dim)) @ mix
    fake = 0.9 * rng.normal(size=(rows, dim)) @ mix + 0.1
    return real.astype(np.float32), fake.astype(np.float32)


def peer_prdc(real: np.ndarray, fake: np.ndarray) -> tuple[float, ...]:
    """Return prdc's function to (precision, recall, density, coverage)."""
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        got = compute_prdc(real, fake, nearest_k=5)
    return tuple(got[k] for k in ("precision", "recall", "density", "coverage"))


def peer_frechet() -> Metric:
    """Return pytorch-fid's distance, with the computation of the covariances."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "peers"))
    from test_metrics_peers import module  # type: ignore[import-not-found]

    stubs = ("torchvision", "torchvision.transforms", "pytorch_fid", "pytorch_fid.inception")
    distance = module("pytorch_fid", "fid_score.py", stubs).calculate_frechet_distance

    def run(real: np.ndarray, fake: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a = real.astype(np.float64)
            b = fake.astype(np.float64)
            return float(distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)))

    return run


def timed(metric: Metric, real: np.ndarray, fake: np.ndarray) -> tuple[float, Any]:
    """Return (seconds, the value of the metric)."""
    start = time.perf_counter()
    value = metric(real, fake)
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[5000])
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 2048])
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    theirs = peer_frechet()
    heads = ("metric", "rows", "dim", "first", "ours", "peer", "ours/peer", "agree")
    print(" ".join(f"{h:>9}" for h in heads), flush=True)
    for rows, dim in itertools.product(args.rows, args.dims):
        real, fake = features(rows, dim)
        compare("prdc", prdc, peer_prdc, real, fake, args.repeats)
        compare("frechet", frechet, theirs, real, fake, args.repeats)


def compare(name: str, mine: Metric, peer: Metric, real: np.ndarray, fake: np.ndarray, repeats: int) -> None:
    """Time both on the same features and print a line."""
    first, a = timed(mine, real, fake)
    ours = statistics.median(timed(mine, real, fake)[0] for _ in range(repeats))
    runs = [timed(peer, real, fake) for _ in range(repeats)]
    other = statistics.median(r[0] for r in runs)
    b = runs[0][1]
    agree = np.allclose(np.asarray(a), np.asarray(b), rtol=1e-4)
    cells = f"{first:9.3f} {ours:9.3f} {other:9.3f} {ours / other:9.2f} {agree!s:>9}"
    print(f"{name:>9} {len(real):9} {real.shape[1]:9} {cells}", flush=True)


if __name__ == "__main__":
    main()
