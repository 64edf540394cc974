"""Project codes on the plane in which they vary the most."""

from __future__ import annotations

import numpy as np


def principal(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components (N, 2) of codes (N, *Z), and their shares of the variance.

    Codes of one dimension get a second coordinate of 0.
    """
    x = np.asarray(codes, np.float64).reshape(len(codes), -1)
    x = x - x.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    variance = np.square(s)
    share = variance / max(float(variance.sum()), 1e-12)
    pad = max(0, 2 - len(s))
    return np.pad(u[:, :2] * s[:2], ((0, 0), (0, pad))), np.pad(share[:2], (0, pad))
