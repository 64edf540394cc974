"""Define the invertible layers of normalizing flows, on vectors (B, D) and on images (B, H, W, C).

A layer has `forward(x, condition) -> (y, log |det dy/dx| per row)` and `inverse(y, condition) -> x`. What is
fitted on data once, or drawn at random and never learned (the statistics of ActNorm, a permutation), lies in
the collection FITTED.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.linalg import lu, solve_triangular
from jaxtyping import Array, Float

from genjax.functional.reductions import sum_row
from genjax.nn.conv import Conv

FITTED = "fitted"
Mask = Literal["half", "even", "odd"]


def squeeze(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C4"]:
    """Move each block of 2x2 pixels into the channels (Dinh et al. 2017, sec. 3.6)."""
    B, H, W, C = x.shape
    x = x.reshape(B, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(B, H // 2, W // 2, 4 * C)


def unsqueeze(x: Float[Array, "B H W C4"]) -> Float[Array, "B H2 W2 C"]:
    """Invert `squeeze`."""
    B, H, W, C = x.shape
    x = x.reshape(B, H, W, 2, 2, C // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(B, 2 * H, 2 * W, C // 4)


class ActNorm(nn.Module):
    """Normalise each channel by statistics of one batch, then scale and shift it.

    Kingma & Dhariwal (2018, sec. 3.1) initialise the scale and the shift from the batch. Here the statistics
    stay in FITTED, and the learned scale and shift start at the identity: the same function, and fitting
    writes no parameter.

    Attributes:
      channels: of the input.
    """

    channels: int

    def setup(self):
        zeros = nn.initializers.zeros
        self.log_scale = self.param("log_scale", zeros, (self.channels,))
        self.shift = self.param("shift", zeros, (self.channels,))
        self.mean = self.variable(FITTED, "mean", jnp.zeros, (self.channels,))
        self.log_std = self.variable(FITTED, "log_std", jnp.zeros, (self.channels,))

    def fit(self, x: Float[Array, "B *S C"], mask: Float[Array, " B"]) -> None:
        """Set the statistics to those of the rows whose mask is 1; needs FITTED to be mutable."""
        rows = x.reshape(x.shape[0], -1, self.channels)
        weight = (mask / (mask.sum() * rows.shape[1]))[:, None, None]
        mean = (rows * weight).sum((0, 1))
        variance = (jnp.square(rows - mean[None, None]) * weight).sum((0, 1))
        self.mean.value = mean
        # Pixels that never change have no variance: their scale is bounded.
        self.log_std.value = 0.5 * jnp.log(variance + 1e-4)

    def forward(self, x: Float[Array, "B *S C"], condition: Any = None) -> tuple[jax.Array, jax.Array]:
        log_slope = self.log_scale - self.log_std.value
        y = (x - self._wide(self.mean.value, x)) * self._wide(jnp.exp(log_slope), x) + self._wide(
            self.shift, x
        )
        return y, jnp.full((x.shape[0],), _pixels(x)) * log_slope.sum()

    def inverse(self, y: Float[Array, "B *S C"], condition: Any = None) -> jax.Array:
        slope = jnp.exp(self.log_std.value - self.log_scale)
        return (y - self._wide(self.shift, y)) * self._wide(slope, y) + self._wide(self.mean.value, y)

    def _wide(self, v: Float[Array, " C"], x: jax.Array) -> jax.Array:
        return v.reshape((1,) * (x.ndim - 1) + (self.channels,))


class Mixing(nn.Module):
    """Multiply the channels by an invertible matrix W = P L (U + diag(s)) (Kingma & Dhariwal 2018, eq. 10).

    L is unit lower triangular and U strictly upper triangular, so that log |det W| is the sum of log |s|.
    P and the signs of s are those of a random rotation and are not learned.

    Attributes:
      channels: of the input.
    """

    channels: int

    def setup(self):
        C = self.channels
        permutation, lower, upper = (jnp.zeros((C, C)),) * 3
        if self.is_initializing():
            permutation, lower, upper = lu(nn.initializers.orthogonal()(self.make_rng("params"), (C, C)))
        self.permutation = self.variable(FITTED, "permutation", lambda: permutation)
        self.sign = self.variable(FITTED, "sign", lambda: jnp.sign(jnp.diag(upper)))
        self.lower = self.param("lower", lambda key: jnp.tril(lower, -1))
        self.upper = self.param("upper", lambda key: jnp.triu(upper, 1))
        self.log_s = self.param("log_s", lambda key: jnp.log(jnp.abs(jnp.diag(upper))))

    def factors(self) -> tuple[Float[Array, "C C"], Float[Array, "C C"]]:
        """Return L and U + diag(s)."""
        lower = jnp.tril(self.lower, -1) + jnp.eye(self.channels)
        return lower, jnp.triu(self.upper, 1) + jnp.diag(self.sign.value * jnp.exp(self.log_s))

    def forward(self, x: Float[Array, "B *S C"], condition: Any = None) -> tuple[jax.Array, jax.Array]:
        lower, upper = self.factors()
        # Row vectors: y = x W^T.
        weights = (self.permutation.value @ lower @ upper).T
        return x @ weights, jnp.full((x.shape[0],), _pixels(x)) * self.log_s.sum()

    def inverse(self, y: Float[Array, "B *S C"], condition: Any = None) -> jax.Array:
        lower, upper = self.factors()
        inner = solve_triangular(lower, self.permutation.value.T, lower=True, unit_diagonal=True)
        return y @ solve_triangular(upper, inner).T


class Reverse(nn.Module):
    """Reverse the order of the channels, so that the next coupling changes the other half."""

    def forward(self, x: Float[Array, "B *S C"], condition: Any = None) -> tuple[jax.Array, jax.Array]:
        return x[..., ::-1], jnp.zeros(x.shape[0])

    def inverse(self, y: Float[Array, "B *S C"], condition: Any = None) -> jax.Array:
        return y[..., ::-1]


class CouplingNetwork(nn.Module):
    """Map (fixed part, condition) to `outputs` channels of the same pixels; zero at first.

    Attributes:
      outputs: channels of the output.
      width: channels of the hidden layers.
      depth: number of hidden layers.
    """

    outputs: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"], condition: Float[Array, "B K"]) -> Float[Array, "B *S D"]:
        image = x.ndim == 4
        zeros = nn.initializers.zeros
        h = (Conv(self.width, name="in") if image else nn.Dense(self.width, name="in"))(x)
        if condition.shape[-1]:
            shift = nn.Dense(self.width, use_bias=False, name="condition")(condition)
            h = h + shift.reshape(x.shape[0], *(1,) * (x.ndim - 2), self.width)
        for i in range(self.depth - 1):
            name = f"hidden_{i}"
            h = nn.relu(h)
            h = (Conv(self.width, 1, name=name) if image else nn.Dense(self.width, name=name))(h)
        h = nn.relu(h)
        if image:
            return Conv(self.outputs, kernel_init=zeros, name="out")(h)
        return nn.Dense(self.outputs, kernel_init=zeros, name="out")(h)


class Coupling(nn.Module):
    """Scale and shift one part of x by functions of the other part (Dinh et al. 2017, eq. 4 to 7).

    Attributes:
      channels: of the input.
      width, depth: of the network.
      limit: the log scale lies in (-limit, limit).
      mask: which part is fixed: "half" (the first half of the channels), or the "even" or "odd" pixels of a
        checkerboard.
    """

    channels: int
    width: int
    depth: int = 2
    limit: float = 2.0
    mask: Mask = "half"

    def setup(self):
        free = self.channels - self.channels // 2 if self.mask == "half" else self.channels
        self.network = CouplingNetwork(2 * free, self.width, self.depth)

    def forward(
        self, x: Float[Array, "B *S C"], condition: Float[Array, "B K"], context: jax.Array | None = None
    ) -> tuple[Float[Array, "B *S C"], Float[Array, " B"]]:
        fixed, free = self._parts(x)
        log_scale, shift = self._affine(fixed, condition, context)
        return self._joined(fixed, free * jnp.exp(log_scale) + shift), sum_row(log_scale)

    def inverse(
        self, y: Float[Array, "B *S C"], condition: Float[Array, "B K"], context: jax.Array | None = None
    ) -> Float[Array, "B *S C"]:
        fixed, moved = self._parts(y)
        log_scale, shift = self._affine(fixed, condition, context)
        return self._joined(fixed, (moved - shift) * jnp.exp(-log_scale))

    def _affine(
        self, fixed: jax.Array, condition: jax.Array, context: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Return log scale and shift; both are 0 on the fixed pixels of a checkerboard."""
        inputs = fixed if context is None else jnp.concatenate([fixed, context], -1)
        raw, shift = jnp.split(self.network(inputs, condition), 2, -1)
        log_scale = self.limit * jnp.tanh(raw / self.limit)
        if self.mask == "half":
            return log_scale, shift
        free = 1.0 - self._board(fixed)
        return log_scale * free, shift * free

    def _parts(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        if self.mask == "half":
            return x[..., : self.channels // 2], x[..., self.channels // 2 :]
        board = self._board(x)
        return x * board, x * (1.0 - board)

    def _joined(self, fixed: jax.Array, free: jax.Array) -> jax.Array:
        return jnp.concatenate([fixed, free], -1) if self.mask == "half" else fixed + free

    def _board(self, x: Float[Array, "B H W C"]) -> Float[Array, "1 H W 1"]:
        """Return 1 at the fixed pixels of the checkerboard."""
        rows = jnp.arange(x.shape[1])[:, None]
        columns = jnp.arange(x.shape[2])[None]
        odd = (rows + columns) % 2
        return (odd if self.mask == "odd" else 1 - odd).astype(x.dtype)[None, :, :, None]


class GaussianHead(nn.Module):
    """Predict mean and log standard deviation of the half that leaves the flow at a level.

    It is a convolution of the half that stays (Kingma & Dhariwal 2018, sec. 4; "split"), zero at first.

    Attributes:
      channels: of the half that leaves.
      limit: the log standard deviation lies in (-limit, limit).
    """

    channels: int
    limit: float = 2.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], condition: Float[Array, "B K"]
    ) -> tuple[Float[Array, "B H W D"], Float[Array, "B H W D"]]:
        zeros = nn.initializers.zeros
        out = Conv(2 * self.channels, kernel_init=zeros, name="out")(x)
        if condition.shape[-1]:
            shift = nn.Dense(2 * self.channels, use_bias=False, kernel_init=zeros, name="condition")(
                condition
            )
            out = out + shift[:, None, None]
        mean, raw = jnp.split(out, 2, -1)
        return mean, self.limit * jnp.tanh(raw / self.limit)


def _pixels(x: jax.Array) -> int:
    """Return how many pixels a row has; 1 for a vector."""
    return math.prod(x.shape[1:-1])
