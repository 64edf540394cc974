"""A model that does not read a condition of the data says so when training starts."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
from test_data_sources import make_folder, write_captions

from genjax import settings
from genjax.core import Element
from genjax.workflows import assemble, conditions, train


def experiment(config: str, *overrides: str) -> assemble.Experiment:
    return assemble.assemble(settings.complete(settings.load(f"{config}:smoke", overrides)))


def ignored(config: str, *overrides: str) -> tuple[str, ...]:
    e = experiment(config, *overrides)
    return conditions.ignored(e.model, assemble.shapes(e), e.dataset.spec)


@pytest.mark.parametrize("name", ["ngram", "vae", "gan", "gpt", "lstm", "diffusion", "classifier"])
def test_the_label_is_read(name: str):
    """By gradients, by counts in the state, through nested jit and custom derivatives."""
    assert ignored(f"digits/{name}") == ()


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_an_unconditional_model_ignores_the_label(name: str):
    assert ignored(f"digits/{name}", "model.conditional=False") == ("label",)


def test_a_condition_that_only_some_phase_reads_is_read():
    e = experiment("digits/gan")
    without = experiment("digits/gan", "model.conditional=False").model
    mixed = e.model.phases | {"discriminator": without.phases["discriminator"]}
    shapes = assemble.shapes(e)
    assert conditions.ignored(e.model.replace(phases=mixed), shapes, e.dataset.spec) == ()


def test_a_mask_of_a_condition_is_not_named():
    e = experiment("digits/vae")
    extra = {"given": Element((4,), "float32", role="condition")}
    spec = dataclasses.replace(e.dataset.spec, elements={**e.dataset.spec.elements, **extra})
    assert conditions.ignored(e.model, assemble.shapes(e), spec) == ()


def test_training_on_captions_says_that_they_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    root = make_folder(tmp_path / "pictures")
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
    write_captions(root, [{"file_name": name, "text": "a picture"} for name in names])
    monkeypatch.setattr(logging.getLogger("genjax"), "propagate", True)
    with caplog.at_level(logging.INFO, "genjax"):
        train.check(experiment("digits/diffusion", f"data.name=folder:{root}", "data.length=8"))
    lines = [r.getMessage() for r in caplog.records if "does not read" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("model diffusion does not read the condition 'caption' of ")
