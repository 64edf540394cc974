"""Test the path from a user's words to samples of text: prompts, stops, constraints and streaming."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from genjax import cli, commands, settings
from genjax.errors import ConfigError, DataError, NonFiniteError
from genjax.models import gpt, t5
from genjax.workflows import directory, sample, text, train
from genjax.workflows.assemble import Trained, restore

QUIET = ("train.progress=False", "train.tensorboard=False", "train.compilation_cache=False")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("prompting-é→")
    config = settings.load("pydoc/gpt:smoke", (*QUIET, "model.position=rope"))
    train.train(settings.complete(config), directory, devices=jax.devices()[:1])
    return restore(directory)


def _prompt(trained: Trained, words: str, num: int) -> dict[str, Any]:
    given = sample.conditions(trained.experiment.dataset, num, 0, {"prompt": words})
    assert given is not None
    return given


def _stream(trained: Trained, given: dict, start: dict, seed: int) -> list[str]:
    options = {**trained.experiment.settings.sample, **given}
    return list(text.stream(trained, options, start, seed=seed))


def _text(trained: Trained, rows: dict, i: int = 0) -> str:
    tokens = rows["tokens"][i]
    tokenizer = trained.experiment.dataset.tokenizer
    assert tokenizer is not None
    return tokenizer.decode(tokens[: rows.get("length", [None] * 9)[i]])


@pytest.mark.parametrize("given", [{}, {"top_k": 20, "temperature": 0.7}, {"length": 33}])
def test_a_stream_is_the_sample_in_pieces(trained: Trained, given: dict):
    start = _prompt(trained, "The ", 1)
    rows = sample.draw(trained, 1, conditions=start, options=given, seed=5)
    pieces = _stream(trained, given, start, 5)
    assert "The " + "".join(pieces) == _text(trained, rows)
    assert len(pieces) > 1


def test_a_constrained_stream_matches(trained: Trained):
    limits = text.constraint(trained.experiment.dataset, regex="[ab]{3}-[0-9]{2}")
    for seed in range(3):
        written = "".join(_stream(trained, {"constraint": limits}, {}, seed))
        assert re.fullmatch("[ab]{3}-[0-9]{2}", written)


def test_a_stop_ends_a_sample(trained: Trained):
    dataset = trained.experiment.dataset
    start = _prompt(trained, "a", 6)
    free = sample.draw(trained, 6, conditions=start, options={"length": 100}, seed=0)["tokens"]
    token = int(free[0, 50])
    rows = sample.draw(trained, 6, conditions=start, options={"length": 100, "stop": token}, seed=0)
    for drawn, stopped, length in zip(free, rows["tokens"], rows["length"], strict=True):
        ends = np.flatnonzero(drawn[1:] == token)
        assert length == (ends[0] + 2 if len(ends) else 100)
        np.testing.assert_array_equal(stopped[:length], drawn[:length])
    assert rows["length"][0] <= 51
    assert text.stop(dataset, ["\\n"]) == (10,)


def test_impossible_requests_are_refused_by_name(trained: Trained, tmp_path: Path):
    dataset = trained.experiment.dataset
    with pytest.raises(ConfigError, match="give one"):
        text.constraint(dataset, regex="a", words="b")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        text.constraint(dataset, schema=str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match="empty"):
        _prompt(trained, "", 1)
    with pytest.raises(ConfigError, match="no condition of this sort"):
        sample.conditions(dataset, 1, 0, {"label": "3"})
    with pytest.raises(ConfigError, match="a prompt of 40 tokens"):
        _stream(trained, {}, _prompt(trained, "a" * 40, 1), 0)
    limits = text.constraint(dataset, regex="a{200}")
    with pytest.raises(ConfigError, match="200"):
        _stream(trained, {"constraint": limits}, {}, 0)


def test_the_command_writes_json_and_streams(trained: Trained, capsys: pytest.CaptureFixture[str]):
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    out = trained.directory / "made"
    command = ["sample", str(trained.directory), "--num", "2", "--json-schema", schema, "--out", str(out)]
    assert cli.main([*command, "--sample.length=40"]) == 0
    for written in out.with_suffix(".txt").read_text().split("\n\n---\n\n"):
        assert isinstance(json.loads(written)["n"], int)
    capsys.readouterr()
    assert cli.main(["sample", str(trained.directory), "--prompt", "Hello", "--stream", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Hello")
    rows = sample.draw(trained, 1, conditions=_prompt(trained, "Hello", 1), seed=3)
    assert said.rstrip("\n") == _text(trained, rows).rstrip("\n")


def test_a_pair_is_prompted_by_its_source():
    from genjax.core import Element, Spec
    from genjax.data.dataset import Dataset, Split
    from genjax.data.rows import Arrays
    from genjax.data.tokenizers import Options, fit

    tokenizer = fit("bytes", "", Options(marks=("pad", "eos")))
    special = dict(tokenizer.special)
    text_ = Element((6,), "int32", tokenizer.vocabulary, "tokens", "condition")
    elements = {
        "source": text_,
        "source_length": Element((), "int32", role="condition"),
        "target": text_.replace(role="target"),
    }
    columns = {"source": np.zeros((2, 6), np.int32), "source_length": np.ones(2, np.int32)}
    rows = Arrays({**columns, "target": columns["source"]})
    dataset = Dataset(
        "pairs",
        Spec(elements, 2, special, paired=True),
        Split("train", rows),
        Split("eval", rows),
        "",
        tokenizer,
    )
    made = sample.conditions(dataset, 2, 0, {"prompt": "abc"})
    assert made is not None
    assert made["source"].tolist() == [[*b"abc", special["eos"], special["pad"], special["pad"]]] * 2
    assert made["source_length"].tolist() == [4, 4]
    assert "target" not in made
    with pytest.raises(ConfigError, match="7 tokens"):
        sample.conditions(dataset, 1, 0, {"prompt": "abcdef"})


@pytest.mark.parametrize("stop", [" ", "\\n\\t"])
def test_a_streamed_stop_is_that_of_the_sample(trained: Trained, stop: str):
    dataset = trained.experiment.dataset
    start = _prompt(trained, "The ", 1)
    rows = sample.draw(trained, 1, conditions=start, options={"length": 60}, seed=0)
    free = _text(trained, rows)
    held = re.findall(r"[ -\[\]-~]{2}", free)[4]
    wanted = [text.stop_text(stop), held]
    given = {**trained.experiment.settings.sample, "length": 60}
    given["stop"] = text.stop(dataset, [stop, held], "The ")
    expected = free[: min(free.find(w, 4) + len(w) for w in wanted if w in free[4:])]
    rows = sample.draw(trained, 1, conditions=start, options=given, seed=0)
    row = rows["tokens"][0, : rows["length"][0]]
    assert text.cut(dataset, [stop, held], "The ").tokenizer.decode(row) == expected
    pieces = text.stream(trained, given, start, seed=0, stop=[stop, held])
    assert text.begun(dataset, start) + "".join(pieces) == expected


def _untrained(trained: Trained, module: Any, config: Any) -> Trained:
    """The run with another model and its first weights."""
    spec = trained.experiment.dataset.spec
    model = module.build(config, spec, {})
    experiment = dataclasses.replace(trained.experiment, model=model)
    variables = jax.jit(lambda key: model.init(key, spec.example(1), {}))(jax.random.key(0))
    return dataclasses.replace(trained, experiment=experiment, variables=variables)


@pytest.mark.parametrize(
    "given",
    [{"length": 4000}, {"length": 3}, {"temperature": 1e-40}, {"stop": 10**6}, {"length_penalty": 2.0}],
    ids=str,
)
def test_a_stream_refuses_what_the_sampler_refuses(trained: Trained, given: dict):
    short = _untrained(trained, gpt, gpt.Config(layers=1, heads=2, width=16))
    start = _prompt(trained, "abcd", 1)
    with pytest.raises(ConfigError) as streamed:
        list(text.stream(short, given, start))
    with pytest.raises(ConfigError) as whole:
        sample.draw(short, 1, conditions=start, options=given)
    assert streamed.value.message == whole.value.message


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_stream_of_weights_that_are_nan_is_an_error(trained: Trained, temperature: float):
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), trained.variables.params)
    diverged = dataclasses.replace(trained, variables=trained.variables.replace(params=broken, ema={}))
    with pytest.raises(NonFiniteError, match="not finite"):
        list(text.stream(diverged, {"temperature": temperature}, {}, average="none"))


def test_a_prompt_that_fills_the_row_streams_nothing(trained: Trained):
    start = _prompt(trained, "abcd", 1)
    assert list(text.stream(trained, {"length": 4}, start)) == []
    rows = sample.draw(trained, 1, conditions=start, options={"length": 4})
    assert _text(trained, rows) == text.begun(trained.experiment.dataset, start) == "abcd"


def test_what_is_not_drawn_token_by_token_is_not_streamed(trained: Trained):
    text.check_streams(trained, {"top_k": 3})
    for name, value in {"beams": 2, "guidance": 2.0, "top_k": "many"}.items():
        with pytest.raises(ConfigError, match=name):
            text.check_streams(trained, {name: value})
    config = t5.Config(layers=1, heads=2, width=16)
    with pytest.raises(ConfigError, match="--stream"):
        text.check_streams(_untrained(trained, t5, config), {})


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--stream", "--num=3"], "--num"),
        (["--stream", "--out=x"], "--out"),
        (["--stop=a", "--sample.stop=3"], "--stop"),
        (["--stop="], "--stop"),
        (["--stop=a", "--stop=\\q"], "--stop"),
        (["--num=0"], "--num"),
    ],
    ids=str,
)
def test_flags_without_effect_are_refused(trained: Trained, flags: list[str], name: str, capsys: Any):
    assert cli.main(["sample", str(trained.directory), *flags]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("flags", [["--stream"], []], ids=["streamed", "whole"])
def test_a_terminal_that_lacks_characters_gets_replacements(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, encoding: str, flags: list[str]
):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding, write_through=True))
    out = [] if flags else ["--num=1", f"--out={trained.directory / 'shown'}"]
    # A byte of the command line that is no UTF-8 arrives as a surrogate.
    assert cli.main(["sample", str(trained.directory), "--prompt=a\udcff→b", *flags, *out]) == 0
    if flags:
        assert written.getvalue().startswith(b"a??b")
    else:
        assert (trained.directory / "shown.txt").read_text("utf-8").startswith("a\N{REPLACEMENT CHARACTER}→b")


@pytest.mark.parametrize("verb", cli.PREFIXES)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_verb_prints_to_a_terminal_that_lacks_characters(
    monkeypatch: pytest.MonkeyPatch, verb: str, encoding: str
):
    def run(args: Any, overrides: Any) -> int:
        print("a→\udcff")
        return 0

    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding, write_through=True))
    monkeypatch.setattr(commands, "run", run)
    given = {"train": ["--config=x"], "sweep": ["--config=x"], "compare": [], "export": ["x", "y"]}
    given |= {"latent": ["map", "x"], "edit": ["vary", "x"]}
    assert cli.main([verb, *given.get(verb, ["x"])]) == 0
    assert written.getvalue() == b"a??\n"


@pytest.mark.parametrize("verb", ["config", "report"])
def test_paths_are_printed_with_replacements(trained: Trained, monkeypatch: pytest.MonkeyPatch, verb: str):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii", write_through=True))
    given = {"config": ["pydoc/gpt:smoke", "--config.data.name=text:é→"], "report": [str(trained.directory)]}
    assert cli.main([verb, *given[verb]]) == 0
    assert b"??" in written.getvalue()


def test_a_directory_that_is_no_unicode_text_is_refused_at_once(tmp_path: Path, capsys: Any):
    assert cli.main(["train", "--config=pydoc/gpt:smoke", f"--dir={tmp_path}/a\udcff"]) == 2
    assert "no Unicode text" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no Unicode text"):
        directory.create(tmp_path / "a\udcff")
    assert not list(tmp_path.iterdir())


def test_a_process_with_an_ascii_terminal(trained: Trained):
    command = [sys.executable, "-m", "genjax.cli", "sample", str(trained.directory), "--stream", "--stop=\\n"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    given = [*(part.encode() for part in command), b"--prompt=a\xff\xe2\x86\x92b"]
    done = subprocess.run(given, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"a??b")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**32), str(2**70)])
@pytest.mark.parametrize("flags", [["--stream"], ["--num=1"]], ids=["streamed", "whole"])
def test_a_seed_out_of_range_is_refused(trained: Trained, flags: list[str], seed: str, capsys: Any):
    assert cli.main(["sample", str(trained.directory), f"--seed={seed}", *flags]) == 2
    said = capsys.readouterr().err
    assert "--seed" in said
    assert "Traceback" not in said
