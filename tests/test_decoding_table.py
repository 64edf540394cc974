"""The table of docs/guides/decoding.md: every cell is tried; what is not honoured is refused by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoders import PROMPTS, V, ngram_decoder

from genjax.core import Element, Model, Spec, Variables
from genjax.errors import ConfigError
from genjax.models import bert, gpt
from genjax.sampling import constraints, speculative, stops
from genjax.sampling.rows import sampler
from genjax.sampling.sampler import Sampler
from genjax.views.sequences import Sequence

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "decoding.md"
MODES = ("sampling", "beams", "speculative", "masked")
TEXT = Spec({"tokens": Element((9,), "int32", V, "tokens", "target")}, None, {"mask": 5})
GRID = Spec(
    {
        "image": Element((2, 2, 1), "uint8", 4, "image", "target"),
        "label": Element((), "int32", 3, "label", "condition"),
    }
)
PIECES = (b"a", b"ab", b"b\n", b"\nx", b"\n", b"x")

VALUES: dict[str, Any] = {
    "temperature": 0.2,
    "top_k": 1,
    "top_p": 0.2,
    "min_p": 0.9,
    "typical_p": 0.2,
    "repetition_penalty": 20.0,
    "frequency_penalty": 20.0,
    "presence_penalty": 20.0,
    "guidance": 9.0,
    "length": 6,
    "min_length": 3,
    "stop": (0, 3),
    "stop (text)": stops.stop("b\nx", PIECES),
    "pad": 4,
    "constraint": constraints.words(["xx", "ab\n"], PIECES),
    "length_penalty": 20.0,
    "draft_length": 1,
    "steps": 1,
    "schedule": "linear",
    "revisit": True,
    "choice": 0.0,
}
"""A value of each option that is far from its default."""
BESIDE: dict[str, dict[str, Any]] = {
    "min_length": {"stop": (0, 1, 2, 3)},
    "pad": {"stop": (0, 1, 3)},
    "length_penalty": {"stop": (0, 1, 3)},
    "schedule": {"steps": 4},
}
"""Options without which another one has no meaning."""


def table() -> dict[tuple[str, str], str]:
    """{(option, mode): "honoured" or "refused"} as the guide states it."""
    lines = iter(GUIDE.read_text("utf-8").splitlines())
    header = f"| option | {' | '.join(MODES)} |"
    assert header in lines, "the guide has no table of options"
    next(lines)
    cells = {}
    for line in lines:
        if not line.startswith("|"):
            break
        option, *said = (part.strip().replace("`", "") for part in line.strip("|").split("|"))
        cells |= {(option, mode): word for mode, word in zip(MODES, said, strict=True)}
    return cells


@functools.cache
def built(module: Any, labelled: bool = False) -> tuple[Model, Variables]:
    """A model with enlarged weights, so that its distributions are far from uniform."""
    spec = GRID if labelled else TEXT
    model = module.build(module.Config(layers=1, heads=2, width=16), spec, {})
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 8 if x.ndim > 1 else x, variables.params)
    return model, variables.replace(params=params)


@functools.cache
def trigrams() -> tuple[Model, Variables]:
    """A model that compiles quickly."""
    decoder, variables = ngram_decoder()
    model = Model(init=lambda *_: variables, phases={}, sample=sampler(decoder, Sequence.of(TEXT)))
    return model, variables


def rows(module: Any, prompt: Any, **options: Any) -> list[np.ndarray]:
    model, variables = trigrams() if "tokens" in prompt else built(module, "label" in prompt)
    out = Sampler(model, None, batch=3, given=options).draw(variables, 3, given=prompt)
    return [out[name] for name in sorted(out) if name not in prompt or name == "tokens"]


def drafted(**options: Any) -> list[np.ndarray]:
    keys = jax.random.split(jax.random.key(0), 3)
    both = (*ngram_decoder(), *ngram_decoder(length=24))
    out = speculative.generate(*both, keys, PROMPTS, **{"length": 5, **options})
    return [np.asarray(out.tokens), np.asarray(out.lengths)]


def drawing(mode: str, option: str) -> Callable[..., list[np.ndarray]]:
    """A function of options that draws in a mode, on data for which the option has a meaning."""
    prompt = {"label": jnp.arange(3)} if option == "guidance" else {"tokens": PROMPTS}
    if mode == "speculative":
        return drafted
    if mode == "masked":
        return functools.partial(rows, bert, {})
    return functools.partial(rows, gpt, prompt, **({"beams": 3} if mode == "beams" else {}))


@functools.cache
def usual(mode: str, labelled: bool, beside: tuple[tuple[str, Any], ...]) -> list[np.ndarray]:
    """What a mode draws without the option; many cells share it."""
    return drawing(mode, "guidance" if labelled else "")(**dict(beside))


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_table_has_every_option_and_every_cell():
    samplers = (built(gpt)[0].sample, built(bert)[0].sample)
    kinds = [p for sample in samplers for p in inspect.signature(sample).parameters.values()]
    known = {p.name for p in kinds if p.kind is p.KEYWORD_ONLY} - {"beams"}
    cells = table()
    assert {option for option, _ in cells} == known | {"stop (text)", "draft_length"} == set(VALUES)
    assert set(cells.values()) == {"honoured", "refused"}


@pytest.mark.parametrize("option", VALUES)
@pytest.mark.parametrize("mode", MODES)
def test_a_cell_of_the_table_is_true(mode: str, option: str):
    draw = drawing(mode, option)
    name = option.removesuffix(" (text)")
    given = {name: VALUES[option]}
    beside = BESIDE.get(option, {})
    if table()[option, mode] == "honoured":
        plain = usual(mode, option == "guidance", tuple(beside.items()))
        assert not same(draw(**beside, **given), plain)
        return
    with pytest.raises(ConfigError, match=name):
        draw(**given)
