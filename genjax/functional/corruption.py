"""Corrupt rows of tokens: mask tokens (BERT) or drop spans (T5), which a model learns to predict.

The functions take one row and its key, and are mapped over a batch inside an objective. The data pipeline
needs no extra step, and a resumed run corrupts rows as the uninterrupted run would have.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Masked(NamedTuple):
    """Hold a corrupted row.

    Attributes:
      tokens: the input of the model.
      places: positions of the K tokens to predict.
      weights: 1 for each of `places` that counts; a short row has fewer than K.
    """

    tokens: Int[Array, " T"]
    places: Int[Array, " K"]
    weights: Float[Array, " K"]


def masked_count(length: int, rate: float = 0.15) -> int:
    """Return K, the largest number of tokens that are predicted in a row of `length`."""
    return max(1, round(rate * length))


def mask_tokens(
    key: jax.Array,
    tokens: Int[Array, " T"],
    candidates: Bool[Array, " T"],
    *,
    mask: int,
    vocabulary: int,
    rate: float = 0.15,
    kept: float = 0.1,
    random: float = 0.1,
) -> Masked:
    """Mask tokens for a masked language model (Devlin et al. 2019, arXiv:1810.04805, section 3.1).

    Of n candidates, round(rate * n) are chosen uniformly, at least one if there is any. A chosen token stays
    with probability `kept`, becomes a token drawn uniformly from [0, vocabulary) with probability `random`,
    and becomes `mask` otherwise.

    Args:
      key: of the row.
      candidates: True where a token may be chosen: not on padding and special tokens.
    """
    T = tokens.shape[0]
    where, what, other = jax.random.split(key, 3)
    # Sorting by uniform noise orders the candidates at random; 2 sorts all other tokens behind them.
    order = jnp.where(candidates, jax.random.uniform(where, (T,)), 2.0)
    K = masked_count(T, rate)
    places = jnp.argsort(order)[:K]
    n = candidates.sum()
    count = jnp.where(n > 0, jnp.maximum(jnp.round(rate * n).astype(jnp.int32), 1), 0)
    weights = (jnp.arange(K) < count).astype(jnp.float32)
    u = jax.random.uniform(what, (K,))
    drawn = jax.random.randint(other, (K,), 0, vocabulary)
    chosen = tokens[places]
    new = jnp.where(u < kept, chosen, jnp.where(u < kept + random, drawn, mask))
    corrupted = tokens.at[places].set(jnp.where(weights > 0, new, chosen).astype(tokens.dtype))
    return Masked(corrupted, places, weights)


def absorb_tokens(
    key: jax.Array,
    tokens: Int[Array, " T"],
    candidates: Bool[Array, " T"],
    place: Float[Array, ""],
    mask: int,
) -> Masked:
    """Mask k of the n candidates, each set of k equally likely, with the weight n / k on each.

    With k uniform in 1 .. n, the weighted sum of -log p over the masked tokens is an unbiased estimate of the
    bound of absorbing diffusion (Austin et al. 2021, arXiv:2107.03006, app. A.3; Ou et al. 2024,
    arXiv:2406.03736, eq. 3.7), and of the mean over all orders of generation.

    Args:
      place: in [0, 1), decides k = 1 + floor(place n).

    Returns:
      All T positions as places; those that are not masked have weight 0.
    """
    T = tokens.shape[0]
    order = jnp.where(candidates, jax.random.uniform(key, (T,)), 2.0)
    rank = jnp.argsort(jnp.argsort(order))
    n = candidates.sum()
    k = jnp.minimum(1 + jnp.floor(place * n).astype(jnp.int32), n)
    hidden = candidates & (rank < k)
    weights = jnp.where(hidden, n / jnp.maximum(k, 1), 0.0).astype(jnp.float32)
    return Masked(jnp.where(hidden, mask, tokens).astype(tokens.dtype), jnp.arange(T), weights)


class Spans(NamedTuple):
    """Hold a padded row from which spans were dropped.

    Attributes:
      source: the row with a sentinel instead of every dropped span, then eos.
      target: every dropped span after its sentinel, then eos.
    """

    source: Int[Array, " S"]
    source_length: Int[Array, ""]
    target: Int[Array, " U"]
    target_length: Int[Array, ""]


class Sizes(NamedTuple):
    """Hold the numbers of dropped tokens and spans of a row, and the lengths of both sides with eos."""

    noise: int
    spans: int
    source: int
    target: int


def span_sizes(length: int, density: float = 0.15, mean_span: float = 3.0) -> Sizes:
    """Return the sizes for a row of `length` tokens; of two or more, at least one is dropped and one kept."""
    noise = max(min(max(round(length * density), 1), length - 1), 0)
    spans = min(max(round(noise / mean_span), 1), noise, length - noise)
    return Sizes(noise, spans, length - noise + spans + 1, noise + spans + 1)


def span_noise(
    key: jax.Array, T: int, length: Int[Array, ""], density: float = 0.15, mean_span: float = 3.0
) -> Int[Array, " T"]:
    """Return the span of each of T positions: even spans are kept, odd ones dropped, -1 is padding.

    The dropped tokens are divided into spans, and the kept tokens into the same number of spans; all
    divisions into nonempty parts are equally probable. The spans alternate, and the first is kept (Raffel et
    al. 2020, arXiv:1910.10683, section 3.1.4, with the sampling of their code).
    """
    sizes = [span_sizes(n, density, mean_span) for n in range(T + 1)]
    most = sizes[T].spans + 1
    noise = jnp.asarray([n.noise for n in sizes], jnp.int32)[length]
    spans = jnp.asarray([n.spans for n in sizes], jnp.int32)[length]

    def divide(key: jax.Array, items: Int[Array, ""]) -> Int[Array, " most"]:
        """Return the lengths of `spans` parts of `items`: spans - 1 of the items - 1 gaps are chosen."""
        gap = jnp.arange(1, T + 1)
        order = jnp.where(gap < items, jax.random.uniform(key, (T,)), 2.0)
        rank = jnp.argsort(jnp.argsort(order))
        cuts = (rank < spans - 1) & (gap < items)
        part = jnp.cumsum(cuts) - cuts  # the part of the item before each gap
        return jnp.zeros((most,), jnp.int32).at[part].add((gap <= items).astype(jnp.int32), mode="drop")

    one, two = jax.random.split(key)
    parts = jnp.stack([divide(one, length - noise), divide(two, noise)], axis=1).reshape(-1)
    ends = jnp.cumsum(parts)
    begun = jnp.zeros((T,), jnp.int32).at[ends].add((parts > 0).astype(jnp.int32), mode="drop")
    return jnp.where(jnp.arange(T) < length, jnp.cumsum(begun), -1)


def drop_spans(
    key: jax.Array,
    tokens: Int[Array, " T"],
    length: Int[Array, ""],
    *,
    sentinels: Int[Array, " N"],
    eos: int,
    pad: int,
    density: float = 0.15,
    mean_span: float = 3.0,
) -> Spans:
    """Drop spans of the first `length` tokens of a row (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4).

    Args:
      sentinels: ids that mark the first, second ... span; at least `span_sizes(T).spans`.
    """
    T = tokens.shape[0]
    sizes = span_sizes(T, density, mean_span)
    span = span_noise(key, T, length, density, mean_span)
    first = span != jnp.concatenate([jnp.full((1,), -2, span.dtype), span[:-1]])
    dropped = span % 2 == 1
    real = span >= 0
    # A row of one token has no span to drop, hence no sentinel.
    first &= span // 2 < (span.max() + 1) // 2
    marks = sentinels[jnp.clip(span // 2, 0, sentinels.shape[0] - 1)].astype(tokens.dtype)

    def write(own: Bool[Array, " T"], size: int) -> tuple[Int[Array, " _"], Int[Array, ""]]:
        """Write the tokens where `own`, and a sentinel at the beginning of each span of the others."""
        keep = real & (own | first)
        at = jnp.where(keep, jnp.cumsum(keep) - 1, size)
        row = jnp.full((size,), pad, tokens.dtype).at[at].set(jnp.where(own, tokens, marks), mode="drop")
        end = keep.sum()
        return row.at[end].set(eos), end + 1

    # The sizes of the longest row bound those of all shorter ones.
    return Spans(*write(~dropped, sizes.source), *write(dropped, sizes.target))
