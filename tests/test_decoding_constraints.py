"""Constrained decoding: a sample always matches in full, from any decoder; the impossible is refused."""

from __future__ import annotations

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import gpt_decoder, ngram_decoder

from genjax.errors import ConfigError
from genjax.languages import automata, regexes
from genjax.sampling import autoregressive, constraints
from genjax.sampling.autoregressive import generate, prefix, stream
from genjax.sampling.beam import beam_search
from genjax.sampling.logits import Truncation

BYTES = [b"", b"a", b"b", b"ab", b"1", b"12", b" ", b"\xc3", b"\xa9", "é".encode(), b"bab", b"\n"]
END, PAD = 0, 0
B, LENGTH = 8, 9


def pattern(rng: np.random.Generator, depth: int = 3) -> str:
    """A random regular expression over a few characters."""
    if depth == 0:
        return str(rng.choice(["a", "b", "1", " ", "é", "[ab]", "[^a]", ".", r"\d", "(ab|bab)"]))
    kind, inner = rng.integers(4), lambda: pattern(rng, depth - 1)
    if kind == 0:
        return inner() + inner()
    if kind == 1:
        return f"({inner()}|{inner()})"
    if kind == 2:
        return f"({inner()})" + str(rng.choice(["*", "+", "?", "{1,2}", "{2}"]))
    return inner()


PATTERNS = [pattern(np.random.default_rng(seed)) for seed in range(40)]


def text(tokens: np.ndarray, length: int) -> bytes:
    return b"".join(BYTES[t] for t in tokens[:length])


def matches(found: str, whole: bytes) -> bool:
    try:
        return re.fullmatch(found, whole.decode()) is not None
    except UnicodeDecodeError:
        return False


@pytest.fixture(scope="module", params=[gpt_decoder, ngram_decoder], ids=["gpt", "ngram"])
def family(request):
    return request.param(len(BYTES))


alone = pytest.mark.parametrize("family", [gpt_decoder], ids=["gpt"], indirect=True)


def padded(constraint: constraints.Constraint, states: int = 64, edges: int = 512) -> constraints.Constraint:
    """The same constraint in arrays of one size for all, so that one program serves every pattern."""
    grow = lambda x, n, value: jnp.pad(x, (0, n - x.shape[0]), constant_values=value)
    assert constraint.distance.shape[0] <= states
    assert constraint.label.shape[0] <= edges
    return constraint.replace(  # type: ignore[attr-defined]
        first=grow(constraint.first, states + 1, constraint.first[-1]),
        label=grow(constraint.label, edges, len(BYTES)),
        target=grow(constraint.target, edges, 0),
        distance=grow(constraint.distance, states, 0),
        last=grow(constraint.last, states, True),
        fewest=0,
        width=len(BYTES),
        columns=len(BYTES),
    )


@pytest.mark.parametrize("stop", [(), (END,)], ids=["free", "stop"])
def test_every_sample_matches(family, stop: tuple[int, ...]):
    """Random patterns, ragged prompts, and a length that many of them just fit into."""
    prompts, lengths = jnp.array([[1, 2, 3]] * B), jnp.array([1, 2, 3, 1, 2, 3, 1, 2])
    drawn, compiled = 0, autoregressive._generate._cache_size()
    for n, found in enumerate(PATTERNS):
        try:
            constraint = constraints.regex(found, BYTES)
        except ConfigError:
            continue
        if constraint.fewest > LENGTH:
            continue
        keys = jax.random.split(jax.random.key(n), B)
        out = generate(
            *family,
            keys,
            prompts,
            lengths=lengths,
            length=LENGTH,
            stop=stop,
            constraint=padded(constraint),
            top_k=3,
        )
        tokens, sizes = np.asarray(out.tokens), np.asarray(out.lengths)
        for row, size in zip(tokens, sizes, strict=True):
            assert matches(found, text(row, size)), (found, text(row, size))
            assert (row[size:] == PAD).all()
            if stop:
                assert END not in row[: size - 1].tolist()
        drawn += 1
    assert drawn >= 30
    assert autoregressive._generate._cache_size() <= compiled + 1


@alone
def test_the_end_is_as_likely_as_what_would_leave_the_language(family):
    decoder, variables = family
    constraint = constraints.regex("a+", BYTES)
    tokens = jnp.array([[2, 1]])
    logits = decoder.step(variables, decoder.start(variables, {}, 1, 2), tokens)[0][:, -1]
    p = np.asarray(jax.nn.softmax(logits / 0.7))[0]
    keys = jax.random.split(jax.random.key(1), 4000)
    state = constraint.follow(constraint.begin(4000), jnp.ones((4000,), jnp.int32))
    left = jnp.full((4000,), 5)
    _, log_prob, over = constraint.draw(
        keys, jnp.tile(logits, (4000, 1)), state, left, Truncation(temperature=0.7)
    )
    share = 1 - p[1]
    assert abs(float(over.mean()) - share) < 4 * (share * (1 - share) / 4000) ** 0.5
    np.testing.assert_allclose(np.exp(log_prob[over]), share, rtol=1e-4)
    # Where no length is left the same holds: to go on would leave what can still be accepted.
    _, _, over = constraint.draw(keys, jnp.tile(logits, (4000, 1)), state, left * 0 - 1, Truncation())
    assert bool(over.all())


