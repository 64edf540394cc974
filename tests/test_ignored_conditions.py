"""A model that does not read a condition of the data says so when training starts."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from test_data_sources import make_folder, write_captions

from genjax import settings
from genjax.core import Aux, Element, Mean, Model, Phase, Spec, Variables
from genjax.workflows import assemble, planned
from genjax.workflows.ignored import conditions


def experiment(config: str, *overrides: str) -> assemble.Experiment:
    return assemble.assemble(settings.complete(settings.load(f"{config}:smoke", overrides)))


def ignored(config: str, *overrides: str) -> tuple[str, ...]:
    e = experiment(config, *overrides)
    return conditions(e.model, assemble.shapes(e), e.dataset.spec)


@pytest.mark.parametrize("name", ["ngram", "vae", "gan", "gpt", "lstm", "diffusion", "classifier"])
def test_the_label_is_read(name: str):
    """By gradients, by counts in the state, through nested jit and custom derivatives."""
    assert ignored(f"digits/{name}") == ()


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_an_unconditional_model_ignores_the_label(name: str):
    assert ignored(f"digits/{name}", "model.conditional=False") == ("label",)


def test_a_batch_that_fills_packs_is_traced():
    planned.name_ignored(experiment("digits/gan", "model.conditional=False", "model.pack=4"))


SPEC = Spec(
    {
        "image": Element((2,), "float32", kind="point", role="target"),
        "label": Element((), "int32", 3, "label", "condition"),
    }
)


def toy(*objectives) -> tuple[str, ...]:
    """Return what a model with one phase for each of these objectives ignores."""
    phases = {f"phase_{n}": Phase("model", each) for n, each in enumerate(objectives)}
    model = Model(init=lambda *_: Variables(), phases=phases)
    return conditions(model, Variables(state={"counts": jnp.zeros(3)}), SPEC)


def blind(variables, batch, keys, *, step):
    return Mean.of(batch["image"]), Aux(variables.state)


def counting(variables, batch, keys, *, step):
    counts = variables.state["counts"].at[batch["label"]].add(1)
    return Mean.of(batch["image"]), Aux({"counts": counts})


def handing_on(variables, batch, keys, *, step):
    image, _ = jax.jit(lambda image, label: (2 * image, label + 1))(batch["image"], batch["label"])
    return Mean.of(image), Aux(variables.state)


def looping(variables, batch, keys, *, step):
    total = jax.lax.fori_loop(0, 3, lambda _, x: x + batch["label"], jnp.zeros(2, jnp.int32))
    return Mean.of(total.astype(jnp.float32)), Aux(variables.state)


def test_what_counts_as_reading():
    assert toy(blind) == ("label",)
    assert toy(counting) == (), "the next state depends on it"
    assert toy(looping) == ()
    assert toy(handing_on) == ("label",), "it is an argument, and nothing that is used depends on it"
    assert toy(blind, looping) == toy(looping, blind) == (), "one phase is enough"


def test_a_mask_of_a_condition_is_not_named():
    e = experiment("digits/vae")
    extra = {"given": Element((4,), "float32", role="condition")}
    spec = dataclasses.replace(e.dataset.spec, elements={**e.dataset.spec.elements, **extra})
    assert conditions(e.model, assemble.shapes(e), spec) == ()


def test_training_on_captions_says_that_they_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    root = make_folder(tmp_path / "pictures")
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    write_captions(root, [{"file_name": name, "text": "a picture"} for name in names])
    monkeypatch.setattr(logging.getLogger("genjax"), "propagate", True)
    with caplog.at_level(logging.INFO, "genjax"):
        planned.name_ignored(experiment("digits/diffusion", f"data.name=folder:{root}", "data.length=8"))
    lines = [r.getMessage() for r in caplog.records if "does not read" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("model diffusion does not read the condition 'caption' of ")
