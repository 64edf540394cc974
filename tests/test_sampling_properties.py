"""The properties of samplers fail for samplers that break them, and hold for one that does not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
import sampling_properties as properties

from genjax import data
from genjax.core import Aux, Mean, Model, Phase, Variables
from genjax.sampling.sampler import Sampler


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load(name="digits", limit=50)


def model(sample: Any) -> Model:
    def objective(v: Variables, batch: Any, keys: Any, *, step: Any) -> tuple[Mean, Aux]:
        return Mean.of(jnp.zeros(len(batch["mask"])), batch["mask"]), Aux(v.state)

    return Model(lambda key, batch, frozen: Variables({"p": {}}), {"p": Phase("p", objective)}, sample=sample)


def image(noise: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    value = (noise * 5 + label[:, None, None, None]) % 17
    return {"image": value.astype(jnp.uint8)}


def noise(keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.uniform(key, (8, 8, 1)))(keys)


def good(v: Variables, keys: jax.Array, prompt: Any) -> dict[str, jax.Array]:
    return image(noise(keys), prompt["label"])


def ignores_key(v: Variables, keys: jax.Array, prompt: Any) -> dict[str, jax.Array]:
    return image(jnp.ones((len(keys), 8, 8, 1)), prompt["label"])


def ignores_prompt(v: Variables, keys: jax.Array, prompt: Any) -> dict[str, jax.Array]:
    return image(noise(keys), jnp.zeros(len(keys), jnp.int32))


def looks_across(v: Variables, keys: jax.Array, prompt: Any) -> dict[str, jax.Array]:
    x = noise(keys)
    return image(x - x.mean(0, keepdims=True) + 1, prompt["label"])


def check(dataset: data.Dataset, sample: Any) -> None:
    m = model(sample)
    draw = properties.drawing(m, dataset, Variables({"p": {}}), {})
    properties.assert_form(dataset, draw(0))
    properties.assert_depends_on_key(draw, dataset, m.deterministic)
    properties.assert_depends_on_prompt(draw, dataset)
    properties.assert_rows_alone(
        draw, properties.drawing(m, dataset, Variables({"p": {}}), {}, batch=2), dataset
    )
    properties.assert_compiles_once(draw)


def test_a_good_sampler_passes(dataset: data.Dataset):
    check(dataset, good)


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (ignores_key, "own key"),
        (ignores_prompt, "ignores its prompt"),
        (looks_across, "depends on the batch"),
    ],
)
def test_a_broken_sampler_fails(dataset: data.Dataset, sample: Any, says: str):
    with pytest.raises(AssertionError, match=says):
        check(dataset, sample)


def test_a_sampler_that_compiles_twice_fails(dataset: data.Dataset):
    def draw(seed: int = 0, conditions: Any = None) -> Any:
        fresh = Sampler(model(lambda *args: good(*args)), dataset, batch=4, seed=seed)
        return fresh.draw(Variables({"p": {}}), 4, given=conditions)

    with pytest.raises(AssertionError, match="compiled again"):
        properties.assert_compiles_once(draw)


def test_samples_of_weights_that_are_nan_fail(dataset: data.Dataset):
    variables = Variables({"p": {"scale": jnp.ones(2)}})
    sampler = Sampler(model(good), dataset, batch=4)
    properties.assert_refuses_nan(lambda v: sampler.draw(v, 4), variables)
    with pytest.raises(AssertionError, match="NaN"):
        properties.assert_refuses_nan(lambda v: sampler.draw(variables, 4), variables)
