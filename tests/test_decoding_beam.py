"""Beam search: against an exhaustive search, one beam against greedy, rows by themselves."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import PROMPTS, V, gpt_decoder

from genjax.errors import ConfigError
from genjax.sampling import beam
from genjax.sampling.autoregressive import generate, prefix
from genjax.sampling.beam import beam_search

STOP, PAD = 2, 0


@pytest.fixture(scope="module", params=[gpt_decoder], ids=["gpt"])
def family(request):
    return request.param()


def ranked(
    family, prompt: list[int], length: int, penalty: float, stop: bool
) -> list[tuple[float, list[int]]]:
    """Every hypothesis with its score, best first."""
    decoder, variables = family
    rows = np.array(list(itertools.product(range(V), repeat=length)))
    tokens = jnp.asarray(np.concatenate([np.tile(prompt, (len(rows), 1)), rows], axis=1))
    logits = decoder.step(variables, decoder.start(variables, {}, *tokens.shape), tokens)[0]
    log_probs = np.asarray(jax.nn.log_softmax(logits[:, len(prompt) - 1 : -1]))
    chosen = np.take_along_axis(log_probs, rows[..., None], axis=2)[..., 0]
    found = {}
    for row, values in zip(rows.tolist(), chosen, strict=True):
        n = row.index(STOP) + 1 if stop and STOP in row else length
        found[tuple(row[:n])] = values[:n].sum() / n**penalty
    return sorted(((v, list(k)) for k, v in found.items()), key=lambda x: -x[0])


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_search_finds_the_best(family, penalty: float):
    """With as many beams as hypotheses nothing is lost."""
    for stop in ((), (STOP,)):
        out = beam_search(
            *family, PROMPTS[:2], beams=40, length=3, stop=stop, pad=PAD, length_penalty=penalty
        )
        for i in range(2):
            best = ranked(family, PROMPTS[i].tolist(), 3, penalty, bool(stop))
            np.testing.assert_allclose(out.scores[i, :5], [s for s, _ in best[:5]], atol=1e-4)
            for k in range(5):
                n = int(out.lengths[i, k])
                assert np.asarray(out.tokens[i, k, :n]).tolist() == best[k][1]
                assert (np.asarray(out.tokens[i, k, n:]) == PAD).all()


def test_one_beam_is_greedy(family):
    keys, lengths = jax.random.split(jax.random.key(0), 3), jnp.array([1, 4, 2])
    how = {"length": 8, "lengths": lengths, "stop": (STOP,), "pad": 5}
    greedy = generate(*family, keys, PROMPTS, temperature=0, **how)
    out = beam_search(*family, PROMPTS, beams=1, **how)
    assert np.array_equal(out.tokens[:, 0], greedy.tokens)
    assert np.array_equal(out.lengths[:, 0], greedy.lengths)


def test_rows_are_their_own_and_may_share_a_prefix(family):
    lengths = jnp.array([1, 4, 2])
    how = {"beams": 3, "length": 6, "stop": (STOP,)}
    out = beam_search(*family, PROMPTS, lengths=lengths, **how)
    assert np.all(np.diff(out.scores, axis=1) <= 0)
    before = beam._search._cache_size()
    shared = prefix(*family, PROMPTS, lengths=lengths, room=5)
    again = beam_search(*family, PROMPTS, prefix=shared, **how)
    assert beam._search._cache_size() == before
    assert np.array_equal(again.tokens, out.tokens)
    for i in range(3):
        alone = beam_search(*family, PROMPTS[i : i + 1], lengths=lengths[i : i + 1], **how)
        assert np.array_equal(alone.tokens[0], out.tokens[i])
        np.testing.assert_allclose(alone.scores[0], out.scores[i], atol=1e-4)
    later = beam_search(*family, PROMPTS, lengths=lengths, min_length=3, **how)
    assert int(later.lengths.min()) >= 4


def test_what_cannot_be_searched_is_refused(family):
    for wrong in ({"beams": 0}, {"length": 0}):
        with pytest.raises(ConfigError):
            beam_search(*family, PROMPTS, **{"beams": 2, "length": 3, **wrong})
