"""What every decoder keeps, over the configs found: a new model inherits all of this by having a config."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import settings
from genjax.core import Decoder, Variables
from genjax.sampling import constraints, speculative
from genjax.sampling.autoregressive import generate
from genjax.sampling.beam import beam_search
from genjax.workflows import train

ROOT = Path(__file__).parent.parent / "configs"
B, T = 3, 9


class Family(NamedTuple):
    """A decoder with weights far from their start, and rows that it may read."""

    decoder: Decoder
    variables: Variables
    tokens: jax.Array
    vocabulary: int


def one_of_each() -> list[str]:
    """The first config of every architecture, on text where it has one."""
    found: dict[str, str] = {}
    names = [str(p.relative_to(ROOT))[:-3] for p in ROOT.rglob("*.py") if p.parent.name != "compare"]
    for name in sorted(names, key=lambda n: (not n.startswith("pydoc"), n)):
        found.setdefault(settings.load(f"{name}:smoke")["model"]["name"], name)
    return sorted(found.values())


@functools.cache
def family(name: str) -> Family | None:
    """None where the config's model has no decoder."""
    quiet = ("train.progress=False", "train.tensorboard=False", "data.batch=8", "data.limit=64")
    config = settings.complete(settings.load(f"{name}:smoke", quiet))
    e = train.prepare(config, Path(tempfile.mkdtemp()))
    if e.model.decoder is None:
        return None
    rows = {k: jnp.asarray(v) for k, v in e.dataset.train.stream(batch=8)[0].items()}
    batch, keys = {**rows, "carry": e.model.carry(rows)}, jax.random.split(jax.random.key(1), 8)

    @jax.jit
    def learned(key: jax.Array) -> Variables:
        """Enlarged weights, and the counts of one batch."""
        v = e.model.init(key, rows, {})
        v = v.replace(params=jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, v.params))
        for phase in e.model.phases.values():
            _, aux = phase.objective(v, batch, keys, step=jnp.zeros((), jnp.int32))
            v = v.replace(state=aux.state)
        return e.model.finish(v)

    variables = learned(jax.random.key(0))
    tokens = jnp.zeros((B, T), jnp.int32)
    start = e.model.decoder.start(variables, {}, B, T)
    size = jax.eval_shape(e.model.decoder.step, variables, start, tokens)[0].shape[-1]
    tokens = jax.random.randint(jax.random.key(2), (B, T), 0, size)
    return Family(e.model.decoder, variables, tokens, size)


def every(test):
    """The test over all configs, one group each, so that a worker prepares and compiles it once."""
    names = [pytest.param(name, marks=pytest.mark.xdist_group(f"decoder-{name}")) for name in one_of_each()]
    return pytest.mark.parametrize("name", names)(test)


def logits(f: Family, tokens: jax.Array) -> np.ndarray:
    return np.asarray(_logits(f.decoder, f.variables, tokens))


@functools.partial(jax.jit, static_argnames="decoder")
def _logits(decoder: Decoder, variables: Variables, tokens: jax.Array) -> jax.Array:
    return decoder.step(variables, decoder.start(variables, {}, *tokens.shape[:2]), tokens)[0]


@functools.partial(jax.jit, static_argnames=("decoder", "size"))
def _pieces(
    decoder: Decoder, variables: Variables, tokens: jax.Array, counts: jax.Array, *, size: int
) -> tuple[jax.Array, jax.Array]:
    """Reads `size` tokens at a time and keeps `counts` (pieces x B): (logits of each, where it began)."""
    padded = jnp.concatenate([tokens, tokens[:, :size]], axis=1)
    cache = decoder.start(variables, {}, tokens.shape[0], padded.shape[1])

    def body(carry, count):
        cache, at = carry
        piece = jax.vmap(lambda row, a: jax.lax.dynamic_slice_in_dim(row, a, size))(padded, at)
        out, trail = decoder.step(variables, cache, piece)
        return (decoder.commit(trail, count), at + count), (out, at)

    return jax.lax.scan(body, (cache, jnp.zeros_like(counts[0])), counts)[1]


