"""n-grams of text from one sort: KenLM's probabilities, a count by hand, documents, batches, caches."""

from __future__ import annotations

import collections
import itertools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.core import AXIS, Element, Model, Spec, Variables
from genjax.counting import corpus, ngrams
from genjax.errors import ConfigError
from genjax.models import infinigram, ngram
from genjax.training.step import create, make_step

SMOOTHINGS = ("kneser_ney", "witten_bell", "backoff", "additive")
KENLM = json.loads((Path(__file__).parent / "kenlm.json").read_text())


def rows(tokens: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Windows of a text that share one token; the last one is padded."""
    number = -(-(len(tokens) - 1) // length)
    padded = np.zeros(number * length + 1, np.int32)
    padded[: len(tokens)] = tokens
    window = np.arange(number)[:, None] * length + np.arange(length + 1)
    real = window[:, 1:] < len(tokens)
    mask = np.ones(number, np.float32)
    return {"tokens": padded[window], "token_mask": real.astype(np.float32), "mask": mask}


def spec_of(data: dict[str, np.ndarray], levels: int) -> Spec:
    elements = {k: Element(v.shape[1:], str(v.dtype)) for k, v in data.items() if k not in ("mask", "tokens")}
    return Spec(
        {"tokens": Element(data["tokens"].shape[1:], "int32", levels, "tokens", "target"), **elements},
        len(data["mask"]),
    )


def read(model: Model, data: dict[str, np.ndarray], batch: int | None = None) -> Variables:
    """What the real step leaves of these rows, in batches of so many, not yet finished."""
    number = len(data["mask"])
    batch = batch or number
    optimizers = {"model": optax.sgd(0.0)}
    step: Any = jax.jit(make_step(model, optimizers), static_argnums=4)
    part = lambda i: {
        k: jnp.asarray(np.resize(v[i : i + batch], (batch, *v.shape[1:]))) for k, v in data.items()
    }
    state = create(model, optimizers, jax.random.key(0), part(0))
    for i in range(0, number, batch):
        rest = (np.arange(batch) < number - i).astype(np.float32)
        state, _ = step(state, {}, {**part(i), "mask": jnp.asarray(rest)}, jax.random.key(1), ("nll",))
    return state.variables


def fitted(text: np.ndarray, levels: int, length: int = 16, **fields) -> tuple[Model, Variables]:
    """A finished model of a text."""
    data = rows(text, length)
    model = ngram.build(ngram.Config(counts="sorted", **fields), spec_of(data, levels), {})
    return model, jax.jit(model.finish)(read(model, data))


def nats(model: Model, variables: Variables, text: np.ndarray, length: int = 16) -> np.ndarray:
    """Of every token of a text but the first, read on from row to row."""
    data = rows(text, length)
    carry = model.carry({"mask": np.ones(1)})
    score = jax.jit(model.likelihood.__self__.nats)  # type: ignore[union-attr]
    out = []
    for i in range(len(data["mask"])):
        found, mask, carry = score(variables, {**{k: v[i : i + 1] for k, v in data.items()}, "carry": carry})
        out += np.asarray(found)[np.asarray(mask) > 0].tolist()
    return np.array(out)


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("order", [3, 5])
def test_probabilities_are_kenlm_s(unit, order):
    """KenLM's vocabulary: what the training text has, </s> (here the line end) and <unk>."""
    split = str.split if unit == "words" else list
    lines = lambda part: [w for line in part for w in (*split(line), "\n")]
    train = lines(KENLM["train"])
    ids = {w: i for i, w in enumerate(["<unk>", *dict.fromkeys(train)])}
    encode = lambda tokens: np.array([ids.get(t, 0) for t in tokens], np.int32)
    held = lines(KENLM["held"][: 4 if unit == "characters" else None])
    model, v = fitted(encode(train), len(ids), order=order, smoothing="kneser_ney", end=ids["\n"])
    found = nats(model, v, encode(["\n", *held])) / math.log(10)
    np.testing.assert_allclose(-found, KENLM[unit][str(order)], atol=2e-5)


def by_hand(text: list[int], levels: int, order: int, smoothing: str, end: int | None, strength: float):
    """p(token | everything before it in its document) from dictionaries; V stands before a document."""
    documents, current = [], [levels]
    for t in text:
        current.append(t)
        if t == end:
            documents.append(current)
            current = [levels]
    documents.append(current)
    plain = [collections.Counter() for _ in range(order + 1)]
    for d in documents:
        for k in range(1, order + 1):
            plain[k].update(tuple(d[i : i + k]) for i in range(len(d) - k + 1) if k > 1 or d[i] < levels)
    counts = [None, *plain[1:]]
    if smoothing == "kneser_ney":
        for k in range(1, order):
            different = collections.Counter(g[1:] for g in plain[k + 1])
            counts[k] = {g: plain[k][g] if g[0] == levels else different[g] for g in plain[k]}
    after = [collections.defaultdict(dict) for _ in range(order + 1)]
    for k in range(1, order + 1):
        for g, n in counts[k].items():
            after[k][g[:-1]][g[-1]] = n

    def discount(k):
        n = [sum(c == j for c in counts[k].values()) for j in range(1, 5)]
        if min(n[:3]) == 0:
            return (0.5, 1.0, 1.5)
        y = n[0] / (n[0] + 2 * n[1])
        d = tuple(j - (j + 1) * y * n[j] / n[j - 1] for j in (1, 2, 3))
        return d if all(0 <= x <= j for j, x in zip((1, 2, 3), d, strict=True)) else (0.5, 1.0, 1.5)

    def p(token, context):
        out = 1 / levels
        for k in range(1, order + 1):
            if k - 1 > len(context):
                break
            seen = after[k].get(tuple(context[len(context) - k + 1 :]))
            if not seen or (smoothing == "additive" and k < order):
                continue
            total, count = sum(seen.values()), seen.get(token, 0)
            if smoothing == "kneser_ney":
                d = (0, *discount(k))
                gain = (count - d[min(count, 3)]) / total
                mass = sum(d[min(c, 3)] for c in seen.values()) / total
            else:
                extra = {"witten_bell": len(seen), "backoff": strength, "additive": strength * levels}[
                    smoothing
                ]
                gain, mass = count / (total + extra), extra / (total + extra)
            out = gain + mass * out
        return out

    return p


TEXT = np.random.default_rng(0).choice(7, 150, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04]).astype(np.int32)
HELD = np.random.default_rng(1).choice(8, 60).astype(np.int32)


