"""What each command of the command line does. Imported once a command has been chosen."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genjax.errors import ConfigError
from genjax.training import memory

Overrides = Mapping[str, list[str]]


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    """Runs the chosen command; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, format="genjax: %(message)s", stream=sys.stderr)
    logging.getLogger("genjax").setLevel(logging.INFO)
    memory.keep()
    commands: dict[str, Callable[[argparse.Namespace, Overrides], int]] = {
        "train": _train,
        "sample": _sample,
        "evaluate": _evaluate,
        "compare": _compare,
        "data": _data,
        "import": _import,
        "export": _export,
        "report": _report,
    }
    return commands[args.command](args, overrides)


def _train(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import run, settings

    config = settings.complete(settings.load(args.config, overrides["config"]))
    directory = run.train(config, args.dir)
    print(f"{directory}: trained to step {config.train.steps}")
    print(f"  samples: genjax sample {directory}    scores: genjax evaluate {directory}")
    return 0


def _sample(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import prompting, run

    if args.num < 1:
        raise ConfigError(f"--num={args.num} is not a number of samples", "give 1 or more")
    trained = run.restore(args.run, args.step)
    dataset = trained.experiment.dataset
    given = {**trained.experiment.settings.sample, **_values(overrides["sample"])}
    num = 1 if args.stream else args.num
    prompt = run.labels(dataset, num, args.label)
    if args.prompt is not None:
        prompt = prompting.prompt(dataset, args.prompt, num)
    if args.stop is not None:
        given["stop"] = prompting.stop(dataset, args.stop)
    if limits := prompting.constraint(dataset, args.regex, args.json_schema, args.words):
        given["constraint"] = limits
    average = None if args.average == "none" else args.average
    if args.stream:
        if not prompting.streams(trained, given):
            raise ConfigError("--stream: this run does not draw text token by token", "leave --stream out")
        print(args.prompt or "", end="", flush=True)
        for piece in prompting.stream(trained, given, prompt, args.seed, average):
            print(piece, end="", flush=True)
        print()
        return 0
    draw = run.sampler(trained.experiment, given)
    rows = draw(trained.variables.at(average), num, prompt, args.seed)
    out = Path(args.out) if args.out else trained.directory / "samples" / "sample"
    written = run.save_samples(dataset, rows, out, columns=max(1, round(num**0.5)))
    if args.out is None and written.suffix == ".txt":
        print(written.read_text("utf-8"))
    run.save_arrays(written.with_suffix(".npz"), rows)
    print(f"{written}: {num} samples of step {trained.step}")
    return 0


def _evaluate(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import compare, features, run, settings

    trained = run.restore(args.run, args.step)
    dataset = trained.experiment.dataset
    name = args.features
    if name is None and "image" in dataset.spec:
        guess = f"{dataset.name.rpartition(':')[2]}/classifier"
        name = guess if _exists(settings.find, guess) else None
    judge, _ = features.of(name, dataset, Path("runs") / "features", print)
    scores = run.evaluate(
        trained,
        judge,
        given=_values(overrides["sample"]),
        overrides=_values(overrides["evaluate"]),
        seconds=compare.training_seconds(trained.directory),
    )
    for s in scores:
        interval = "" if s.low is None else f"  [{s.low:.4g}, {s.high:.4g}]"
        print(f"  {s.criterion:<16} {s.name:<28} {s.value:>12.5g} {s.unit}{interval}")
    from genjax.report import single

    print(f"{trained.directory / 'scores.json'}, {single.write(trained.directory)}")
    return 0


def _exists(find: Callable[[str], Path], name: str) -> bool:
    try:
        find(name)
    except ConfigError:
        return False
    return True


def _compare(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import compare

    page = compare.compare(compare.read(args.config, overrides["config"]), args.dir)
    print(f"{page}: open it in a browser; {page.with_name('report.json')} is the same for programs")
    return 0


def _data(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import data
    from genjax.config import build

    config = build(data.Config, {"name": args.name, **_values(overrides["data"])}, "data")
    dataset = data.load(config)
    print(data.describe(dataset))
    picture = data.preview(dataset, 100)
    if isinstance(picture, str):
        print(picture)
        return 0
    out = Path(args.out or Path("runs") / "data" / f"{args.name.replace(':', '-').replace('/', '_')}.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(out)
    print(f"{out}: the first rows")
    return 0


def _import(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import exchange

    where = args.dir or Path("runs") / Path(args.source).absolute().name
    directory = exchange.import_run(args.source, where, data=_values(overrides["data"]))
    print(f"{directory}: imported from {args.source}")
    return 0


def _export(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import exchange

    average = None if args.average == "none" else args.average
    print(exchange.export_run(args.run, args.out, step=args.step, average=average))
    return 0


def _report(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.report import compare, single

    directory = Path(args.dir)
    write = compare.write if (directory / "compare.json").exists() else single.write
    print(write(directory))
    return 0


def _values(pairs: list[str]) -> dict[str, Any]:
    """["a=1", ...] as {"a": 1, ...}."""
    from genjax.settings import set_dotted

    raw: dict[str, Any] = {}
    for pair in pairs:
        set_dotted(raw, pair)
    return raw