@every
def test_a_cache_changes_nothing(name: str):
    """Tokens read one by one, or in ragged pieces of which some are kept, give the logits of one reading."""
    if (f := family(name)) is None:
        return
    whole = logits(f, f.tokens)
    scale = np.abs(whole).max()
    assert scale > 1e-2
    spread = np.abs(whole - whole.mean(axis=1, keepdims=True)).max()
    assert spread > 1e-3 * scale, "the logits do not depend on what was read"
    rng = np.random.default_rng(0)
    for size in (1, 3):
        counts = np.ones((T, B), np.int32) if size == 1 else rng.integers(0, 4, (8, B)).astype(np.int32)
        out, began = _pieces(f.decoder, f.variables, f.tokens, jnp.asarray(counts), size=size)
        seen = np.zeros((B, T), bool)
        for piece, at, count in zip(np.asarray(out), np.asarray(began), counts, strict=True):
            for row in range(B):
                for n in range(size):
                    if (place := at[row] + n) < T:
                        error = np.abs(piece[row, n] - whole[row, place]).max()
                        assert error <= 1e-5 * scale, (size, row, place, count)
                        seen[row, place] = True
        assert seen.mean() > 0.6


@every
def test_what_comes_later_changes_nothing(name: str):
    if (f := family(name)) is None:
        return
    whole = logits(f, f.tokens)
    scale = np.abs(whole).max()
    for t in (0, 3, T - 2):
        other = f.tokens.at[:, t + 1 :].set((f.tokens[:, t + 1 :] + 1) % f.vocabulary)
        changed = logits(f, other)
        assert np.abs(changed[:, : t + 1] - whole[:, : t + 1]).max() <= 1e-6 * scale
        if t == 0:  # contexts that were never counted may all be alike further on
            assert np.abs(changed[:, 1:] - whole[:, 1:]).max() > 1e-4 * scale


@every
def test_one_beam_is_greedy(name: str):
    if (f := family(name)) is None:
        return
    how = {"length": 6, "lengths": jnp.array([1, 3, 2]), "stop": (1,)}
    keys = jax.random.split(jax.random.key(3), B)
    greedy = generate(f.decoder, f.variables, keys, f.tokens[:, :3], temperature=0, **how)
    beam = beam_search(f.decoder, f.variables, f.tokens[:, :3], beams=1, **how)
    assert np.array_equal(beam.tokens[:, 0], greedy.tokens)
    assert np.array_equal(beam.lengths[:, 0], greedy.lengths)


@every
def test_constrained_samples_match(name: str):
    """Tokens stand for letters; the language needs more than the likeliest tokens, and just fits."""
    if (f := family(name)) is None:
        return
    letters = [chr(0x4E00 + i) for i in range(f.vocabulary)]
    a, b, c = letters[0], letters[1], letters[2]
    constraint = constraints.regex(f"({a}{b}|{c}){{2}}[^{a}]*{b}", [x.encode() for x in letters])
    keys = jax.random.split(jax.random.key(4), B)
    out = generate(
        f.decoder,
        f.variables,
        keys,
        f.tokens[:, :2],
        length=5,
        lengths=jnp.array([1, 2, 1]),
        constraint=constraint,
        pad=2,
    )
    for row, size in zip(np.asarray(out.tokens), np.asarray(out.lengths), strict=True):
        text = row[:size].tolist()
        assert text[:2] == [0, 1] or text[0] == 2
        rest = text[2:] if text[0] == 0 else text[1:]
        rest = rest[2:] if rest[0] == 0 else rest[1:]
        assert rest[-1] == 1
        assert 0 not in rest
        assert (row[size:] == 2).all()


@every
def test_a_draft_of_itself_is_accepted(name: str):
    if (f := family(name)) is None:
        return
    both, keys = (f.decoder, f.variables) * 2, jax.random.split(jax.random.key(5), B)
    lengths = jnp.array([1, 3, 2])
    out = speculative.generate(*both, keys, f.tokens[:, :3], length=7, lengths=lengths, draft_length=3)
    assert float(out.rate) == 1.0
    assert np.asarray(out.lengths).tolist() == [7] * B
