"""README, docs and notebooks: commands parse and name configs and fields that exist; links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from genjax import cli, data, evaluation, settings
from genjax.config import build
from genjax.errors import ConfigError
from genjax.workflows import entries, latent
from genjax.workflows.sweep import plan

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("experiments/**/*.md")])
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\w+=\S*$")
PLACEHOLDER = re.compile(r"\b(?:FIELD|OPTION|VALUE|SECTION|NAME|SIZE)\b|=i\b|\.\.\.|…")
"""What stands for something else: such a command is a form, not an example."""


class Command(NamedTuple):
    page: str
    words: tuple[str, ...]


def texts() -> dict[str, str]:
    """{page: its Markdown}."""
    found = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[path.relative_to(ROOT).as_posix()] = "\n\n".join(prose)
    return found


def commands(page: str, text: str) -> Iterator[Command]:
    """Yield the commands of a page in its order: those of blocks, and those between backticks."""
    blocks = [(m.start(), m[4]) for m in FENCE.finditer(text) if m[3].strip() in ("sh", "text", "")]
    prose = FENCE.sub(lambda m: " " * len(m[0]), text)
    spans = [(m.start(), " ".join(m[1].split())) for m in re.finditer(r"`([^`]*genjax [^`]+)`", prose)]
    quoted = [(m.start(), m[0]) for m in re.finditer(r"(?:^ {4}\S.*\n)+", prose, re.MULTILINE)]
    for _, block in sorted([*blocks, *spans, *quoted]):
        for line in textwrap.dedent(block).replace("\\\n", " ").split("\n"):
            words = words_of(line)
            if words and words[0] == "genjax" and not PLACEHOLDER.search(line.partition(" #")[0]):
                yield Command(page, tuple(words[1:]))


def words_of(line: str) -> list[str]:
    """Return the words of a line of a shell without its variables; none if it is not a command."""
    if "genjax " not in line:
        return []
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # prose
        return []
    while words and (VARIABLE.match(words[0]) or words[0] == "#SBATCH" or words[0] in ("srun", "heavy")):
        words = words[1:]
    return words[: words.index("&")] if "&" in words else words


COMMANDS = [c for page, text in texts().items() for c in commands(page, text)]
WRITTEN = {"my_models/digits.py"}
"""Configs that a notebook writes."""


def parsed(command: Command) -> tuple[Any, dict[str, list[str]]]:
    """Return the arguments and overrides of a command."""
    args, rest = cli.parser().parse_known_args(list(command.words))
    return args, cli._overrides(args.command, rest) if args.command else {}


def made(words: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the directory that a command writes and the config of its runs; None if it writes none."""
    args, _ = parsed(Command("", words))
    if args.command == "import":
        return args.dir or f"runs/{Path(args.source).name}", "pydoc/gpt"
    if args.command not in ("train", "compare", "sweep") or not settings.exists(args.config):
        return (args.dir, "pydoc/gpt") if args.command == "train" and args.dir else None
    name = settings.load(args.config)["name"]
    before = {"train": "", "compare": "compare-", "sweep": "sweep-"}[args.command]
    return args.dir or f"runs/{before}{name}", args.config


