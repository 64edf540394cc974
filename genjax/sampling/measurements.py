"""Define linear measurements of images and their pseudo-inverses; values of any range, B x H x W x C."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Average squares of `factor` pixels: what super-resolution begins from."""

    factor: int = 2

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        """Return the means of squares; `factor` divides both sides."""
        B, H, W, C = x.shape
        f = self.factor
        return x.reshape(B, H // f, f, W // f, f, C).mean((2, 4))

    def inverse(self, y: Float[Array, "B h w C"]) -> Float[Array, "B H W C"]:
        """Return the image of least norm that gives y: every pixel has the mean of its square."""
        return jnp.repeat(jnp.repeat(y, self.factor, 1), self.factor, 2)


@dataclasses.dataclass(frozen=True)
class Blurred:
    """Convolve with a Gaussian, with periodic borders.

    Attributes:
      std: of the Gaussian, in pixels.
      smallest: frequencies whose factor is below this are left out of the pseudo-inverse.
    """

    std: float = 1.0
    smallest: float = 0.1

    def response(self, height: int, width: int) -> np.ndarray:
        """Return the factor of each frequency, (1, height, width // 2 + 1, 1)."""
        rows = np.fft.fftfreq(height)[:, None]
        columns = np.fft.rfftfreq(width)[None]
        factor = np.exp(-2.0 * (np.pi * self.std) ** 2 * (rows**2 + columns**2))
        return factor[None, :, :, None].astype(np.float32)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return self._filtered(x, self.response(*x.shape[1:3]))

    def inverse(self, y: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Return y with its frequencies divided by their factors, and 0 at those that are left out."""
        factor = self.response(*y.shape[1:3])
        kept = factor >= self.smallest
        return self._filtered(y, np.where(kept, 1.0 / np.where(kept, factor, 1.0), 0.0).astype(np.float32))

    def _filtered(self, x: Float[Array, "B H W C"], factor: np.ndarray) -> Float[Array, "B H W C"]:
        spectrum = jnp.fft.rfft2(x, axes=(1, 2)) * jnp.asarray(factor)
        return jnp.fft.irfft2(spectrum, s=x.shape[1:3], axes=(1, 2))
