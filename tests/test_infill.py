"""A gap in a text is filled by models that read both sides of it, and refused by name otherwise."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from genjax import cli, settings
from genjax.workflows import train
from genjax.workflows.assemble import Trained, restore

QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("masked")
    config = settings.load("shakespeare/masked:smoke", QUIET)
    train.train(settings.complete(config), directory, devices=jax.devices()[:1])
    return restore(directory)


def test_a_gap_is_filled_between_prompt_and_suffix(run: Trained, capsys: pytest.CaptureFixture[str]):
    tokenizer = run.experiment.dataset.tokenizer
    assert tokenizer is not None
    flags = ("--prompt=ab", "--gap=3", "--suffix=cd", "--num=2", f"--out={run.directory}/filled")
    assert cli.main(["sample", str(run.directory), *flags]) == 0
    rows = np.load(run.directory / "filled.npz")["tokens"]
    assert rows.shape == (2, 7)  # the row ends behind the suffix
    for row in rows:
        assert tokenizer.decode(row[:2]) == "ab"
        assert tokenizer.decode(row[-2:]) == "cd"
        assert run.experiment.model.mask not in row


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--suffix=cd",), "--suffix follows a gap"),
        (("--gap=0",), "--gap"),
        (("--gap=2", "--suffix="), "--suffix is empty"),
        (("--gap=2", "--stop=x"), "--gap is filled all at once"),
        (("--gap=5", "--sample.length=2"), "a prompt of 5 tokens"),
    ],
)
def test_a_gap_that_cannot_be_filled(
    run: Trained, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["sample", str(run.directory), "--num=1", *flags]) != 0
    assert message in capsys.readouterr().err


def test_a_model_that_reads_forwards_is_refused(tmp_path, capsys: pytest.CaptureFixture[str]):
    config = settings.load("pydoc/gpt:smoke", QUIET)
    train.train(settings.complete(config), tmp_path, devices=jax.devices()[:1])
    assert cli.main(["sample", str(tmp_path), "--gap=2", "--num=1"]) != 0
    assert "'gpt' does not fill gaps" in capsys.readouterr().err