@pytest.mark.parametrize(("smoothing", "end"), [*((s, 2) for s in SMOOTHINGS), ("kneser_ney", None)])
def test_probabilities_equal_a_count_by_hand(smoothing, end):
    """Token 7 of 8 was never seen; HELD's first token is context alone."""
    model, v = fitted(TEXT, 8, order=4, smoothing=smoothing, strength=0.7, end=end)
    p, expected, context = by_hand(TEXT.tolist(), 8, 4, smoothing, end, 0.7), [], []
    for t in HELD.tolist():
        expected.append(p(t, context))
        context = [8] if t == end else [*context, t]
    np.testing.assert_allclose(np.exp(-nats(model, v, HELD)), expected[1:], rtol=2e-5)


def build(family: str, data: dict[str, np.ndarray], levels: int, end: int | None = None, **fields) -> Model:
    if family in ("infinigram", "infinigram over unigrams"):
        config = infinigram.Config(
            order=2 if family == "infinigram" else 1, mixed=2, strength=3.0, depth=6, end=end
        )
        return infinigram.build(config, spec_of(data, levels), {})
    config = ngram.Config(order=3, smoothing=family, counts="sorted", end=end, **fields)  # type: ignore[arg-type]
    return ngram.build(config, spec_of(data, levels), {})


FAMILIES = (*SMOOTHINGS, "infinigram")
REPEATS = np.concatenate([np.tile([0, 1, 2, 3, 1], 8), TEXT % 4, np.tile([3, 2, 0], 8)]).astype(np.int32)