@pytest.fixture(scope="module")
def runs() -> dict[str, str]:
    """{directory: config} of the runs of all configs, and of what the commands of all pages write."""
    names = [path.relative_to(ROOT / "configs").with_suffix("") for path in (ROOT / "configs").rglob("*.py")]
    shipped = {f"runs/{settings.load(str(name))['name']}": str(name) for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        found = dict(pair for c in COMMANDS if len(c.words) > 1 and (pair := made(c.words)))
    return {**shipped, **found, "runs/quickstart": "digits/vae", "RUN": "digits/vae", "runs/x": "digits/vae"}


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """{architecture: options of its sampler}, as the config reference lists them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "site"))
        import config_reference

        found = config_reference._samplers()
    return {name: {row[0] for row in rows} for names, rows in found.items() for name in names.split(", ")}


def test_the_pages_have_commands():
    assert len(COMMANDS) > 100
    assert {c.words[0] for c in COMMANDS} >= set(cli.PREFIXES)


@pytest.mark.parametrize("page", [page for page in texts() if any(c.page == page for c in COMMANDS)])
def test_commands_name_what_exists(page: str, runs, options, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    given = [c for c in COMMANDS if c.page == page and len(c.words) > 1]
    wrong = {" ".join(c.words): said for c in given if (said := problem(c, runs, options))}
    assert not wrong


def problem(command: Command, runs: dict[str, str], options: dict[str, set[str]]) -> str:
    """Return what is wrong with a command; an empty string if it would be accepted."""
    try:
        check_command(command, runs, options)
    except ConfigError as error:
        return error.message
    except SystemExit:
        return "an argument is missing or of another form"
    return ""


def check_command(command: Command, runs: dict[str, str], options: dict[str, set[str]]) -> None:
    args, overrides = parsed(command)
    if (config := getattr(args, "config", None)) is not None:
        check_config(args, config, overrides["config"], runs)
    if (run := getattr(args, "run", None)) is not None:
        if run not in runs:
            raise ConfigError(f"no command makes {run}")
        check_options(runs[run], overrides.get("sample", []), options)
    if args.command == "evaluate":
        build(evaluation.Config, settings.values(overrides["evaluate"]), "evaluate")
    if args.command == "latent":
        latent.options(args.verb, settings.values(overrides["latent"]))
    if args.command in ("data", "import"):
        given = {"name": getattr(args, "name", "digits"), **settings.values(overrides["data"])}
        build(data.Config, given, "data")


def check_config(args: Any, config: str, overrides: list[str], runs: dict[str, str]) -> None:
    """Complete the config of a command: a file or field that does not exist is a ConfigError."""
    if config in WRITTEN:
        return
    if config.endswith("config.json"):
        config = runs[str(Path(config).parent)]
    if args.command == "compare":
        assert entries.read(config, overrides).entries
        return
    raw = settings.load(config, overrides)
    if args.command == "sweep":
        made = plan.make(config, raw, lists=args.grid, ranges=args.range, draws=args.random, seeds=args.seeds)
        assert [made.settings_of(point) for point in made.points]
    assert settings.complete(raw)


def check_options(config: str, given: list[str], options: dict[str, set[str]]) -> None:
    """Check the options of a sampler, where the model is one of the package."""
    model = settings.load(config).get("model", {})
    known = options.get(model.get("prior", model).get("name"))
    for name in settings.values(given):
        if known is not None and name not in known:
            raise ConfigError(f"{config} has no option {name}")


def test_a_wrong_command_is_found(runs, options, monkeypatch: pytest.MonkeyPatch):
    wrong = """
```sh
X=1 genjax train --config=digits/vaes # a comment
genjax train --config=digits/vae --config.model.widht=3
genjax evaluate runs/digits-vae --evaluate.set=2
genjax sample runs/digits-vae --sample.temprature=2 &
genjax sample runs/nothing
genjax sample runs/digits-vae \\
  --nmu=3
```
and `genjax sweep --config=digits/vae --grid model.widht=3`.
"""
    found = list(commands("page", wrong))
    assert len(found) == 7
    monkeypatch.chdir(ROOT)
    assert all(problem(command, runs, options) for command in found)


@pytest.mark.parametrize("page", texts())
def test_python_is_python(page: str):
    for block in FENCE.finditer(texts()[page]):
        # Parts of files of tests/outside are compared with them in test_extending.py.
        if block[3].strip() == "python" and not block[4].startswith("# tests/outside/"):
            ast.parse(textwrap.dedent(block[4]))


def test_links_of_pages_outside_the_site_lead_somewhere():
    """mkdocs checks those of docs/."""
    for path in PAGES:
        if path.is_relative_to(DOCS):
            continue
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_the_navigation_has_every_page_and_no_other():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r"([\w/]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    guides = {path for path in written if path.startswith("guides/")}  # the build adds those that are missing
    generated = {"reference/config.md", *(f"notebooks/{path.stem}.md" for path in NOTEBOOKS)}
    assert written - guides <= listed <= written | generated


def test_lines_of_code_fit_in_a_page():
    """The style sheet makes room for 110 characters in a window of 1280 pixels."""
    for path in DOCS.rglob("*.md"):
        for block in FENCE.finditer(path.read_text("utf-8")):
            if block[3].strip() in ("sh", "python"):
                assert max(map(len, block[4].splitlines()), default=0) <= 110, f"{path}: {block[4][:80]}"


def test_included_files_are_included():
    """A formatter of Markdown takes the marker for an expression of Python."""
    for path in DOCS.rglob("*.md"):
        assert not re.search(r"--8\s+<", path.read_text("utf-8")), path


def test_a_pipe_in_the_code_of_a_table_is_shown_without_its_backslash(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    import tables

    page = "| `a\\|b` | x \\| y | ``c`\\|`` |\nprose: `a\\|b`"
    assert tables.shown(page) == "| `a|b` | x \\| y | ``c`|`` |\nprose: `a\\|b`"
