"""The aggregate posterior against its formulas written as loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.special import logsumexp

from genjax.functional import aggregate

RNG = np.random.default_rng(0)
B, Z, ROWS = 7, 3, 50


def posterior() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = RNG.normal(size=(B, Z))
    log_std = RNG.normal(size=(B, Z)) * 0.3 - 1
    z = mean + np.exp(log_std) * RNG.normal(size=(B, Z))
    return z, mean, log_std


def parts(z, mean, log_std, mask=np.ones(B)) -> aggregate.Parts:
    arrays = (jnp.asarray(x, jnp.float32) for x in (z, mean, log_std, mean, log_std, mask))
    return jax.device_get(jax.jit(aggregate.kl_parts, static_argnums=6)(*arrays, ROWS))


def test_the_parts_of_the_kl_term_are_those_of_the_formula():
    z, mean, log_std = posterior()
    got = parts(z, mean, log_std)
    for i in range(B):
        each = stats.norm.logpdf(z[i], mean, np.exp(log_std))  # (rows of the batch, Z)
        log_q = logsumexp(each.sum(1)) - np.log(B * ROWS)
        log_q_each = (logsumexp(each, axis=0) - np.log(B * ROWS)).sum()
        own = each[i].sum()
        np.testing.assert_allclose(got.information[i], own - log_q, rtol=1e-4)
        np.testing.assert_allclose(got.correlation[i], log_q - log_q_each, rtol=1e-4)
        log_p = stats.norm.logpdf(z[i]).sum()
        np.testing.assert_allclose(got.dimensions[i], log_q_each - log_p, rtol=1e-4)
        np.testing.assert_allclose(sum(part[i] for part in got), own - log_p, rtol=1e-4)


def test_padding_rows_are_no_part_of_the_mixture():
    z, mean, log_std = posterior()
    mask = np.ones(B)
    mask[-1] = 0
    spoilt = mean.copy()
    spoilt[-1] = 1e4
    a, b = parts(z, mean, log_std, mask), parts(z, spoilt, log_std, mask)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x[:-1], y[:-1])


def test_the_mmd_is_that_of_the_formula_and_zero_on_average_for_equal_distributions():
    x, y = RNG.normal(size=(6, Z)), RNG.normal(size=(6, Z))
    mask = np.array([1, 1, 1, 1, 1, 0.0])
    scales = (0.5, 2.0)

    def kernel(a, b):
        return sum(2 * Z * s / (2 * Z * s + ((a - b) ** 2).sum()) for s in scales)

    n = 5
    within = sum(kernel(v[i], v[j]) for v in (x, y) for i in range(n) for j in range(n) if i != j)
    between = sum(kernel(x[i], y[j]) for i in range(n) for j in range(n))
    expected = within / (n * (n - 1)) - 2 * between / n**2
    mmd = jax.jit(aggregate.mmd, static_argnums=3)
    as_float = lambda *arrays: [jnp.asarray(a, jnp.float32) for a in arrays]
    np.testing.assert_allclose(mmd(*as_float(x, y, mask), scales), expected, rtol=1e-4)
    draws = RNG.normal(size=(300, 2, 20, Z))
    values = [float(mmd(*as_float(a, b, np.ones(20)), scales)) for a, b in draws]
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
    shifted = [float(mmd(*as_float(a + 1, b, np.ones(20)), scales)) for a, b in draws[:20]]
    assert min(shifted) > 0.05