@pytest.mark.parametrize(
    ("family", "end"), [*((f, 2) for f in FAMILIES), ("infinigram", None), ("infinigram over unigrams", 2)]
)
def test_distributions_sum_to_one_and_are_the_likelihood(family, end):
    """Every text of five tokens: by the likelihood, and by the decoder read in parts."""
    data = rows(REPEATS, 5)
    model = build(family, data, 5, end)
    v = jax.jit(model.finish)(read(model, data))
    every = np.array(list(itertools.product(range(5), repeat=4)), np.int32)
    every = np.pad(every, ((0, 0), (2, 0)), constant_values=1)
    batch = {"tokens": every, "mask": np.ones(len(every), np.float32)}
    mean, _ = jax.jit(model.likelihood)(v, batch, None)  # type: ignore[arg-type]
    p = np.exp(-np.asarray(mean.total, np.float64))
    assert p.min() > 0
    start = p.sum()  # of the second token, the same in all rows
    decoder: Any = model.decoder
    step = jax.jit(decoder.step)
    cache = decoder.start(v, {}, len(every), 8)
    whole, _ = step(v, cache, jnp.asarray(every[:, :-1]))
    log_p = np.asarray(whole)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(start, np.exp(log_p[0, 0, 1]), rtol=1e-4)
    chosen = np.take_along_axis(log_p, every[:, 1:, None], 2)[..., 0].sum(1)
    np.testing.assert_allclose(chosen, -np.asarray(mean.total), rtol=1e-5)
    parts = []
    for part in (every[:, :1], every[:, 1:3], every[:, 3:5]):
        logits, trail = step(v, cache, jnp.asarray(np.pad(part, ((0, 0), (0, 1)), constant_values=3)))
        parts.append(np.asarray(logits)[:, : part.shape[1]])
        cache = decoder.commit(trail, jnp.full((len(every),), part.shape[1]))
    np.testing.assert_allclose(np.concatenate(parts, 1), log_p, rtol=1e-5, atol=1e-6)
    assert log_p.std() > 0.1


@pytest.mark.parametrize("family", ["kneser_ney", "infinigram"])
def test_how_rows_are_batched_changes_nothing(family):
    data = rows(REPEATS, 6)
    model = build(family, data, 5)
    whole, parts = read(model, data), read(model, data, batch=7)
    chosen = jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), whole.state, parts.state)
    assert chosen is not None
    v = jax.jit(model.finish)(whole)
    score: Any = jax.jit(model.likelihood)
    together = score(v, data, None)[0].total
    apart = [score(v, {k: x[i : i + 1] for k, x in data.items()}, None)[0].total[0] for i in range(5)]
    np.testing.assert_allclose(together[:5], apart, rtol=1e-5)
    # A row of the text knows what came before it through the carry: as one long row would.
    long = build(family, rows(REPEATS, 12), 5)
    carried = nats(model, v, REPEATS[:25], 6)
    np.testing.assert_allclose(carried, nats(long, v, REPEATS[:25], 12), rtol=1e-5)
    alone = np.asarray(score(v, data, None)[0].total)
    assert carried[6:12].sum() != pytest.approx(alone[1], rel=1e-4)


def test_devices_read_in_the_order_of_the_batch():
    data = rows(REPEATS[: 16 * 6 + 1], 6)
    model = build("kneser_ney", data, 5)
    optimizers = {"model": optax.sgd(0.0)}
    state = create(model, optimizers, jax.random.key(0), data)
    axes: Any = state.replace(step=None, variables=None, opt=None, carry=0)
    mapped = jax.pmap(
        make_step(model, optimizers), AXIS, static_broadcasted_argnums=4, in_axes=(axes, None, 0, None)
    )
    shard = lambda x: x.reshape(8, 2, *x.shape[1:])
    state = state.replace(carry=jax.tree.map(shard, state.carry))
    there, _ = mapped(state, {}, {k: shard(x) for k, x in data.items()}, jax.random.key(1), ("nll",))
    for x, y in zip(
        jax.tree.leaves(read(model, data).state), jax.tree.leaves(there.variables.state), strict=True
    ):
        np.testing.assert_array_equal(x, y[5])


