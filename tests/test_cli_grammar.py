"""The grammar of the command line, and config files that cannot be read: one clear error for each fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genjax import cli, commands, settings

RIGHT: dict[str, list[str]] = {
    "train": ["--config=digits/gpt", "--dir=out", "--config.seed=1"],
    "config": ["digits/gpt", "--config.seed=1"],
    "sample": ["runs/x", "--num=3", "--sample.temperature=1"],
    "evaluate": ["runs/x", "--features=pixels", "--evaluate.k=3", "--sample.temperature=1"],
    "compare": ["--config=compare/digits", "--config.budget.value=3"],
    "sweep": ["--config=digits/vae", "--grid", "model.width=1,2", "--config.seed=1", "--slurm.timeout_min=1"],
    "data": ["digits", "--out=x.png", "--data.limit=3"],
    "import": ["folder", "--dir=out", "--data.length=3"],
    "export": ["runs/x", "out", "--average=none"],
    "report": ["runs/x"],
    "latent": ["map", "runs/x", "--latent.rows=5"],
    "edit": ["vary", "runs/x", "--edit.rows=(5,)"],
}
"""Arguments of every command, in which one fault is then made."""
MANY = ("--grid", "--range")
"""Options that may be given several times."""


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a command that must be refused; return what it says."""
    capsys.readouterr()
    assert cli.main(arguments) in (2, 3)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.rstrip("\n").split("\n")
    assert len(lines) == 2, err
    assert lines[0].startswith("genjax: ")
    assert lines[1].startswith("  hint: ")
    return lines[0]


