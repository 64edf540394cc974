"""The decoding loop over every Decoder: greedy, truncation, ragged prompts, keys by row, chunks, guidance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import PROMPTS, V, gpt_decoder, ngram_decoder
from properties import compiled

from genjax.core import Decoder, Element, Spec, Variables
from genjax.errors import ConfigError
from genjax.models import gpt, ngram
from genjax.sampling import autoregressive
from genjax.sampling.autoregressive import generate, guide, prefix, stream
from genjax.sampling.generation import advance, begin, read
from genjax.sampling.logits import Bernoulli, Truncation

SPEC = Spec({"tokens": Element((17,), "int32", V, "tokens", "target")})


@pytest.fixture(scope="module", params=[gpt_decoder, ngram_decoder], ids=["gpt", "ngram"])
def family(request) -> tuple[Decoder, Variables]:
    return request.param()


alone = pytest.mark.parametrize("family", [gpt_decoder], ids=["gpt"], indirect=True)


def _logits(family, tokens) -> np.ndarray:
    """Logits before each drawn token, all read at once."""
    decoder, variables = family
    cache = decoder.start(variables, {}, *tokens.shape)
    read_all = jax.jit(lambda v, c, t: decoder.step(v, c, t)[0])
    return np.asarray(read_all(variables, cache, tokens)[:, PROMPTS.shape[1] - 1 : -1])


def test_greedy_takes_the_likeliest(family):
    keys = jax.random.split(jax.random.key(0), 3)
    out = generate(*family, keys, PROMPTS, length=5, temperature=0)
    assert out.tokens.shape == (3, 5)
    assert np.all(np.asarray(out.log_probs) == 0)
    logits = _logits(family, jnp.concatenate([PROMPTS, out.tokens], axis=1))
    assert np.array_equal(logits.argmax(-1), out.tokens)


@alone
def test_log_probs_are_those_of_the_draw(family):
    keys = jax.random.split(jax.random.key(1), 3)
    knobs = {"temperature": 0.7, "top_k": 4, "top_p": 0.9}
    out = generate(*family, keys, PROMPTS, length=4, **knobs)
    logits = _logits(family, jnp.concatenate([PROMPTS, out.tokens], axis=1))
    expected = np.stack([Truncation(**knobs)(jnp.asarray(logits[:, t])) for t in range(4)], axis=1)
    chosen = np.take_along_axis(expected, np.asarray(out.tokens)[..., None], axis=2)[..., 0]
    assert np.all(np.isfinite(chosen))
    np.testing.assert_allclose(out.log_probs, chosen, atol=1e-4)


def test_a_row_depends_on_its_own_key_and_prompt_alone(family):
    keys = jax.random.split(jax.random.key(2), 3)
    whole = generate(*family, keys, PROMPTS, length=6)
    for i in range(3):
        alone = generate(*family, keys[i : i + 1], PROMPTS[i : i + 1], length=6)
        assert np.array_equal(alone.tokens[0], whole.tokens[i])
    other = generate(*family, keys.at[0].set(jax.random.key(9)), PROMPTS, length=6)
    assert np.array_equal(other.tokens[1:], whole.tokens[1:])
    assert not np.array_equal(other.tokens[0], whole.tokens[0])


def test_ragged_prompts_equal_separate_ones(family):
    keys = jax.random.split(jax.random.key(3), 3)
    lengths = jnp.array([1, 4, 2])
    together = generate(*family, keys, PROMPTS, length=6, lengths=lengths)
    for i, n in ((1, 4), (2, 2)):
        alone = generate(*family, keys[i : i + 1], PROMPTS[i : i + 1, :n], length=6)
        assert np.array_equal(alone.tokens[0], together.tokens[i])
        np.testing.assert_allclose(alone.log_probs[0], together.log_probs[i], atol=1e-4)


@alone
def test_chunks_equal_the_whole(family):
    keys, policy = jax.random.split(jax.random.key(4), 3), Truncation()
    lengths = jnp.full((3,), 4)
    whole = generate(*family, keys, PROMPTS, length=6)
    start, limit = read(*family, PROMPTS, lengths, {}, room=5), jnp.full((3,), 6)
    g, first = begin(keys, start, limit, policy=policy)
    parts = [first]
    for n in (2, 1, 2):
        g, more = advance(*family, keys, g, length=n, policy=policy)
        parts.append(more)
    assert np.array_equal(jnp.concatenate([p.tokens for p in parts], axis=1), whole.tokens)
    # A branch: rows of the generation go on by themselves.
    g, _ = begin(keys, start, limit, policy=policy)
    swapped = jax.tree.map(lambda x: x[jnp.array([2, 0, 1])], g)
    _, out = advance(*family, keys[jnp.array([2, 0, 1])], swapped, length=2, policy=policy)
    assert np.array_equal(out.tokens, whole.tokens[jnp.array([2, 0, 1]), 1:3])


@alone
def test_nothing_is_compiled_twice(family):
    keys = jax.random.split(jax.random.key(5), 3)
    compiled = autoregressive._generate
    generate(*family, keys, PROMPTS, length=6)
    before = compiled._cache_size()
    decoder, variables = family
    variables = jax.tree.map(lambda x: x * 1, variables)
    generate(decoder, variables, keys[::-1], PROMPTS + 0, length=6)
    assert compiled._cache_size() == before
    generate(decoder, variables, keys, PROMPTS, length=6, temperature=0.6)
    assert compiled._cache_size() == before + 1


def test_guidance_leans_on_the_condition(family):
    decoder, variables = family
    strip = lambda tokens: jnp.where(tokens == 5, 6, tokens)
    tokens = jnp.array([[5, 1, 2]])

    def logits(d: Decoder, x: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(d.step(variables, d.start(variables, {}, 1, 3), x)[0][0, 1])

    c, u = logits(decoder, tokens), logits(decoder, strip(tokens))
    assert float(jnp.abs(c - u).max()) > 1e-3
    for scale, expected in ((0.0, u), (1.0, c), (2.5, u + 2.5 * (c - u))):
        found = logits(guide(decoder, scale, strip), tokens)
        np.testing.assert_allclose(found, jax.nn.log_softmax(expected), atol=1e-4)


@alone
def test_nothing_to_generate_is_refused(family):
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(ConfigError, match="length"):
        generate(*family, keys, PROMPTS, length=0)
    with pytest.raises(ConfigError, match="prompt"):
        generate(*family, keys, PROMPTS[:, :0], length=2)


@alone
def test_rows_stop_at_their_own_stop_token(family):
    keys, lengths = jax.random.split(jax.random.key(6), 24), jnp.tile(jnp.array([1, 4, 2]), 8)
    prompts = jnp.tile(PROMPTS, (8, 1))
    free = generate(*family, keys, prompts, length=8, lengths=lengths)
    out = generate(*family, keys, prompts, length=8, lengths=lengths, stop=(3,), pad=4)
    ended = 0
    for row, whole, log_probs, n in zip(
        *map(np.asarray, (out.tokens, free.tokens, out[1], out[2])), strict=True
    ):
        hits = np.flatnonzero(np.isin(whole, (3,)))
        size = hits[0] + 1 if len(hits) else 8
        assert n == size
        assert np.array_equal(row[:size], whole[:size])
        assert (row[size:] == 4).all()
        assert (log_probs[size:] == 0).all()
        ended += size < 8
    assert 0 < ended < 24
    limit = jnp.arange(24) % 4
    short = generate(*family, keys, prompts, length=8, lengths=lengths, stop=(3,), pad=4, limit=limit)
    assert np.array_equal(short.lengths, jnp.minimum(limit, out.lengths))
    later = generate(*family, keys, prompts, length=8, lengths=lengths, stop=(3,), min_length=4)
    assert not np.isin(later.tokens[:, :4], (3,)).any()
    assert int(later.lengths.min()) >= 5


@alone
def test_a_loop_ends_when_all_rows_have(family):
    """Trips are counted where the decoder is asked."""
    decoder, variables = family
    trips = []

    def step(variables, cache, tokens):
        jax.debug.callback(lambda: trips.append(1))
        return decoder.step(variables, cache, tokens)

    counted = Decoder(decoder.start, step, decoder.commit)
    keys = jax.random.split(jax.random.key(6), 3)
    out = generate(counted, variables, keys, PROMPTS, length=500, stop=(2, 3))
    jax.effects_barrier()
    assert len(trips) == int(out.lengths.max()) < 500


def test_a_shared_prefix_equals_none(family):
    keys, lengths = jax.random.split(jax.random.key(7), 4), jnp.array([1, 2, 1, 0])
    first, then = jnp.array([[5, 0, 1]]), jnp.array([[1, 4], [2, 3], [3, 0], [0, 0]])
    # Penalties see the tokens of the prefix too.
    knobs = {"length": 5, "repetition_penalty": 1.7}
    shared = prefix(*family, first, room=7).rows(jnp.zeros((4,), jnp.int32))
    out = generate(*family, keys, then, lengths=lengths, prefix=shared, **knobs)
    whole = jnp.concatenate([jnp.tile(first, (4, 1)), then], axis=1)
    expected = generate(*family, keys, whole, lengths=lengths + 3, **knobs)
    assert np.array_equal(out.tokens, expected.tokens)
    np.testing.assert_allclose(out.log_probs, expected.log_probs, atol=1e-4)
    with pytest.raises(ConfigError, match="room"):
        generate(*family, keys, then, lengths=lengths, prefix=shared, length=7)


@alone
def test_a_stream_draws_what_generate_draws(family):
    keys, how = jax.random.split(jax.random.key(8), 3), {"stop": (2,), "frequency_penalty": 0.5}
    whole = generate(*family, keys, PROMPTS, length=12, **how)
    parts = list(stream(*family, keys, PROMPTS, length=12, chunk=4, **how))
    size = sum(p.tokens.shape[1] for p in parts)
    assert size >= int(whole.lengths.max())
    for n in range(2):
        joined = np.concatenate([np.asarray(p[n]) for p in parts], axis=1)
        np.testing.assert_allclose(joined, whole[n][:, :size], atol=1e-5)
    assert np.array_equal(sum(np.asarray(p.lengths) for p in parts), whole.lengths)
    before = advance._cache_size()
    list(stream(*family, keys, PROMPTS + 0, length=11, chunk=4, **how))
    assert advance._cache_size() == before


def test_frames_are_drawn_as_a_whole():
    """A decoder of rolls whose keys lean on the frame before."""
    weights = jax.random.normal(jax.random.key(0), (88, 88)) * 0.3

    def step(variables, cache, frames):
        return frames @ weights - 1.0, cache

    decoder = Decoder(lambda variables, prompt, num, length: {}, step, lambda trail, count: trail)
    keys = jax.random.split(jax.random.key(1), 4)
    roll = jax.random.bernoulli(jax.random.key(2), 0.1, (4, 3, 88)).astype(jnp.int32)
    out = generate(decoder, Variables(), keys, roll, length=5, policy=Bernoulli(0.5))
    assert out.tokens.shape == (4, 5, 88)
    whole = jnp.concatenate([roll, out.tokens], axis=1)
    logits = (whole[:, 2:-1] @ weights - 1.0) / 0.5
    p = np.asarray(jax.nn.sigmoid(logits))
    chosen = np.where(np.asarray(out.tokens) > 0, p, 1 - p)
    np.testing.assert_allclose(out.log_probs, np.log(chosen).sum(-1), rtol=1e-4)
    alone = generate(decoder, Variables(), keys[2:3], roll[2:3], length=5, policy=Bernoulli(0.5))
    assert np.array_equal(alone.tokens[0], out.tokens[2])
    with pytest.raises(ConfigError, match="frames"):
        generate(decoder, Variables(), keys, roll, length=5, policy=Bernoulli(), stop=(1,))


def test_text_goes_on_from_prompts_and_begins_by_itself():
    for build in (
        compiled(gpt.build(gpt.Config(layers=1, heads=2, width=16), SPEC, {})),
        compiled(ngram.build(ngram.Config(), SPEC, {})),
    ):
        variables = jax.jit(lambda key, b=build: b.init(key, SPEC.example(1), {}))(jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), 3)
        assert build.sample is not None
        free = build.sample(variables, keys, {})["tokens"]
        assert free.shape == (3, 17)
        assert int(free.max()) < 6
        prompt = {"tokens": PROMPTS, "length": jnp.array([1, 4, 2])}
        out = build.sample(variables, keys, prompt, temperature=0.5)["tokens"]
        assert out.shape == (3, 17)
        for i, n in enumerate((1, 4, 2)):
            assert np.array_equal(out[i, :n], PROMPTS[i, :n])
        alone = build.sample(variables, keys[2:], {"tokens": PROMPTS[2:, :2]}, temperature=0.5)
        assert np.array_equal(alone["tokens"][0], out[2])


def test_images_are_completed():
    spec = Spec(
        {
            "image": Element((4, 4, 1), "uint8", 3, "image", "target"),
            "label": Element((), "int32", 2, "label", "condition"),
        }
    )
    model = compiled(gpt.build(gpt.Config(layers=1, heads=2, width=16), spec, {}))
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(0))
    half = jnp.tile(jnp.array([[0, 1, 2, 1]]), (2, 2))
    assert model.sample is not None
    prompt = {"label": jnp.array([0, 1]), "image": half}
    out = model.sample(variables, jax.random.split(jax.random.key(1), 2), prompt)
    assert out["image"].shape == (2, 4, 4, 1)
    assert np.array_equal(out["image"].reshape(2, 16)[:, :8], half)
