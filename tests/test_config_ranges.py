"""Every field of every section refuses nonsense with one clear line, and never with a traceback."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from genjax import settings
from genjax.errors import ConfigError

CONFIGS = ("digits/gpt", "digits/vae", "digits/diffusion", "digits/gan", "pydoc/t5", "pydoc/rnn")
SECTIONS = ("data", "model", "optimizer", "train", "evaluate")
WRONG: tuple[Any, ...] = (math.nan, math.inf, -1e300, 10**30, {"a": 1}, [{}], "(", -7, 0, [1, [2]])


def with_field(raw: dict, section: str, field: str, value: Any) -> dict:
    out = copy.deepcopy(raw)
    out[section][field] = value
    return out


def refusal(raw: dict) -> str | None:
    """Return the message of the ConfigError; None if the config is accepted."""
    try:
        settings.complete(raw)
    except ConfigError as error:
        return error.message
    return None


@pytest.mark.parametrize("name", CONFIGS)
def test_no_value_of_any_field_gives_a_traceback(name: str):
    raw = settings.complete(settings.load(name)).raw
    for section in SECTIONS:
        for field in raw[section]:
            for value in WRONG:
                if refusal(with_field(raw, section, field, value)) is None:
                    assert value not in (math.inf, -1e300, 10**30), f"{section}.{field}={value!r}"
                    assert value == value, f"{section}.{field}={value!r}"


@pytest.mark.parametrize(
    "override",
    [
        "model=5",
        'model.name=["gpt"]',
        "optimizer=adam",
        "optimizers=5",
        "seed=abc",
        "seed=1.7",
        'stages=["a"]',
        "model.heads=0",
        "model.width=0",
        "model.layers=-1",
        "model.dropout=2",
        "train.freeze=(",
        "train.init_match=(",
        'train.sharding=[["(", [None]]]',
        'train.sharding=[["a", ["foo"]]]',
        "train.averages.eval.half_life=-1",
        "train.eval_batches=0",
        "train.profile=[5,1]",
        "optimizer.learning_rate=-1",
        "optimizer.b2=2",
        "optimizer.clip=-1",
        "optimizers.model.clip=-1",
        "evaluate.k=100000",
        "name=../up",
    ],
)
def test_nonsense_is_refused_with_the_name_of_the_field(override: str):
    with pytest.raises(ConfigError) as caught:
        settings.complete(settings.load("digits/gpt", [override]))
    message = caught.value.message
    assert "\n" not in message
    assert override.partition("=")[0].split(".")[-1] in message


def test_whole_floats_are_integers():
    assert settings.complete(settings.load("digits/gpt", ["model.width=128.0"])).model.width == 128
