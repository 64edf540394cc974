"""Options at and beyond their limits: temperatures, seeds, options without effect; weights that are NaN."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import PROMPTS, gpt_decoder

from genjax.core import Element, Model, Spec, Variables
from genjax.errors import ConfigError, NonFiniteError
from genjax.models import bert, gpt
from genjax.sampling import speculative
from genjax.sampling.autoregressive import stream
from genjax.sampling.beam import beam_search
from genjax.sampling.logits import COLDEST, Bernoulli, Truncation
from genjax.sampling.masked import Refinement
from genjax.sampling.sampler import Sampler

SPEC = Spec({"tokens": Element((9,), "int32", 6, "tokens", "target")}, None, {"mask": 5})


@functools.cache
def built(name: str) -> tuple[Model, Variables]:
    module = {"gpt": gpt, "bert": bert}[name]
    model = module.build(module.Config(layers=1, heads=2, width=16), SPEC, {})
    return model, jax.jit(lambda key: model.init(key, SPEC.example(1), {}))(jax.random.key(0))


@functools.cache
def sampler(name: str, options: tuple[tuple[str, Any], ...]) -> Sampler:
    """One for each set of options, so that its program is kept; conditions are always given to it."""
    return Sampler(built(name)[0], None, batch=4, given=dict(options))


def draw(name: str, variables: Variables, options: dict) -> np.ndarray:
    """Four rows."""
    return sampler(name, tuple(options.items())).draw(variables, 4, given={})["tokens"]


@pytest.mark.parametrize("policy", [Truncation, Bernoulli, Refinement])
@pytest.mark.parametrize("wrong", [1e-40, COLDEST / 2, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_0_or_within_its_bounds(policy, wrong: float):
    with pytest.raises(ConfigError, match="temperature"):
        policy(temperature=wrong)


def test_the_coldest_temperature_is_greedy_and_finite():
    logits = 50 * jax.random.normal(jax.random.key(0), (64, 9))
    tokens, log_probs = Truncation(temperature=COLDEST).draw(jax.random.split(jax.random.key(1), 64), logits)
    assert np.array_equal(tokens, logits.argmax(-1))
    assert np.isfinite(log_probs).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gpt", {}),
        ("gpt", {"temperature": 0}),
        ("gpt", {"beams": 2}),
        ("bert", {"steps": 3}),
    ],
    ids=str,
)
def test_weights_that_are_not_finite_are_an_error(name: str, options: dict):
    variables = built(name)[1]
    draw(name, variables, options)
    for bad in (jnp.nan, jnp.inf):
        broken = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(bad), variables)  # noqa: B023
        with pytest.raises(NonFiniteError, match=r"samples 0 to 3 .* weights are not finite") as caught:
            draw(name, broken, options)
        assert "checkpoint" in caught.value.hint


@pytest.mark.parametrize("name", ["gpt", "bert"])
def test_logits_that_overflow_are_an_error(name: str):
    """The weights are finite, their products are not."""
    variables = built(name)[1]
    huge = jax.tree.map(lambda x: x + 1e38, variables)
    with pytest.raises(NonFiniteError, match="logits are not finite"):
        draw(name, huge, {"temperature": 0} if name == "gpt" else {"steps": 3})


@pytest.mark.parametrize("policy", [Truncation(), Truncation(temperature=0)], ids=str)
def test_tokens_after_logits_that_are_not_finite_have_no_probability(policy: Truncation):
    decoder, variables = gpt_decoder()
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), variables)
    keys = jax.random.split(jax.random.key(0), 3)
    pieces = stream(decoder, broken, keys, PROMPTS, length=3, policy=policy)
    assert np.isnan(next(pieces).log_probs).all()


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64 + 3])
def test_a_seed_that_would_wrap_is_refused(seed: int):
    with pytest.raises(ConfigError, match="seed"):
        Sampler(built("gpt")[0], None, batch=4, seed=seed)


def test_large_seeds_differ():
    seeds = (0, 2**31, 2**32 - 1)
    samplers = [Sampler(built("gpt")[0], None, batch=4, seed=seed) for seed in seeds]
    keys = [jax.random.key_data(s.arguments(np.arange(4), {})[0]) for s in samplers]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 12


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5},
        {"temperature": 0},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.1},
        {"typical_p": 0.5},
        {"frequency_penalty": 1.0},
        {"presence_penalty": 1.0},
    ],
    ids=str,
)
def test_a_search_refuses_what_it_does_not_use(options: dict):
    with pytest.raises(ConfigError, match=next(iter(options))):
        draw("gpt", built("gpt")[1], {"beams": 2, **options})


@pytest.mark.parametrize("options", [{"min_length": 3}, {"pad": 2}, {"stop": 1, "min_length": 99}], ids=str)
def test_ends_that_rows_do_not_have_are_refused(options: dict):
    with pytest.raises(ConfigError, match=list(options)[-1]):
        draw("gpt", built("gpt")[1], options)


def test_a_length_penalty_without_a_search_is_refused():
    with pytest.raises(ConfigError, match="length_penalty"):
        draw("gpt", built("gpt")[1], {"length_penalty": 0.5})


def test_a_search_counts_what_was_read_and_drawn():
    """A penalty that forbids repetition: no token of the prompt or the row comes while others are left."""
    out = beam_search(*gpt_decoder(), PROMPTS[:2], beams=3, length=2, repetition_penalty=1e6)
    for prompt, rows in zip(np.asarray(PROMPTS), np.asarray(out.tokens), strict=False):
        for row in rows[:1].tolist():
            assert not set(row) & set(prompt.tolist())
            assert len(set(row)) == 2
    with pytest.raises(ConfigError, match="repetition_penalty"):
        beam_search(*gpt_decoder(), PROMPTS, beams=2, length=2, repetition_penalty=0.0)


@pytest.mark.parametrize("name", ["repetition_penalty", "frequency_penalty", "presence_penalty", "beams"])
def test_a_draft_refuses_by_name(name: str):
    keys = jax.random.split(jax.random.key(0), 3)
    with pytest.raises(ConfigError, match=name):
        speculative.generate(*gpt_decoder(), *gpt_decoder(), keys, PROMPTS, length=2, **{name: 2})
