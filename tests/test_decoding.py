"""The decoding loop over every Decoder: greedy, truncation, ragged prompts, keys by row, chunks, guidance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.core import Decoder, Element, Spec, Variables
from genjax.errors import ConfigError
from genjax.models import gpt, ngram
from genjax.sampling import autoregressive
from genjax.sampling.autoregressive import generate, guide
from genjax.sampling.generation import advance, begin, read
from genjax.sampling.logits import Truncation, draw, top_k, top_p

SPEC = Spec({"tokens": Element((17,), "int32", 6)})


def _gpt() -> tuple[Decoder, Variables]:
    config = gpt.Config(layers=2, heads=2, width=16, position="rope")
    model = gpt.build(config, SPEC, {})
    variables = jax.jit(lambda key: model.init(key, SPEC.example(1), {}))(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, variables.params)
    assert model.decoder is not None
    return model.decoder, variables.replace(params=params)


def _ngram() -> tuple[Decoder, Variables]:
    model = ngram.build(ngram.Config(order=3), SPEC, {})
    rows = {
        "tokens": np.random.default_rng(0).integers(0, 6, (30, 17)) ** 2 % 6,
        "mask": np.ones(30, np.float32),
    }
    variables = model.init(jax.random.key(0), rows, {})
    _, aux = model.plays["nll"].objective(variables, rows, None, step=jnp.zeros((), jnp.int32))
    assert model.decoder is not None
    return model.decoder, variables.replace(state=aux.state)


@pytest.fixture(scope="module", params=[_gpt, _ngram], ids=["gpt", "ngram"])
def family(request) -> tuple[Decoder, Variables]:
    return request.param()


PROMPTS = jnp.array([[1, 2, 3, 4], [5, 0, 1, 2], [3, 3, 0, 5]])


def _logits(family, tokens) -> np.ndarray:
    """Logits after the last of `tokens`, without a cache from before."""
    decoder, variables = family
    cache = decoder.start(variables, {}, tokens.shape[0], tokens.shape[1])
    return np.asarray(decoder.step(variables, cache, tokens)[0][:, -1])


def test_greedy_takes_the_likeliest(family):
    keys = jax.random.split(jax.random.key(0), 3)
    out = generate(*family, keys, PROMPTS, length=5, temperature=0)
    assert out.tokens.shape == (3, 5)
    assert np.all(np.asarray(out.log_probs) == 0)
    tokens = PROMPTS
    for t in range(5):
        best = _logits(family, tokens).argmax(-1)
        assert np.all(best == np.asarray(out.tokens[:, t]))
        tokens = jnp.concatenate([tokens, out.tokens[:, t : t + 1]], axis=1)


def test_log_probs_are_those_of_the_draw(family):
    keys = jax.random.split(jax.random.key(1), 3)
    knobs = {"temperature": 0.7, "top_k": 4, "top_p": 0.9}
    out = generate(*family, keys, PROMPTS, length=4, **knobs)
    tokens, policy = PROMPTS, Truncation(**knobs)
    for t in range(4):
        expected = policy(jnp.asarray(_logits(family, tokens)))
        chosen = np.take_along_axis(np.asarray(expected), np.asarray(out.tokens[:, t : t + 1]), 1)[:, 0]
        assert np.all(np.isfinite(chosen))
        np.testing.assert_allclose(out.log_probs[:, t], chosen, atol=1e-4)
        tokens = jnp.concatenate([tokens, out.tokens[:, t : t + 1]], axis=1)


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
    for i, n in enumerate((1, 4, 2)):
        alone = generate(*family, keys[i : i + 1], PROMPTS[i : i + 1, :n], length=6)
        assert np.array_equal(alone.tokens[0], together.tokens[i])
        np.testing.assert_allclose(alone.log_probs[0], together.log_probs[i], atol=1e-4)


def test_chunks_equal_the_whole(family):
    keys, policy = jax.random.split(jax.random.key(4), 3), Truncation()
    lengths = jnp.full((3,), 4)
    whole = generate(*family, keys, PROMPTS, length=7)
    prefix = read(*family, PROMPTS, lengths, {}, room=6)
    limit = jnp.full((3,), 7)
    g, first = begin(keys, prefix, limit, policy=policy)
    parts = [first]
    for n in (2, 2, 2):
        g, more = advance(*family, keys, g, length=n, policy=policy)
        parts.append(more)
    assert np.array_equal(jnp.concatenate([p.tokens for p in parts], axis=1), whole.tokens)
    # A branch: rows of the generation go on by themselves.
    g, _ = begin(keys, prefix, limit, policy=policy)
    swapped = jax.tree.map(lambda x: x[jnp.array([2, 0, 1])], g)
    _, out = advance(*family, keys[jnp.array([2, 0, 1])], swapped, length=6, policy=policy)
    assert np.array_equal(out.tokens, whole.tokens[jnp.array([2, 0, 1]), 1:])


def test_nothing_is_compiled_twice(family):
    keys = jax.random.split(jax.random.key(5), 3)
    compiled = autoregressive._generate
    generate(*family, keys, PROMPTS, length=3, temperature=0.5)
    before = compiled._cache_size()
    decoder, variables = family
    variables = jax.tree.map(lambda x: x * 1, variables)
    generate(decoder, variables, keys[::-1], PROMPTS + 0, length=3, temperature=0.5)
    assert compiled._cache_size() == before
    generate(decoder, variables, keys, PROMPTS, length=3, temperature=0.6)
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


def test_truncation_masks():
    p = np.array([[0.4, 0.3, 0.15, 0.1, 0.05], [0.05, 0.1, 0.15, 0.3, 0.4], [0.2, 0.2, 0.2, 0.2, 0.2]])
    logits = jnp.log(jnp.asarray(p)) + 3
    kept = lambda x: np.isfinite(np.asarray(x)).astype(int).tolist()
    assert kept(top_k(logits, 2)) == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    assert kept(top_k(logits, 99)) == np.ones((3, 5), int).tolist()
    assert kept(top_p(logits, 0.69)) == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 0]]
    assert kept(top_p(logits, 0.71)) == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert kept(top_p(logits, 1e-6)) == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    both = np.exp(Truncation(temperature=0.5, top_k=3, top_p=0.8)(logits[:1]))[0]
    # Squared they are .16, .09 and .0225: of these three, the first two reach 0.8.
    np.testing.assert_allclose(both, [0.64, 0.36, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(np.exp(Truncation()(logits)), p, atol=1e-6)
    assert np.exp(Truncation(temperature=0)(logits)).tolist() == [
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0],
    ]
    for knobs in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(knobs))):
            Truncation(**knobs)


def test_draws_follow_their_probabilities():
    p = np.array([0.5, 0.3, 0.2, 0.0])
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(p)), (20_000, 4))
    seen = np.bincount(draw(jax.random.split(jax.random.key(7), 20_000), logits), minlength=4)
    assert seen[3] == 0
    chi2 = ((seen[:3] - 20_000 * p[:3]) ** 2 / (20_000 * p[:3])).sum()
    assert chi2 < 13.8  # 0.1% of draws lie beyond, with two degrees of freedom


def test_nothing_to_generate_is_refused(family):
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(ConfigError, match="length"):
        generate(*family, keys, PROMPTS, length=0)
    with pytest.raises(ConfigError, match="prompt"):
        generate(*family, keys, PROMPTS[:, :0], length=2)


def test_text_goes_on_from_prompts_and_begins_by_itself():
    for build in (
        gpt.build(gpt.Config(layers=1, heads=2, width=16), SPEC, {}),
        ngram.build(ngram.Config(), SPEC, {}),
    ):
        variables = build.init(jax.random.key(0), SPEC.example(1), {})
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
            alone = build.sample(
                variables, keys[i : i + 1], {"tokens": PROMPTS[i : i + 1, :n]}, temperature=0.5
            )
            assert np.array_equal(alone["tokens"][0], out[i])


def test_images_are_completed():
    spec = Spec({"image": Element((4, 4, 1), "uint8", 3), "label": Element((), "int32", 2)})
    model = gpt.build(gpt.Config(layers=1, heads=2, width=16), spec, {})
    variables = model.init(jax.random.key(0), spec.example(1), {})
    half = jnp.tile(jnp.array([[0, 1, 2, 1]]), (2, 2))
    assert model.sample is not None
    prompt = {"label": jnp.array([0, 1]), "tokens": half}
    out = model.sample(variables, jax.random.split(jax.random.key(1), 2), prompt)
    assert out["image"].shape == (2, 4, 4, 1)
    assert np.array_equal(out["image"].reshape(2, 16)[:, :8], half)
