"""Tiny decoders of two families for the tests of sampling, with distributions far from uniform."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from properties import compiled

from genjax.core import Decoder, Element, Spec, Variables
from genjax.models import gpt, ngram

V = 6
SPEC = Spec({"tokens": Element((17,), "int32", V, "tokens", "target")})
PROMPTS = jnp.array([[1, 2, 3, 4], [5, 0, 1, 2], [3, 3, 0, 5]])


@functools.cache
def gpt_decoder(vocabulary: int = V, length: int = 16) -> tuple[Decoder, Variables]:
    """A rotary layer, its weights enlarged."""
    spec = Spec({"tokens": Element((length + 1,), "int32", vocabulary, "tokens", "target")})
    model = gpt.build(gpt.Config(layers=1, heads=2, width=16, position="rope"), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, variables.params)
    decoder = compiled(model).decoder
    assert decoder is not None
    return decoder, variables.replace(params=params)


@functools.cache
def ngram_decoder(vocabulary: int = V, length: int = 16) -> tuple[Decoder, Variables]:
    """Trigrams of 30 rows."""
    spec = Spec({"tokens": Element((length + 1,), "int32", vocabulary, "tokens", "target")})
    model = ngram.build(ngram.Config(order=3), spec, {})
    rows = {
        "tokens": np.random.default_rng(0).integers(0, vocabulary, (30, length + 1)) ** 2 % vocabulary,
        "mask": np.ones(30, np.float32),
    }
    variables = model.init(jax.random.key(0), rows, {})
    counted = jax.jit(lambda v: model.phases["nll"].objective(v, rows, None, step=jnp.int32(0))[1].state)
    decoder = compiled(model).decoder
    assert decoder is not None
    return decoder, jax.jit(model.finish)(variables.replace(state=counted(variables)))
