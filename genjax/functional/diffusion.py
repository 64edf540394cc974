"""Compute with the Gaussians of a diffusion: prediction targets, posteriors and loss weights.

Coefficients alpha and sigma are scalars or one per row (B); they are broadcast over a row's other axes here.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.functional.schedules import log_snr

Prediction = Literal["noise", "data", "velocity", "flow_velocity", "score", "edm"]
Weighting = Literal["uniform", "snr", "min_snr", "edm", "sigmoid", "bound"]
Variance = Literal["small", "large", "learned"]
Coefficients = tuple[jax.Array, jax.Array]
"""(alpha, sigma)"""


def spread(c: Array, x: Array) -> Array:
    """Reshape a coefficient per row (or one for all) to as many axes as x."""
    c = jnp.asarray(c)
    return c.reshape(c.shape + (1,) * (x.ndim - c.ndim))


def diffuse(
    x_0: Float[Array, "B *shape"], noise: Float[Array, "B *shape"], at: Coefficients
) -> Float[Array, "B *shape"]:
    """Compute x_t = alpha x_0 + sigma noise."""
    return spread(at[0], x_0) * x_0 + spread(at[1], x_0) * noise


def target(
    prediction: Prediction,
    x_0: Float[Array, "B *shape"],
    noise: Float[Array, "B *shape"],
    at: Coefficients,
    spread_of_data: float = 0.5,
) -> Float[Array, "B *shape"]:
    """Return the regression target of a network with this prediction.

    "noise" is epsilon (Ho et al. 2020), "data" is x_0, "velocity" is alpha noise - sigma x_0 (Salimans & Ho
    2022, arXiv:2202.00512, sec. 4), "flow_velocity" is noise - x_0, which is dx_t/dt on the straight path
    (Liu et al. 2023, arXiv:2209.03003, eq. 1), "score" is -noise / sigma, the gradient of log q(x_t | x_0),
    and "edm" is (x_0 - c_skip x_t / alpha) / c_out (Karras et al. 2022, arXiv:2206.00364, eq. 8).

    Args:
      spread_of_data: sigma_data of "edm".
    """
    if prediction == "noise":
        return noise
    if prediction == "data":
        return x_0
    if prediction == "flow_velocity":
        return noise - x_0
    if prediction == "score":
        return -noise / spread(at[1], x_0)
    if prediction == "edm":
        skip, out, _ = (spread(c, x_0) for c in preconditioning(at, spread_of_data))
        return (x_0 - skip * diffuse(x_0, noise, at)) / out
    return spread(at[0], x_0) * noise - spread(at[1], x_0) * x_0


def to_data(
    prediction: Prediction,
    output: Float[Array, "B *shape"],
    x_t: Float[Array, "B *shape"],
    at: Coefficients,
    spread_of_data: float = 0.5,
) -> Float[Array, "B *shape"]:
    """Convert a network's output to its estimate of x_0."""
    alpha, sigma = (spread(c, x_t) for c in at)
    if prediction == "noise":
        return (x_t - sigma * output) / alpha
    if prediction == "data":
        return output
    if prediction == "flow_velocity":
        # x_t = alpha x_0 + sigma (x_0 + output).
        return (x_t - sigma * output) / (alpha + sigma)
    if prediction == "score":
        return (x_t + sigma**2 * output) / alpha
    if prediction == "edm":
        skip, out, _ = (spread(c, x_t) for c in preconditioning(at, spread_of_data))
        return skip * x_t + out * output
    return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)


def preconditioning(at: Coefficients, spread_of_data: float) -> tuple[Array, Array, Array]:
    """Return EDM's (c_skip, c_out, c_in) on x_t: x_0 is estimated as c_skip x_t + c_out F(c_in x_t).

    Karras et al. 2022 (arXiv:2206.00364), table 1, with sigma / alpha as the noise level of x_t / alpha; of
    this form they are finite without signal. With alpha^2 + sigma^2 = 1 and data of unit variance, F is the
    velocity with the other sign.
    """
    alpha, sigma = at
    variance = sigma**2 + (spread_of_data * alpha) ** 2
    skip = spread_of_data**2 * alpha / variance
    out = spread_of_data * sigma * jax.lax.rsqrt(variance)
    return skip, out, jax.lax.rsqrt(variance)


def to_noise(
    x_0: Float[Array, "B *shape"], x_t: Float[Array, "B *shape"], at: Coefficients
) -> Float[Array, "B *shape"]:
    """Compute the noise that leads from x_0 to x_t."""
    return (x_t - spread(at[0], x_t) * x_0) / spread(at[1], x_t)


