"""Compute how similar two images are: SSIM."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

SIGMA, RADIUS = 1.5, 5
K1, K2 = 0.01, 0.03


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the mean structural similarity (N,) of images (N, H, W, C) in [0, 1].

    Wang et al. 2004 ("Image quality assessment", eq. 13): Gaussian windows of 11 x 11 with sigma 1.5, each
    channel by itself, where the window lies inside of the image. Images smaller than the window have
    smaller windows, the largest odd ones that fit.

    Raises:
      ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"images {a.shape} and {b.shape} must have one shape")
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _local(x), _local(y)
    var_x = _local(x * x) - mean_x**2
    var_y = _local(y * y) - mean_y**2
    covariance = _local(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (top / bottom).mean((1, 2, 3))


def _local(x: np.ndarray) -> np.ndarray:
    """Return the weighted mean in each window: (N, H', W', C)."""
    for axis in (1, 2):
        radius = min(RADIUS, (x.shape[axis] - 1) // 2)
        place = np.arange(-radius, radius + 1)
        weight = np.exp(-0.5 * (place / SIGMA) ** 2)
        x = correlate1d(x, weight / weight.sum(), axis=axis, mode="constant")
        x = np.take(x, np.arange(radius, x.shape[axis] - radius), axis=axis)
    return x