@pytest.fixture
def unreached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fail if a command is run."""

    def run(args: Any, overrides: Any) -> int:
        raise AssertionError(f"accepted: {args} {overrides}")

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.chdir(tmp_path)


def test_every_command_is_tried():
    assert set(RIGHT) == set(cli.PREFIXES)


@pytest.mark.parametrize("command", RIGHT)
def test_arguments_without_a_fault_reach_the_command(command: str, monkeypatch: pytest.MonkeyPatch):
    reached: list[str] = []
    monkeypatch.setattr(commands, "run", lambda args, overrides: reached.append(args.command) or 0)
    assert cli.main([command, *RIGHT[command]]) == 0
    assert reached == [command]


@pytest.mark.parametrize("command", RIGHT)
def test_options_are_given_once_and_with_a_value(command: str, unreached: None, capsys):
    right = RIGHT[command]
    for at, argument in enumerate(right):
        name, _, value = argument.partition("=")
        if not name.startswith("--") or name in MANY:
            continue
        rest = right[:at] + right[at + 1 :]
        assert name in told(capsys, [command, *right, argument])
        assert name.rpartition(".")[2] in told(capsys, [command, *rest, name])
        if "." not in name:
            said = told(capsys, [command, *rest, f"{name}="])
            assert f"{name} has an empty value" in said or f"{name}: invalid int value" in said
        else:
            section = name.rpartition(".")[0]
            if "." in section:
                assert "set twice" in told(capsys, [command, *right, f"{section}={value}"])
            assert "set twice" in told(capsys, [command, *right, f"{name}.x=1"])
            assert "unknown argument" in told(capsys, [command, *rest, name.replace("--", "--x")])


@pytest.mark.parametrize("command", RIGHT)
def test_arguments_that_are_missing_or_not_known(command: str, unreached: None, capsys):
    right = RIGHT[command]
    needed = [a for a in right if not a.startswith("--") or a.startswith("--config=")]
    optional = command == "compare"  # its config has a default
    for argument in [] if optional else needed:
        if argument == "model.width=1,2":
            continue
        said = told(capsys, [command, *(a for a in right if a != argument)])
        assert "required" in said or (argument in ("map", "vary") and "invalid choice: 'runs/x'" in said)
    for wrong in ("extra", "--nosuch", "--nosuch=1", "--nosuch.field=1", "-x", "--config"):
        said = told(capsys, [command, *right, wrong])
        assert "unknown argument" in said or "expected one argument" in said or "twice" in said


WORD = st.text(max_size=12) | st.sampled_from(["--config=", "--config.a", "--", "-h=", "=", "--.=1", "train"])


@given(words=st.lists(WORD, min_size=1, max_size=4))
def test_any_words_are_refused_in_one_line(words: list[str]):
    try:
        code = cli.main(words)
    except SystemExit as left:  # of --help
        code = left.code
        assert any(w in ("-h", "--help") for w in words)
    assert code in (0, 2)
    assert code == 2 or any(w in ("-h", "--help", "--version") for w in words)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "invalid choice: 'trian'"),
        (["--nosuch"], "unknown argument '--nosuch'"),
        (["train", "--config=digits/gpt", "--processes=x"], "--processes"),
        (["train", "--config=digits/gpt", "--processes=-1"], "processes=-1"),
        (["train", "--config=digits/gpt", "--config..seed=1"], "'.seed=1'"),
        (["train", "--config=digits/gpt", "--config.model.=1"], "'model.=1'"),
        (["train", "--config=digits/gpt", "--config.model.width={1,2}"], "model.width: {1, 2}"),
        (["train", "--config=digits/gpt:tiny"], "has no size 'tiny'"),
        (["sample", "runs/x", "--num=0"], "--num: 0 is out of range"),
        (["sample", "runs/x", "--num=1e3"], "--num: invalid int value"),
        (["sample", "runs/x", "--start=-1"], "--start: -1 is out of range"),
        (["sample", "runs/x"], "no run in runs/x"),
        (["evaluate", "runs/x"], "no run in runs/x"),
        (["export", "runs/x", "out"], "no run in runs/x"),
        (["report", "runs/x"], "runs/x has neither"),
        (["import", "nowhere"], "nowhere"),
        (["data", "digits", "--data.batch=x"], "data.batch: expected int"),
        (["compare", "--config=digits/gpt"], "config.data"),
        (["compare", "--config.name=../up"], "config.name: '../up' is not the name of a folder"),
        (["compare", "--config.entries={'..': {'config': 'digits/gpt'}}"], "config.entries: '..'"),
        (["compare", "--config.entries={'a': 5}"], "config.entries.a: expected a section"),
        (["compare", "--config.features=pixel"], "did you mean 'pixels'"),
        (["sweep", "--config=digits/vae", "--range=model.width=uniform:1,2", "--random=100000"], "--random"),
    ],
)
def test_values_of_arguments_that_are_wrong(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in told(capsys, arguments)
    assert list(tmp_path.iterdir()) == []


GET = b"def get_config(size='full'):\n"
MODEL = '{"model": {"name": "gpt", "dropout": %s}}'
FILES = {
    "syntax.py": (b"def get_config(:\n", "syntax.py:1: invalid syntax"),
    "nothing.py": (b"x = 1\n", "defines no get_config"),
    "value.py": (b"get_config = 5\n", "defines no get_config"),
    "raises.py": (GET + b"    return {}['x']\n", "raises.py:2: KeyError: 'x'"),
    "imports.py": (b"import no_such_module\n", "imports.py:1: ModuleNotFoundError"),
    "none.py": (GET + b"    return None\n", "returned None"),
    "zero.py": (b"x = 1\0\n", "zero.py: source code"),
    "latin.py": (b"x = '\xe9'\n", "latin.py:1: (unicode error)"),
    "object.py": (GET + b"    return {'seed': object()}\n", "seed: <object"),
    "deep.py": (
        GET + b"    x = []\n    x.append(x)\n    return {'seed': x}\n",
        "seed...: a value in more than",
    ),
    "huge.py": (GET + b"    return {'seed': 10**5000}\n", "seed: a value of the type int"),
    "empty.json": (b"", "empty.json cannot be read"),
    "cut.json": (b'{"model": {', "cut.json cannot be read"),
    "list.json": (b"[]", "it holds no sections"),
    "null.json": (b"null", "it holds no sections"),
    "latin.json": (b'{"name": "\xe9"}', "latin.json cannot be read"),
    "deep.json": (b"[" * 100_000, "too many lists"),
    "twice.json": (b'{"seed": 1, "seed": 2}', "the key 'seed' twice"),
    "five.json": (b'{"model": 5}', "model: expected a section, got 5"),
    "nan.json": ((MODEL % "NaN").encode(), "model.dropout: nan"),
    "infinity.json": ((MODEL % "-Infinity").encode(), "model.dropout: -inf"),
    "large.json": ((MODEL % "1e999").encode(), "model.dropout: inf"),
}
"""{name of a config file: (its content, what the error says)}."""


@pytest.mark.parametrize("name", FILES)
def test_config_files_that_cannot_be_read(name: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, says = FILES[name]
    Path(name).write_bytes(content)
    assert says in told(capsys, ["config", name])
    assert says in told(capsys, ["train", f"--config={tmp_path / name}"])
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == [name]


def test_folders_and_sizes_of_config_files(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert "'runs' is a folder" in told(capsys, ["config", "runs"])
    (tmp_path / "a.py").write_text("def get_config():\n    return {'model': {'name': 'gpt'}}\n")
    assert "a.py: TypeError" in told(capsys, ["config", "a.py:smoke"])
    body = "    return {'name': size, 'model': {'name': 'gpt'}, 'train': {'steps': 1 + (size == 'smoke')}}\n"
    (tmp_path / "d.py").write_text(f"def get_config(size='full'):\n{body}")
    assert "d.py has no size 'smok'" in told(capsys, ["config", "d.py:smok"])  # nothing but a name changes
    (tmp_path / "b:c.json").write_text(json.dumps({"model": {"name": "gpt"}}))
    assert settings.load("b:c.json") == {"model": {"name": "gpt"}}


def test_memory_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys):
    def run(args: Any, overrides: Any) -> int:
        raise MemoryError("Unable to allocate 2.00 TiB")

    monkeypatch.setattr(commands, "run", run)
    assert "out of memory: Unable to allocate" in told(capsys, ["config", "digits/gpt"])
