"""A seed has 32 bits in every command; a negative or larger one is refused, also if it is counted up to."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from genjax import settings
from genjax.errors import ConfigError
from genjax.workflows import entries
from genjax.workflows.sweep import plan

LARGEST = 2**32 - 1
FIELDS = ("seed", "data.seed", "evaluate.seed")


@pytest.mark.parametrize("seed", [-1, LARGEST + 1, 2**64 + 3, 1.5])
@pytest.mark.parametrize("field", FIELDS)
def test_a_seed_of_a_config_is_within_32_bits(field: str, seed: float):
    with pytest.raises(ConfigError, match=field):
        settings.complete(settings.load("digits/gpt:smoke", [f"{field}={seed}"]))


@pytest.mark.parametrize("field", FIELDS)
def test_the_largest_seed_is_honoured(field: str):
    settings.complete(settings.load("digits/gpt:smoke", [f"{field}={LARGEST}"]))
    keys = [jax.random.key_data(jax.random.key(seed)) for seed in (LARGEST, 2**31, 0)]
    assert len(np.unique(np.stack(keys), axis=0)) == 3


@pytest.mark.parametrize("seed", [-1, LARGEST + 1])
def test_a_seed_of_a_comparison_is_within_32_bits(seed: int):
    with pytest.raises(ConfigError, match="seed"):
        entries.read("compare/digits:smoke", [f"seed={seed}"])


def test_the_last_seed_of_a_comparison_is_within_32_bits():
    config = entries.read("compare/digits:smoke", [f"seed={LARGEST}", "seeds=2"])
    with pytest.raises(ConfigError, match="seed"):
        entries.trainings(config, next(iter(config.entries)))


def test_the_last_seed_of_a_sweep_is_within_32_bits():
    for field in FIELDS[:2]:
        raw = settings.load("digits/gpt:smoke", [f"{field}={LARGEST}"])
        made = plan.make("digits/gpt:smoke", raw, lists=["model.width=8,16"], seeds=2)
        first, last = made.points[0], made.points[-1]
        made.settings_of(first)
        with pytest.raises(ConfigError, match=field):
            made.settings_of(last)
