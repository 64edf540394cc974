"""Compute the Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, FID).

    d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1 S_2)^{1/2})        (arXiv:1706.08500, eq. 6)

The reported number is d^2, as everywhere in the field. It is biased upwards, by an amount that falls with the
number of samples and differs between models (Chong and Forsyth 2020, arXiv:1911.07023): compare only at equal
counts, on both sides. All in float64 on the host: the moments of n rows cost n D^2, the distance a few D^3.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.linalg


@dataclasses.dataclass(frozen=True)
class Moments:
    """Hold count, mean (D,) and the sum of outer products of deviations (D, D), in float64.

    `Moments.of(a) + Moments.of(b)` are the moments of both (Chan et al. 1979, eq. 2.1), without the
    cancellation of sums of squares.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Compute the moments of features (N, D).

        Raises:
          ValueError: not a matrix, empty, or not finite.
        """
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or not x.shape[0]:
            raise ValueError(f"features must be (N, D) with N > 0, got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features are not finite")
        mean = x.mean(0)
        x = x - mean
        return cls(len(x), mean, x.T @ x)

    def __add__(self, other: Moments) -> Moments:
        n = self.count + other.count
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.count * other.count / n)
        return Moments(n, self.mean + delta * (other.count / n), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance (D, D), like np.cov and the reference implementations.

        Raises:
          ValueError: fewer than two rows.
        """
        if self.count < 2:
            raise ValueError("a covariance needs at least two rows")
        return self.scatter / (self.count - 1)

    @functools.cached_property
    def root(self) -> np.ndarray:
        """R (D, rank) with R R' = covariance; kept, because one reference meets many sets of samples."""
        return _factor(self.covariance)


def distance(a: Moments, b: Moments) -> float:
    """Compute the squared Fréchet distance between the Gaussians with these moments."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"dimensions differ: {a.mean.shape} and {b.mean.shape}")
    return _distance(a.mean, a.covariance, a.root, b.mean, b.covariance)


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """Compute the squared Fréchet distance between two sets of features (N, D) and (M, D)."""
    return distance(Moments.of(real), Moments.of(fake))


def gaussian_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Compute the squared Fréchet distance of N(mean_a, cov_a) and N(mean_b, cov_b), singular ones included.

    tr((S_1 S_2)^{1/2}) is the sum of the square roots of the eigenvalues of R' S_2 R where S_1 = R R': a
    symmetric positive semi-definite matrix. No complex root can arise, and no term has to be added to the
    diagonal, unlike for the general square root of the product.

    Raises:
      ValueError: the dimensions differ.
    """
    mean_a = np.atleast_1d(np.float64(mean_a))
    mean_b = np.atleast_1d(np.float64(mean_b))
    cov_a = np.atleast_2d(np.float64(cov_a))
    cov_b = np.atleast_2d(np.float64(cov_b))
    if mean_a.shape != mean_b.shape or cov_a.shape != cov_b.shape or len(mean_a) != len(cov_a):
        raise ValueError(
            f"dimensions differ: {mean_a.shape}, {cov_a.shape} and {mean_b.shape}, {cov_b.shape}"
        )
    return _distance(mean_a, cov_a, _factor(cov_a), mean_b, cov_b)


def _distance(
    mean_a: np.ndarray, cov_a: np.ndarray, root: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> float:
    """Compute the distance, given a factor of cov_a."""
    cross = 0.0
    if root.shape[1]:  # rank 0: every row is the same
        product = root.T @ cov_b @ root
        eigenvalues = scipy.linalg.eigvalsh((product + product.T) / 2, check_finite=False)
        cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    gap = mean_a - mean_b
    return max(0.0, float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _factor(cov: np.ndarray) -> np.ndarray:
    """Return R (D, rank) with R R' = cov: Cholesky if it exists, else from the eigenvectors."""
    try:
        lower = scipy.linalg.cholesky(cov, lower=True, check_finite=False)
        # A pivot of rounding noise means a singular matrix that Cholesky let through.
        if np.diagonal(lower).min() > 1e-6 * np.diagonal(lower).max():
            return lower
    except scipy.linalg.LinAlgError:
        pass
    values, vectors = scipy.linalg.eigh(cov, driver="evd", check_finite=False)
    keep = values > max(values[-1], 0.0) * len(cov) * np.finfo(np.float64).eps
    return vectors[:, keep] * np.sqrt(values[keep])
