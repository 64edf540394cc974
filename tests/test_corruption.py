"""Corruption of tokens: exact shares, exact lengths, and nothing is lost."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.functional import corruption
from genjax.functional.corruption import drop_spans, mask_tokens, span_noise, span_sizes

V, MASK = 50, 49


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), n)


def masked(n: int, tokens: np.ndarray, candidates: np.ndarray, **how) -> corruption.Masked:
    function = lambda key: mask_tokens(
        key, jnp.asarray(tokens), jnp.asarray(candidates), mask=MASK, vocabulary=40, **how
    )
    return jax.device_get(jax.jit(jax.vmap(function))(keys(n)))


def test_masking_takes_its_share_and_only_candidates():
    tokens = np.arange(40, dtype=np.int32)
    candidates = np.arange(40) % 4 != 0
    got = masked(4000, tokens, candidates)
    chosen = np.zeros((4000, 40))
    np.put_along_axis(chosen, got.places, got.weights, axis=1)
    # 30 candidates: round(4.5) is 4 of them, in every row.
    assert (got.weights.sum(1) == 4).all()
    assert (chosen[:, ~candidates] == 0).all()
    assert (got.tokens[chosen == 0] == np.broadcast_to(tokens, (4000, 40))[chosen == 0]).all()
    # Every candidate equally often: 4000 * 4 / 30 = 533 each, with a standard deviation of 21.5.
    counts = chosen.sum(0)[candidates]
    assert np.abs(counts - 4000 * 4 / 30).max() < 5 * 21.5
    new, old = got.tokens[chosen > 0], np.broadcast_to(tokens, (4000, 40))[chosen > 0]
    n = len(new)
    kept = 0.1 + 0.1 / 40  # what is drawn may be the token itself
    for share, expected in (((new == MASK).mean(), 0.8), ((new == old).mean(), kept)):
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / n)
    drawn = new[(new != MASK) & (new != old)]
    assert drawn.min() >= 0
    assert drawn.max() < 40


def test_masking_of_short_and_empty_rows():
    tokens = np.arange(20, dtype=np.int32)
    one = masked(50, tokens, np.arange(20) < 2)
    assert (one.weights.sum(1) == 1).all()
    none = masked(5, tokens, np.zeros(20, bool))
    assert none.weights.sum() == 0
    assert (none.tokens == tokens).all()


def test_masking_depends_on_the_row_s_key_alone():
    tokens, candidates = np.arange(30, dtype=np.int32), np.ones(30, bool)
    whole = masked(6, tokens, candidates)
    alone = mask_tokens(keys(6)[4], jnp.asarray(tokens), jnp.asarray(candidates), mask=MASK, vocabulary=40)
    np.testing.assert_array_equal(whole.tokens[4], alone.tokens)
    assert len({row.tobytes() for row in whole.tokens}) == 6


def noise_mask(rng: np.random.Generator, length: int, density: float, mean: float) -> np.ndarray:
    """Raffel et al.'s sampling, in plain Python: the oracle for its law."""
    noise = min(max(round(length * density), 1), length - 1)
    spans = max(round(noise / mean), 1)

    def parts(items: int) -> list[int]:
        begins = [False, *list(rng.permutation([True] * (spans - 1) + [False] * (items - spans)))]
        out: list[int] = []
        for i, new in enumerate(begins):
            if new or i == 0:
                out.append(0)
            out[-1] += 1
        return out

    mask: list[bool] = []
    for kept, dropped in zip(parts(length - noise), parts(noise), strict=True):
        mask += [False] * kept + [True] * dropped
    return np.array(mask)


def test_span_noise_has_the_law_of_the_published_sampling():
    T, n = 24, 20_000
    number = jax.jit(jax.vmap(lambda key: span_noise(key, T, jnp.asarray(T), 0.3, 2.0)))
    ours = np.asarray(number(keys(n))) % 2 == 1
    rng = np.random.default_rng(0)
    theirs = np.stack([noise_mask(rng, T, 0.3, 2.0) for _ in range(n)])
    assert (ours.sum(1) == theirs[0].sum()).all()
    p = theirs.mean(0)
    assert (np.abs(ours.mean(0) - p) <= 5 * np.sqrt(2 * p * (1 - p) / n) + 1e-9).all()
    lengths = [np.diff(np.flatnonzero(np.diff(np.pad(m.astype(int), 1))))[::2] for m in (ours[0], theirs[0])]
    assert len(lengths[0]) == len(lengths[1])
    # How long the first dropped span is: the same histogram.
    first = [np.bincount([first_span(m) for m in side], minlength=T) / n for side in (ours, theirs)]
    assert np.abs(first[0] - first[1]).max() < 5 * np.sqrt(2 * 0.25 / n)


def first_span(mask: np.ndarray) -> int:
    start = int(mask.argmax())
    stop = np.flatnonzero(~mask[start:])
    return int(stop[0]) if len(stop) else len(mask) - start


def undo(source: list[int], target: list[int], sentinels: list[int], eos: int) -> list[int]:
    """What a reader of both would write, in plain Python."""
    assert source[-1] == target[-1] == eos
    spans: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token in sentinels:
            assert token == sentinels[len(spans)], "sentinels in order"
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    out: list[int] = []
    for token in source[:-1]:
        out += spans.pop(token) if token in sentinels else [token]
    assert not spans
    return out


@pytest.mark.parametrize(
    ("T", "how"),
    [
        *((T, {}) for T in (2, 3, 64)),
        *((T, {"density": 0.5, "mean_span": 1.0}) for T in (2, 11)),
        *((T, {"density": 0.3, "mean_span": 5.0}) for T in (3, 30)),
    ],
)
def test_dropped_spans_can_be_put_back(T: int, how: dict):
    n, eos, pad = 40, 101, 100
    sentinels = np.arange(200, 200 - 40, -1)
    lengths = np.random.default_rng(1).integers(1, T + 1, n)
    lengths[:3] = T
    tokens = np.random.default_rng(2).integers(0, 100, (n, T))
    drop = lambda key, row, m: drop_spans(
        key, row, m, sentinels=jnp.asarray(sentinels), eos=eos, pad=pad, **how
    )
    got = jax.device_get(jax.jit(jax.vmap(drop))(keys(n, 3), jnp.asarray(tokens), jnp.asarray(lengths)))
    most = span_sizes(T, **how)
    assert got.source.shape[1] == most.source
    assert got.target.shape[1] == most.target
    for i, m in enumerate(lengths):
        size = span_sizes(int(m), **how)
        assert (got.source_length[i], got.target_length[i]) == (size.source, size.target)
        source, target = got.source[i].tolist(), got.target[i].tolist()
        assert set(source[size.source :]) | set(target[size.target :]) <= {pad}
        source, target = source[: size.source], target[: size.target]
        marks = [k for k, t in enumerate(source) if t in sentinels]
        assert len(marks) == size.spans
        assert all(b > a + 1 for a, b in itertools.pairwise(marks)), "no two spans touch"
        assert undo(source, target, sentinels.tolist(), eos) == tokens[i, :m].tolist()


def test_spans_depend_on_the_row_s_key_alone():
    row = jnp.arange(40)
    drop = lambda key: drop_spans(key, row, jnp.asarray(40), sentinels=jnp.arange(50, 60), eos=48, pad=49)
    whole = jax.jit(jax.vmap(drop))(keys(5))
    np.testing.assert_array_equal(whole.source[3], jax.jit(drop)(keys(5)[3]).source)
    assert len({np.asarray(s).tobytes() for s in whole.source}) == 5
