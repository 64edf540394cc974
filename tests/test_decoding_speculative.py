"""Speculative decoding keeps the target's law, whatever drafts: against exact laws of tiny models."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import PROMPTS, V, gpt_decoder, ngram_decoder
from scipy.stats import chi2

from genjax.core import Decoder, Variables
from genjax.errors import ConfigError
from genjax.sampling import speculative
from genjax.sampling.autoregressive import generate
from genjax.sampling.logits import Truncation

N = 20_000


def exact(family: tuple[Decoder, Variables], prompt: list[int], length: int, **knobs) -> np.ndarray:
    """The probability of every continuation, V ** length of them, in lexicographic order."""
    decoder, variables = family
    rows = np.array(list(itertools.product(range(V), repeat=length)))
    tokens = jnp.asarray(np.concatenate([np.tile(prompt, (len(rows), 1)), rows], axis=1))
    logits = decoder.step(variables, decoder.start(variables, {}, *tokens.shape), tokens)[0]
    steps = logits[:, len(prompt) - 1 : -1]
    log_probs = jnp.stack([Truncation(**knobs)(steps[:, t]) for t in range(length)], axis=1)
    return np.exp(np.take_along_axis(np.asarray(log_probs), rows[..., None], axis=2).sum((1, 2)))


def p_value(tokens: np.ndarray, expected: np.ndarray) -> float:
    """Of Pearson's test that the rows were drawn from `expected`; cells of fewer than 5 are one."""
    length = tokens.shape[1]
    seen = np.bincount(tokens @ V ** np.arange(length)[::-1], minlength=V**length).astype(float)
    assert seen[expected == 0].sum() == 0
    rare = expected * len(tokens) < 5
    a = np.append(seen[~rare], seen[rare].sum())
    b = np.append(expected[~rare], expected[rare].sum()) * len(tokens)
    a, b = a[b > 0], b[b > 0]
    return float(chi2.sf(((a - b) ** 2 / b).sum(), len(a) - 1))


@pytest.mark.parametrize(
    "knobs", [{}, {"temperature": 0.7, "top_k": 4, "top_p": 0.9}], ids=["plain", "narrow"]
)
@pytest.mark.parametrize("ahead", [1, 3])
def test_the_law_is_the_targets(ahead: int, knobs: dict):
    target, draft = gpt_decoder(), ngram_decoder()
    keys, prompt = jax.random.split(jax.random.key(1), N), [1, 2, 3]
    tokens = jnp.tile(jnp.array(prompt), (N, 1))
    expected = exact(target, prompt, 3, **knobs)
    out = speculative.generate(*target, *draft, keys, tokens, length=3, draft_length=ahead, **knobs)
    assert p_value(np.asarray(out.tokens), expected) > 1e-3
    assert 0.05 < float(out.rate) < 0.95
    # The test has teeth: the draft's own draws are found out.
    alone = generate(*draft, keys, tokens, length=3, **knobs)
    wrong = np.asarray(alone.tokens)
    known = expected[wrong @ V ** np.arange(3)[::-1]] > 0
    assert not known.all() or p_value(wrong, expected) < 1e-6


def test_log_probs_are_the_targets():
    target, draft = gpt_decoder(), ngram_decoder()
    keys = jax.random.split(jax.random.key(2), 3)
    out = speculative.generate(*target, *draft, keys, PROMPTS, length=6, temperature=0.8)
    tokens = jnp.concatenate([PROMPTS, out.tokens], axis=1)
    logits = target[0].step(target[1], target[0].start(target[1], {}, *tokens.shape), tokens)[0]
    expected = jax.nn.log_softmax(logits[:, 3:-1] / 0.8)
    expected = np.take_along_axis(np.asarray(expected), np.asarray(out.tokens)[..., None], 2)[..., 0]
    np.testing.assert_allclose(out.log_probs, expected, atol=1e-4)


@pytest.mark.parametrize("swap", [False, True], ids=["gpt", "ngram"])
def test_greedy_is_greedy_and_ragged_rows_are_their_own(swap: bool):
    target, draft = (ngram_decoder(), gpt_decoder()) if swap else (gpt_decoder(), ngram_decoder())
    keys, lengths = jax.random.split(jax.random.key(3), 3), jnp.array([1, 4, 2])
    both = (*target, *draft)
    expected = generate(*target, keys, PROMPTS, length=7, lengths=lengths, temperature=0)
    out = speculative.generate(*both, keys, PROMPTS, length=7, lengths=lengths, temperature=0)
    assert np.array_equal(out.tokens, expected.tokens)
    out = speculative.generate(*both, keys, PROMPTS, length=7, lengths=lengths, stop=(2,), pad=5)
    for i in range(3):
        # The padding of the prompt is another one too.
        padded = jnp.where(jnp.arange(4)[None] < lengths[i], PROMPTS[i : i + 1], 3)
        one = {"lengths": lengths[i : i + 1], "length": 7, "stop": (2,), "pad": 5}
        alone = speculative.generate(*both, keys[i : i + 1], padded, **one)
        for name in ("tokens", "lengths", "accepted", "drafted"):
            assert np.array_equal(getattr(alone, name)[0], getattr(out, name)[i]), name
        row = np.asarray(out.tokens[i]).tolist()
        size = int(out.lengths[i])
        assert row[:size].count(2) == (size < 7 or row[6] == 2)
        assert row[size:] == [5] * (7 - size)


def test_a_draft_of_the_target_itself_is_accepted():
    target = gpt_decoder()
    keys = jax.random.split(jax.random.key(4), 16)
    tokens = jnp.tile(PROMPTS[:1], (16, 1))
    out = speculative.generate(*target, *target, keys, tokens, length=9, draft_length=4)
    assert float(out.rate) == 1.0
    assert np.all(np.asarray(out.drafted) == 8)


def test_nothing_is_compiled_twice_and_what_cannot_be_is_refused():
    target, draft = gpt_decoder(), ngram_decoder()
    keys = jax.random.split(jax.random.key(5), 3)
    speculative.generate(*target, *draft, keys, PROMPTS, length=3)
    before = speculative._generate._cache_size()
    speculative.generate(*target, *draft, keys[::-1], PROMPTS + 0, length=3)
    assert speculative._generate._cache_size() == before
    for knobs in ({"length": 0}, {"draft_length": 0}, {"repetition_penalty": 1.5}):
        with pytest.raises(ConfigError):
            speculative.generate(*target, *draft, keys, PROMPTS, **{"length": 3, **knobs})