@pytest.mark.parametrize("family", ["kneser_ney", "infinigram"])
def test_documents_never_see_each_other(family):
    """Packed rows, separate rows and any order of the documents give the same model."""
    documents = [
        np.array(d, np.int32) for d in ([0, 1, 2, 3, 0, 1], [3, 3, 1], [2, 0, 1, 2], [1, 1, 0], [0, 1, 2])
    ]

    def pack(groups: list[list[int]]) -> dict[str, np.ndarray]:
        # Five rows, whatever they hold: one program reads them all.
        tokens, segment = np.zeros((5, 10), np.int32), np.zeros((5, 10), np.int32)
        for row, group in enumerate(groups):
            at = 0
            for number, d in enumerate(group, 1):
                n = len(documents[d])
                tokens[row, at : at + n], segment[row, at : at + n] = documents[d], number
                at += n
        return {"tokens": tokens, "segment": segment, "mask": np.ones(5, np.float32)}

    probe = pack([[0, 1], [2, 3], [4], []])
    scores = []
    for groups in ([[0, 1], [2, 3, 4]], [[0], [1], [2], [3], [4]], [[4, 3, 1], [2, 0]]):
        data = pack(groups)
        model = build(family, data, 5)
        v = jax.jit(model.finish)(read(model, data))
        mean, _ = jax.jit(model.likelihood)(v, probe, None)  # type: ignore[arg-type]
        scores.append(np.asarray(mean.total))
        assert np.asarray(mean.count).tolist() == [7, 5, 2, 0, 0]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-5)
    # Documents in a row, and in two rows.
    apart = jax.jit(model.likelihood)(v, pack([[0], [1], [2], [3]]), None)[0].total  # type: ignore[arg-type]
    np.testing.assert_allclose(scores[0][:2], [apart[0] + apart[1], apart[2] + apart[3]], rtol=1e-5)


def test_a_second_pass_is_not_counted():
    data = rows(REPEATS, 6)
    model = build("kneser_ney", data, 5)
    twice = {k: np.concatenate([v, v]) for k, v in data.items()}
    once, again = read(model, data), read(model, twice, batch=len(data["mask"]))
    jax.tree.map(np.testing.assert_array_equal, once.state, again.state)
    assert int(again.state.unigrams.sum()) == len(REPEATS) - 1


def test_discounts_fall_back_as_kenlm_s_do():
    counts = jnp.array([1] * 20 + [2] * 8 + [3] * 4 + [4] * 2 + [9, 0, 0])
    y = 20 / 36
    expected = [1 - 2 * y * 8 / 20, 2 - 3 * y * 4 / 8, 3 - 4 * y * 2 / 4]
    np.testing.assert_allclose(ngrams.discounts(counts), expected, rtol=1e-6)
    assert ngrams.discounts(jnp.array([1, 1, 2, 5])).tolist() == [0.5, 1.0, 1.5]
    assert ngrams.discounts(jnp.array([1] * 10 + [2] * 10 + [3] * 30)).tolist() == [0.5, 1.0, 1.5]


def test_the_text_is_laid_out_once():
    data = rows(TEXT, 16)
    model = build("kneser_ney", data, 8)
    s = corpus.stream(read(model, data).state)
    assert int(s.last) == len(TEXT)
    np.testing.assert_array_equal(s.symbols[1 : len(TEXT) + 1], TEXT)
    assert np.flatnonzero(s.begin).tolist() == [1, len(TEXT) + 1]
    x = jnp.asarray(TEXT)
    np.testing.assert_array_equal(corpus.cumulative(x), np.cumsum(TEXT))


def test_configs_that_cannot_be():
    text = Spec({"tokens": Element((17,), "int32", 8, "tokens", "target")}, 4)
    image = Spec({"image": Element((2, 2, 1), "uint8", 3, "image", "target")}, 4)
    with pytest.raises(ConfigError, match="dense"):
        ngram.Config(smoothing="kneser_ney", counts="dense")
    with pytest.raises(ConfigError, match="previous tokens"):
        ngram.Config(smoothing="witten_bell", bins=2)
    with pytest.raises(ConfigError, match="eos"):
        ngram.build(ngram.Config(smoothing="kneser_ney", end="eos"), text, {})
    with pytest.raises(ConfigError, match="8 tokens"):
        ngram.build(ngram.Config(smoothing="kneser_ney", end=8), text, {})
    for build in (
        lambda: ngram.build(ngram.Config(smoothing="kneser_ney"), image, {}),
        lambda: infinigram.build(infinigram.Config(), image, {}),
    ):
        with pytest.raises(ConfigError, match=r"images|reads text"):
            build()
    with pytest.raises(ConfigError, match="depth"):
        infinigram.Config(order=9, depth=4)
