"""Quantise features: nearest codes and their averages (VQ), bounded integers (FSQ) and signs (LFQ).

Features are rows z (N, D). A gradient passes every quantiser unchanged (`straight_through`), except for FSQ,
which passes it through its bound.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from genjax.core import across

MARGIN = 1e-3
"""Widens FSQ's bound, so that the outermost of its levels are reached and a bound of two levels exists."""


def straight_through(z: Float[Array, "*S"], q: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Return q, with the gradient of z (van den Oord et al. 2017, arXiv:1711.00937, sec. 3.2)."""
    return z + lax.stop_gradient(q - z)


# --- vector quantisation ---------------------------------------------------------------------------------


class Codebook(NamedTuple):
    """Hold a codebook and the averages that define it (van den Oord et al. 2017, appendix A.1).

    Attributes:
      codes: e, the entries.
      count: N, the average number of features per step that are assigned to a code.
      total: m, the average of their sum.
    """

    codes: Float[Array, "K D"]
    count: Float[Array, " K"]
    total: Float[Array, "K D"]

    @classmethod
    def of(cls, codes: Float[Array, "K D"], count: float = 1.0) -> Codebook:
        """Return the averages of codes that each had `count` features."""
        return cls(codes, jnp.full(codes.shape[0], count), count * codes)


def nearest(z: Float[Array, "N D"], codes: Float[Array, "K D"]) -> Int[Array, " N"]:
    """Return the index of the code with the smallest Euclidean distance to each feature."""
    # |z - e|^2 = |z|^2 - 2 z.e + |e|^2, and |z|^2 is the same for all codes.
    return (jnp.square(codes).sum(-1)[None] - 2 * z @ codes.T).argmin(-1).astype(jnp.int32)


def assigned(
    z: Float[Array, "N D"], index: Int[Array, " N"], weight: Float[Array, " N"], size: int
) -> tuple[Float[Array, " K"], Float[Array, "K D"]]:
    """Return the weight of each code's features and their weighted sum, over the global batch."""
    one_hot = jax.nn.one_hot(index, size) * weight[:, None]
    return across(one_hot.sum(0)), across(one_hot.T @ z)


def averaged(book: Codebook, count: Float[Array, " K"], total: Float[Array, "K D"], decay: float) -> Codebook:
    """Move the averages towards one batch (van den Oord et al. 2017, eq. 6 to 8).

    Counts are smoothed as by Laplace, so that a code without features keeps a finite value.
    """
    N = decay * book.count + (1 - decay) * count
    m = decay * book.total + (1 - decay) * total
    epsilon = 1e-5
    smooth = (N + epsilon) / (N.sum() + epsilon * N.shape[0]) * N.sum()
    return Codebook(m / smooth[:, None], N, m)


def revived(book: Codebook, z: Float[Array, "N D"], score: Float[Array, " N"], threshold: float) -> Codebook:
    """Replace each code whose count is below `threshold` by a feature (Zeghidour et al. 2021, sec. III-C).

    Args:
      z: features of the local batch; those of all devices are candidates.
      score: the features with the highest scores are taken; -inf for padding. See `by_distance`.
      threshold: features per step.
    """
    # Every device chooses among the features of all, so that the codebooks stay equal.
    z = across(z, lax.all_gather).reshape(-1, z.shape[-1])
    score = across(score, lax.all_gather).reshape(-1)
    K = book.codes.shape[0]
    order = jnp.argsort(-score)
    # The i-th dead code gets the feature with the i-th highest score.
    dead = book.count < threshold
    rank = jnp.cumsum(dead) - 1
    live = jnp.maximum((score > -jnp.inf).sum(), 1)
    candidate = z[order[rank % live]]
    replaced = Codebook(candidate, jnp.full((K,), threshold), candidate * threshold)
    choose = lambda new, old: jnp.where(dead.reshape(K, *(1,) * (old.ndim - 1)), new, old)
    return Codebook(*(choose(new, old) for new, old in zip(replaced, book, strict=True)))


def by_distance(
    uniform: Float[Array, " N"], distance: Float[Array, " N"], weight: Float[Array, " N"]
) -> Float[Array, " N"]:
    """Return scores whose highest are draws without replacement, in proportion to `distance`.

    The scores are log(u) / distance (Efraimidis & Spirakis 2006, algorithm A). With squared distances between
    features and their codes, features that no code is near are drawn, and not copies of features that are
    frequent already. All are drawn at once: unlike those of k-means++, two may be near each other.

    Args:
      weight: 0 for features that do not count (padding), whose scores are -inf.
    """
    score = jnp.log(jnp.maximum(uniform, 1e-12)) / jnp.maximum(distance, 1e-12)
    return jnp.where(weight > 0, score, -jnp.inf)


def kmeans(z: Float[Array, "N D"], weight: Float[Array, " N"], size: int, rounds: int) -> Float[Array, "K D"]:
    """Return the means of `rounds` rounds of Lloyd's algorithm.

    Starts from features that lie evenly spread in the batch. Before each round a mean without features moves
    to the feature that is farthest from its mean, the next one to the next feature, and so on.

    Args:
      weight: 0 for features that do not count (padding); these must come last.
    """
    rows = jnp.maximum((weight > 0).sum(), 1)
    start = z[(jnp.arange(size) * rows // size).astype(jnp.int32)]

    def one(means: jax.Array, _: None) -> tuple[jax.Array, None]:
        index = nearest(z, means)
        empty = assigned(z, index, weight, size)[0] == 0
        # The ranks of N features are used again if there are more empty means.
        farthest = jnp.argsort(-jnp.square(z - means[index]).sum(-1) * weight)
        moved = z[farthest[(jnp.cumsum(empty) - 1) % rows]]
        means = jnp.where(empty[:, None], moved, means)
        count, total = assigned(z, nearest(z, means), weight, size)
        return jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1)[:, None], means), None

    means, _ = lax.scan(one, start, None, length=rounds)
    return means


def perplexity(count: Float[Array, " K"]) -> Float[Array, ""]:
    """Return exp of the entropy of the codes' frequencies: K if all are used equally, 1 if one is."""
    p = count / jnp.maximum(count.sum(), 1e-12)
    return jnp.exp(-jax.scipy.special.xlogy(p, p).sum())


# --- standardised features -------------------------------------------------------------------------------


class Standard(NamedTuple):
    """Hold the mean and the variance of each channel, to standardise features.

    Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167, alg. 1) without scale and shift.
    """

    mean: Float[Array, " D"]
    variance: Float[Array, " D"]

    @classmethod
    def identity(cls, size: int) -> Standard:
        """Return mean 0 and variance 1, which leave features (almost) as they are."""
        return cls(jnp.zeros(size), jnp.ones(size))

    @classmethod
    def of(cls, z: Float[Array, "N D"], weight: Float[Array, " N"]) -> Standard:
        """Return the weighted mean and variance of rows, over the global batch."""
        total = jnp.maximum(across(weight.sum()), 1e-12)
        mean = across((z * weight[:, None]).sum(0)) / total
        variance = across((jnp.square(z - mean[None]) * weight[:, None]).sum(0)) / total
        return cls(mean, variance)

    def towards(self, other: Standard, decay: float) -> Standard:
        """Return the moving averages after `other`."""
        move = lambda old, new: decay * old + (1 - decay) * jax.lax.stop_gradient(new)
        return Standard(*map(move, self, other))

    def apply(self, z: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Return values of mean 0 and standard deviation 1."""
        return (z - _rows(self.mean, z)) * _rows(jax.lax.rsqrt(self.variance + 1e-6), z)


# --- finite scalar quantisation --------------------------------------------------------------------------


def fsq(z: Float[Array, "*S D"], levels: tuple[int, ...]) -> Float[Array, "*S D"]:
    """Round each channel to one of its levels in [-1, 1] (Mentzer et al. 2023, arXiv:2309.15505, sec. 3.1).

    Channel i has levels[i] values. A channel of 0 gives a 0 for odd numbers of levels.
    """
    L, half, offset = _fsq_constants(levels)
    # tanh(z + shift) half - offset stays within half a unit of the levels and is 0 at z = 0.
    bounded = jnp.tanh(z + _rows(jnp.arctanh(offset / half), z)) * _rows(half, z) - _rows(offset, z)
    return straight_through(bounded, jnp.round(bounded)) / _rows(L // 2, z)


def fsq_index(q: Float[Array, "*S D"], levels: tuple[int, ...]) -> Int[Array, "*S"]:
    """Return the number of each quantised feature, in [0, product of levels)."""
    L, _, _ = _fsq_constants(levels)
    digit = jnp.round(q * _rows(L // 2, q) + _rows(L // 2, q))
    return (digit * _rows(_basis(levels), q)).sum(-1).astype(jnp.int32)


def fsq_codes(index: Int[Array, "*S"], levels: tuple[int, ...]) -> Float[Array, "*S D"]:
    """Invert `fsq_index`."""
    L, _, _ = _fsq_constants(levels)
    index = index[..., None]
    wide = lambda v: v.astype(jnp.int32).reshape((1,) * (index.ndim - 1) + (-1,))
    digit = (index // wide(_basis(levels))) % wide(L)
    return (digit - wide(L // 2)) / wide(L // 2).astype(jnp.float32)


def _fsq_constants(levels: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (L, half-width of the bound, offset 1/2 of even L), each (D,)."""
    L = jnp.asarray(levels, jnp.float32)
    return L, (L - 1) * (1 + MARGIN) / 2, jnp.where(L % 2 == 1, 0.0, 0.5)


def _basis(levels: tuple[int, ...]) -> jax.Array:
    """Return the value of a one in each digit."""
    return jnp.asarray([math.prod(levels[:i]) for i in range(len(levels))], jnp.float32)


def _rows(v: Float[Array, " D"], z: Float[Array, "*S D"]) -> jax.Array:
    return v.reshape((1,) * (z.ndim - 1) + v.shape)


# --- lookup-free quantisation ----------------------------------------------------------------------------


def lfq(z: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
    """Return the signs of the channels (Yu et al. 2023, arXiv:2310.05737, eq. 3)."""
    return straight_through(z, jnp.where(z > 0, 1.0, -1.0))


def lfq_index(q: Float[Array, "*S D"]) -> Int[Array, "*S"]:
    """Return the number whose binary digits are the signs, the first channel being the lowest (eq. 4)."""
    digit = (q > 0).astype(jnp.int32)
    return (digit << jnp.arange(q.shape[-1]).reshape((1,) * (q.ndim - 1) + (-1,))).sum(-1).astype(jnp.int32)


def lfq_codes(index: Int[Array, "*S"], bits: int) -> Float[Array, "*S D"]:
    """Invert `lfq_index`."""
    index = index[..., None]
    digit = (index >> jnp.arange(bits).reshape((1,) * (index.ndim - 1) + (-1,))) & 1
    return 2.0 * digit - 1.0


EXACT = 2**12
"""Codes up to which the entropy of the mean code is exact."""


def lfq_entropies(
    z: Float[Array, "N D"], weight: Float[Array, " N"], temperature: float = 1.0
) -> tuple[Float[Array, " N"], Float[Array, ""]]:
    """Return (entropy of each feature's code, entropy of the mean code) in nats (eq. 5).

    The code of a feature has the probabilities of a softmax over -|z - code|^2 / temperature: its bits are
    independent, with P(+1) = sigmoid(4 z / temperature). Those of the mean code are not. For more than EXACT
    codes the second entropy is that of the product of the mean bits, an upper bound.
    """
    D = z.shape[-1]
    p = jax.nn.sigmoid(4.0 * z / temperature)
    each = _binary_entropy(p).sum(-1)
    total = jnp.maximum(across(weight.sum()), 1e-12)
    if 2**D > EXACT:
        mean = across((p * weight[:, None]).sum(0)) / total
        return each, _binary_entropy(mean).sum()
    # |z - code|^2 is -2 z.code plus what is the same for all codes.
    logits = 2.0 / temperature * (z @ lfq_codes(jnp.arange(2**D), D).T)
    mean = across(weight @ jax.nn.softmax(logits, -1)) / total
    return each, -jax.scipy.special.xlogy(mean, jnp.maximum(mean, 1e-12)).sum()


def _binary_entropy(p: jax.Array) -> jax.Array:
    xlogy = jax.scipy.special.xlogy
    # Clipped: the derivative of x log x is infinite at 0.
    p = jnp.clip(p, 1e-6, 1 - 1e-6)
    return -xlogy(p, p) - xlogy(1 - p, 1 - p)