@alone
def test_words_schemas_beams_and_streams(family):
    keys, prompts = jax.random.split(jax.random.key(3), B), jnp.ones((B, 1), jnp.int32)
    choices = ["ab", "abab1", "12é", "b"]
    constraint = constraints.words(choices, BYTES)
    assert constraint.fewest == 1
    out = generate(*family, keys, prompts, length=6, constraint=constraint, temperature=3.0)
    drawn = {text(r, n).decode() for r, n in zip(np.asarray(out.tokens), out.lengths, strict=True)}
    assert drawn <= set(choices)
    assert len(drawn) > 1
    parts = list(stream(*family, keys, prompts, length=6, constraint=constraint, temperature=3.0, chunk=2))
    joined = np.concatenate([p.tokens for p in parts], axis=1)
    assert np.array_equal(joined, np.asarray(out.tokens)[:, : joined.shape[1]])
    shared = prefix(*family, prompts[:1], room=6).rows(jnp.zeros((B,), jnp.int32))
    again = generate(*family, keys, None, length=6, constraint=constraint, temperature=3.0, prefix=shared)
    assert np.array_equal(again.tokens, out.tokens)
    found = beam_search(*family, prompts[:2], beams=6, length=6, constraint=constraint)
    for row, score, n in zip(found.tokens[0], found.scores[0], found.lengths[0], strict=True):
        assert (text(np.asarray(row), n).decode() in choices) == np.isfinite(score)
    assert np.isfinite(np.asarray(found.scores)[:, :4]).all()


def test_json_fits_its_schema():
    letters = [bytes([i]) for i in range(128)]
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 4},
            "count": {"type": "integer"},
            "kind": {"enum": ["up", "down"]},
        },
        "required": ["name", "count", "kind"],
    }
    constraint = constraints.json_schema(schema, letters)
    out = generate(
        *ngram_decoder(128),
        jax.random.split(jax.random.key(4), 16),
        jnp.zeros((16, 1), jnp.int32),
        length=constraint.fewest + 6,
        constraint=constraint,
    )
    for row, size in zip(np.asarray(out.tokens), out.lengths, strict=True):
        value = json.loads(bytes(row[:size].astype(np.uint8)))
        assert set(value) == {"name", "count", "kind"}
        assert isinstance(value["count"], int)
        assert value["kind"] in ("up", "down")
        assert len(value["name"]) <= 4


@alone
def test_the_impossible_is_refused(family):
    keys, prompts = jax.random.split(jax.random.key(5), 2), jnp.ones((2, 1), jnp.int32)
    for wrong in ("(a", "a(?=b", r"(a)\1", "[^\\s\\S]"):
        with pytest.raises(ConfigError, match="regular expression"):
            constraints.regex(wrong, BYTES)
    reasons = {
        "(a": "is not valid",
        "a{2,1}": "is not valid",
        r"(a)\1": "no finite automaton",
        "(?<=a)b": "no finite automaton",
    }
    for wrong, says in reasons.items():
        with pytest.raises(ConfigError, match=says):
            constraints.regex(wrong, BYTES)
    with pytest.raises(ConfigError, match="accepts nothing"):
        constraints.regex("x+", BYTES)
    with pytest.raises(ConfigError, match="word"):
        constraints.words([], BYTES)
    with pytest.raises(ConfigError, match="schema"):
        constraints.json_schema('{"type": "nonsense"}', BYTES)
    five = constraints.regex("(1a){5}", BYTES)
    assert five.fewest == 10
    with pytest.raises(ConfigError, match="at least 10"):
        generate(*family, keys, prompts, length=9, constraint=five)
    with pytest.raises(ConfigError, match="10 tokens"):
        beam_search(*family, prompts, beams=2, length=9, constraint=five)
    with pytest.raises(ConfigError, match="min_length"):
        generate(*family, keys, prompts, length=12, constraint=five, min_length=3)
    many = constraints.regex("a", [*BYTES, b"x"])
    with pytest.raises(ConfigError, match="model of"):
        generate(*family, keys, prompts, length=9, constraint=many)


def test_many_tokens_make_small_tables():
    """A few columns are left of thousands of tokens, and the tables say the same as the automaton."""
    rng = np.random.default_rng(0)
    tokens = [bytes([i]) for i in range(256)]
    tokens += [bytes(rng.choice(list(b"abcdefgh 0123456789-"), n)) for n in rng.integers(2, 8, 5000)]
    found = r"(?a)[a-h]{1,12} \d{4}-\d{2}"
    constraint = constraints.regex(found, tokens)
    assert constraint.columns < 400
    automaton = regexes.regex(found)
    state, walked, rows = constraint.begin(1), 0, []
    for _ in range(20):
        allowed = np.asarray(constraint.allowed(state, jnp.array([99]), len(tokens)))[0]
        direct = [i for i, t in enumerate(tokens) if _goes_on(automaton, walked, t)]
        assert np.flatnonzero(allowed).tolist() == direct
        if not direct:
            break
        rows.append(int(rng.choice(direct)))
        state = constraint.follow(state, jnp.array(rows[-1:]))
        for byte in tokens[rows[-1]]:
            walked = int(automaton.step[walked, byte])
    assert automaton.accepts[walked]
    assert bool(constraint.complete(state)[0])


def _goes_on(automaton: automata.Automaton, state: int, token: bytes) -> bool:
    for byte in token:
        state = int(automaton.step[state, byte])
        if state < 0:
            return False
    return True
