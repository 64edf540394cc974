"""`genjax config`: every field, its value and its description."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from genjax import cli, data, evaluation, settings, training
from genjax.training import optimizers
from genjax.workflows import fields


def sections() -> Iterator[pytest.ParameterSet]:
    for config in (data.Config, training.Config, optimizers.Config, evaluation.Config):
        yield pytest.param(config, id=config.__module__)
    for name in settings.models():
        yield pytest.param(settings.model_module(name).Config, id=name)


@pytest.mark.parametrize("config", [*sections()])
def test_every_field_is_described(config: type):
    texts = fields.attributes(config)
    missing = [field.name for field in dataclasses.fields(config) if not texts.get(field.name)]
    assert not missing
    unknown = set(texts) - {field.name for field in dataclasses.fields(config)}
    assert not unknown


@pytest.mark.parametrize("name", ["digits/latent", "multi30k/t5", "digits/gan"])
def test_the_printed_lines_are_overrides_that_give_the_same_config(name: str, capsys: pytest.CaptureFixture):
    assert cli.main(["config", name, "--config.seed=7"]) == 0
    printed = [line.partition("  # default")[0] for line in capsys.readouterr().out.splitlines()]
    again = settings.complete(
        settings.load("digits/vae", (f"model={{'name': '{_model(printed)}'}}", *printed))
    )
    expected = settings.complete(settings.load(name, ("seed=7",)))
    assert again.raw["data"] == expected.raw["data"]
    assert again.raw["model"] == expected.raw["model"]
    assert again.raw["optimizer"] == expected.raw["optimizer"]
    assert again.raw["train"] == expected.raw["train"]
    assert again.raw["evaluate"] == expected.raw["evaluate"]
    assert again.seed == 7


def _model(printed: list[str]) -> str:
    return next(line for line in printed if line.startswith("model.name=")).partition("=")[2].strip("'")


def test_changed_fields_name_their_default(capsys: pytest.CaptureFixture):
    assert cli.main(["config", "digits/vae", "--config.optimizer.b1=0.5", "--describe"]) == 0
    out = capsys.readouterr().out
    assert "optimizer.b1=0.5  # default 0.9\n" in out
    assert "optimizer.b2=0.999\n" in out
    assert "# updates from 0 to the peak" in out
