"""From the command line's words to samples of text: prompts, stops, constraints, and text as it is drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax import cli, prompting, run, settings
from genjax.errors import ConfigError, DataError

QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> run.Trained:
    directory = tmp_path_factory.mktemp("prompting")
    config = settings.load("pydoc/gpt:smoke", (*QUIET, "model.position=rope"))
    run.train(settings.complete(config), directory, devices=jax.devices()[:1])
    return run.restore(directory)


def _text(trained: run.Trained, rows: dict, i: int = 0) -> str:
    tokens = rows["tokens"][i]
    return trained.experiment.dataset.tokenizer.decode(tokens[: rows.get("length", [None] * 9)[i]])


@pytest.mark.parametrize("given", [{}, {"top_k": 20, "temperature": 0.7}, {"length": 33}])
def test_a_stream_is_the_sample_in_pieces(trained: run.Trained, given: dict):
    start = prompting.prompt(trained.experiment.dataset, "The ", 1)
    rows = run.sampler(trained.experiment, given)(trained.variables.at("eval"), 1, start, 5)
    pieces = list(prompting.stream(trained, given, start, 5))
    assert "The " + "".join(pieces) == _text(trained, rows)
    assert len(pieces) > 1


def test_a_constrained_stream_matches(trained: run.Trained):
    dataset = trained.experiment.dataset
    limits = prompting.constraint(dataset, regex="[ab]{3}-[0-9]{2}")
    start = run.labels(dataset, 1)
    for seed in range(3):
        text = "".join(prompting.stream(trained, {"constraint": limits}, start, seed))
        assert re.fullmatch("[ab]{3}-[0-9]{2}", text)


def test_a_stop_ends_a_sample(trained: run.Trained):
    dataset = trained.experiment.dataset
    start = prompting.prompt(dataset, "a", 6)
    free = run.sampler(trained.experiment, {"length": 100})(trained.variables, 6, start, 0)["tokens"]
    token = int(free[0, 50])
    rows = run.sampler(trained.experiment, {"length": 100, "stop": token})(trained.variables, 6, start, 0)
    for drawn, stopped, length in zip(free, rows["tokens"], rows["length"], strict=True):
        ends = np.flatnonzero(drawn[1:] == token)
        assert length == (ends[0] + 2 if len(ends) else 100)
        np.testing.assert_array_equal(stopped[:length], drawn[:length])
    assert rows["length"][0] <= 51
    with pytest.raises(ConfigError, match="2 tokens"):
        prompting.stop(dataset, "ab")
    assert prompting.stop(dataset, "\\n") == (10,)


def test_what_cannot_be_is_refused_by_name(trained: run.Trained, tmp_path: Path):
    dataset = trained.experiment.dataset
    with pytest.raises(ConfigError, match="give one"):
        prompting.constraint(dataset, regex="a", words="b")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        prompting.constraint(dataset, schema=str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match="empty"):
        prompting.prompt(dataset, "", 1)
    limits = prompting.constraint(dataset, regex="a{200}")
    with pytest.raises(ConfigError, match="200"):
        list(prompting.stream(trained, {"constraint": limits}, run.labels(dataset, 1), 0))


def test_the_command_writes_json_and_streams(trained: run.Trained, capsys: pytest.CaptureFixture[str]):
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    out = trained.directory / "made"
    command = ["sample", str(trained.directory), "--num", "2", "--json-schema", schema, "--out", str(out)]
    assert cli.main([*command, "--sample.length=40"]) == 0
    for text in out.with_suffix(".txt").read_text().split("\n\n---\n\n"):
        assert isinstance(json.loads(text)["n"], int)
    capsys.readouterr()
    assert cli.main(["sample", str(trained.directory), "--prompt", "Hello", "--stream", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Hello")
    start = prompting.prompt(trained.experiment.dataset, "Hello", 1)
    rows = run.sampler(trained.experiment, {})(trained.variables.at("eval"), 1, start, 3)
    assert (
        said.rstrip("\n") == _text(trained, rows).rstrip("\n") or "sample" in trained.experiment.settings.raw
    )


def test_a_pair_is_prompted_by_its_source():
    from genjax.core import Element, Spec
    from genjax.data.dataset import Dataset, Split
    from genjax.data.rows import Arrays
    from genjax.data.tokenizers import Options, fit

    tokenizer = fit("bytes", "", Options(marks=("pad", "eos")))
    special = dict(tokenizer.special)
    elements = {"source": Element((6,), "int32", tokenizer.vocabulary)}
    rows = Arrays({"source": np.zeros((2, 6), np.int32)})
    dataset = Dataset(
        "pairs", Spec(elements, 2, special), Split("train", rows), Split("eval", rows), "", tokenizer
    )
    made = prompting.prompt(dataset, "abc", 2)
    assert made["source"].tolist() == [[*b"abc", special["eos"], special["pad"], special["pad"]]] * 2
    assert made["source_length"].tolist() == [4, 4]
    with pytest.raises(ConfigError, match="7 tokens"):
        prompting.prompt(dataset, "abcdef", 1)