def posterior_coefficients(s: Coefficients, t: Coefficients) -> tuple[Array, Array, Array]:
    """Return (a, b, v) of q(x_s | x_t, x_0) = N(a x_t + b x_0, v) for times s < t of one path.

    This is Ho et al. 2020, eq. 7, for any two times of any path. With the variance of the step
    sigma_{t|s}^2 = sigma_t^2 (1 - SNR_t / SNR_s), a = alpha_t / alpha_s sigma_s^2 / sigma_t^2,
    b = alpha_s sigma_{t|s}^2 / sigma_t^2 and v = sigma_{t|s}^2 sigma_s^2 / sigma_t^2.
    """
    alpha_s, sigma_s = s
    alpha_t, sigma_t = t
    # sigma_{t|s}^2 / sigma_t^2 = 1 - SNR_t / SNR_s; expm1 keeps its precision where the two are close.
    fresh = -jnp.expm1(log_snr(alpha_t, sigma_t) - log_snr(alpha_s, sigma_s))
    return alpha_t / alpha_s * (sigma_s / sigma_t) ** 2, alpha_s * fresh, sigma_s**2 * fresh


def step_variance(s: Coefficients, t: Coefficients, variance: Variance, share: Array | None = None) -> Array:
    """Return the variance of the reverse step from t to s (Ho et al. 2020, sec. 3.2).

    "small" is the variance of the posterior, optimal if all data are one point. "large" is that of
    q(x_t | x_s), optimal if the data have a unit Gaussian distribution. "learned" is between both (Nichol &
    Dhariwal 2021, arXiv:2102.09672, eq. 15).

    Args:
      share: v of "learned", of each value of a row: 0 is small, 1 is large.
    """
    small = posterior_coefficients(s, t)[2]
    if variance == "small":
        return small
    alpha_s, sigma_s = s
    alpha_t, sigma_t = t
    large = sigma_t**2 * -jnp.expm1(log_snr(alpha_t, sigma_t) - log_snr(alpha_s, sigma_s))
    if variance == "large":
        return large
    assert share is not None
    # Without noise at s the small one is 0, and there is no step after it that adds any.
    log_small = spread(jnp.log(jnp.maximum(small, 1e-20)), share)
    return jnp.exp(share * spread(jnp.log(large), share) + (1.0 - share) * log_small)


def weight(
    weighting: Weighting,
    prediction: Prediction,
    s: Coefficients,
    t: Coefficients,
    gamma: float = 5.0,
    bias: float = 0.0,
    spread_of_data: float = 0.5,
) -> Array:
    """Compute the weight of the squared error of a network's output at time t.

    Args:
      weighting: "uniform" is 1 on the output itself (Ho et al. 2020, eq. 14, for the noise). Others are
        weights on x_0: "snr" is SNR, uniform on the noise; "min_snr" is min(SNR, gamma) (Hang et al. 2023,
        arXiv:2303.09556, sec. 3.4); "edm" is (r^2 + d^2) / (r d)^2 with r = sigma / alpha, uniform on EDM's
        output (Karras et al. 2022, table 1); "sigmoid" is SNR sigmoid(bias - log SNR) (Hoogeboom et al. 2024,
        arXiv:2410.19324, sec. 3.1); "bound" is that of the variational bound, (SNR_s - SNR_t) / 2 (Kingma et
        al. 2021, arXiv:2107.00630, eq. 13) with s the time before t.
      prediction: the output of the network. A squared error of x_0 is that of the output times a factor.
      gamma: of "min_snr".
      bias: of "sigmoid".
      spread_of_data: d, the standard deviation of data.

    Returns:
      Weights of the shape of t's coefficients. "bound" is infinite at the first step of a chain, where s has
      no noise: the bound has another term there.
    """
    if weighting == "uniform":
        return jnp.ones_like(t[0])
    log = log_snr(*t)
    snr = jnp.exp(log)
    # The squared error of the output over that of x_0.
    per_data = {
        "noise": snr,
        "data": jnp.ones_like(snr),
        "velocity": snr + 1.0,
        "flow_velocity": (jnp.sqrt(snr) + 1.0) ** 2,
        "score": snr / t[1] ** 2,
        "edm": snr + 1.0 / spread_of_data**2,
    }[prediction]
    on_data = {
        "snr": snr,
        "min_snr": jnp.minimum(snr, gamma),
        "edm": snr + 1.0 / spread_of_data**2,
        "sigmoid": snr * jax.nn.sigmoid(bias - log),
    }
    if weighting == "bound":
        return 0.5 * (jnp.exp(log_snr(*s)) - snr) / per_data
    return on_data[weighting] / per_data
