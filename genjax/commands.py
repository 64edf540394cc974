"""Run the commands of the command line. Imported once a command has been chosen."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from genjax.config import Range, Rows, coerce
from genjax.errors import ConfigError
from genjax.training import memory, signals

Index = Annotated[int, Range(least=0, most=2**31 - 2**24)]
"""The index of a sample, after which as many samples as a command draws have an index of 32 bits."""
Overrides = Mapping[str, list[str]]


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    """Run the chosen command; return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="genjax: %(message)s", stream=sys.stderr)
    logging.getLogger("genjax").setLevel(logging.INFO)
    memory.keep()
    commands: dict[str, Callable[[argparse.Namespace, Overrides], int]] = {
        "train": _train,
        "config": _config,
        "sample": _sample,
        "evaluate": _evaluate,
        "compare": _compare,
        "sweep": _sweep,
        "latent": _latent,
        "edit": _edit,
        "data": _data,
        "import": _import,
        "export": _export,
        "report": _report,
    }
    return commands[args.command](args, overrides)


def _train(args: argparse.Namespace, overrides: Overrides) -> int:
    with signals.Guard() as guard:
        from genjax.training import distributed

        # Before anything else that uses JAX: the devices of all processes are known only afterwards.
        distributed.initialise(args.coordinator, args.processes, args.process)
        if distributed.count() > 1:
            guard.hold()
        from genjax import settings
        from genjax.training import checkpoint
        from genjax.workflows import train

        config = settings.complete(settings.load(args.config, overrides["config"]))
        directory = train.train(config, args.dir)
    if distributed.is_primary():
        print(f"{directory}: trained to step {checkpoint.saved_steps(directory)[-1]}")
        print(f"  samples: genjax sample {directory}    scores: genjax evaluate {directory}")
    return 0


def _config(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import settings
    from genjax.workflows import fields

    config = settings.complete(settings.load(args.config, overrides["config"]))
    print("\n".join(fields.lines(config, args.describe)))
    return 0


def _sample(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.settings import values
    from genjax.workflows import assemble, infill, posthoc, sample, text

    num = _number_of_samples(args)
    trained = posthoc.with_average(assemble.restore(args.run, args.step), args.average)
    dataset = trained.experiment.dataset
    asked = {"label": args.label, "prompt": args.prompt, "input": args.input}
    conditions = sample.conditions(dataset, num, args.start or 0, asked)
    options = values(overrides["sample"])
    if args.suffix is not None and args.gap is None:
        raise ConfigError("--suffix follows a gap", "give its number of tokens with --gap")
    if args.gap is not None:
        if args.stream or args.stop is not None:
            raise ConfigError("--gap is filled all at once", "leave out --stream and --stop")
        conditions, width = infill.gap(trained, conditions, num, args.gap, args.suffix)
        options.setdefault("length", width)
    beginning = text.begun(dataset, conditions)
    if args.stop is not None:
        if "stop" in options:
            raise ConfigError("--stop and --sample.stop both end a sample", "give one of them")
        options["stop"] = text.stop(dataset, args.stop, beginning)
    if limits := text.constraint(dataset, args.regex, args.json_schema, args.words):
        options["constraint"] = limits
    if args.stream:
        return _stream(args, trained, options, conditions or {}, beginning)
    dataset = text.cut(dataset, args.stop, beginning)
    rows = sample.draw(
        trained,
        num,
        start=args.start,
        conditions=conditions,
        options=options,
        seed=args.seed,
        average=args.average,
    )
    out = Path(args.out) if args.out else trained.directory / "samples" / "sample"
    if args.out is not None and (args.out.endswith(("/", "\\")) or out.is_dir()):
        names = sample.names_of(args.input) if args.input else [f"{i:06d}" for i in range(num)]
        each = sample.save_each(dataset, rows, out, names)
        print(f"{out}: {len(each)} files, one for each sample of step {trained.step}")
        return 0
    written = sample.save(dataset, rows, out, columns=max(1, round(num**0.5)))
    if args.out is None and written.suffix == ".txt":
        print(written.read_text("utf-8"))
    sample.save_arrays(written.with_suffix(".npz"), rows)
    print(f"{written}: {num} samples of step {trained.step}")
    return 0


def _number_of_samples(args: argparse.Namespace) -> int:
    """Return how many samples to draw; refuse what has no meaning for one that is streamed."""
    from genjax.workflows import sample

    coerce(Rows | None, args.num, "--num")
    coerce(Index | None, args.start, "--start")
    if not args.stream:
        if args.num is None and args.input:
            return len(sample.names_of(args.input))
        return 64 if args.num is None else args.num
    if args.num not in (None, 1):
        raise ConfigError(f"--num={args.num}: --stream writes one sample", "leave one of them out")
    if args.out is not None:
        raise ConfigError("--out: --stream writes to the terminal only", "leave one of them out")
    return 1


def _stream(
    args: argparse.Namespace, trained: Any, options: Mapping[str, Any], start: Any, beginning: str
) -> int:
    """Write one sample of text as it is drawn."""
    from genjax.workflows import sample, text

    given = {**trained.experiment.settings.sample, **options}
    text.check_streams(trained, given)
    seed = trained.experiment.settings.evaluate.seed if args.seed is None else args.seed
    average = sample.check_average(trained, args.average)
    how = {"index": args.start or 0, "seed": seed, "average": average, "stop": args.stop}
    for piece in text.stream(trained, given, start, **how):
        print(beginning + piece, end="", flush=True)
        beginning = ""
    print(beginning, end="")
    print()
    return 0


def _evaluate(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.report import single
    from genjax.settings import values
    from genjax.workflows import assemble, evaluate

    datasets = assemble.Datasets()
    trained = assemble.restore(args.run, args.step, datasets)
    config = evaluate.config_of(trained, values(overrides["evaluate"]))
    evaluate.require_data(trained)
    root = Path("runs") / "features"
    features = None
    if args.features or config.features or evaluate.need_features(config):
        features = evaluate.features(
            args.features or config.features, trained.experiment.dataset, root, datasets, print
        )
    scores = evaluate.evaluate(
        trained, features, given=values(overrides["sample"]), overrides=values(overrides["evaluate"])
    )
    for s in scores:
        interval = "" if s.low is None else f"  [{s.low:.4g}, {s.high:.4g}]"
        print(f"  {s.criterion:<16} {s.name:<28} {s.value:>12.5g} {s.unit}{interval}")
    print(f"{trained.directory / 'scores.json'}, {single.write(trained.directory)}")
    return 0


def _latent(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.report import single
    from genjax.settings import values
    from genjax.workflows import assemble, latent, posthoc

    trained = posthoc.with_average(assemble.restore(args.run, args.step), args.average)
    drawn = latent.run(args.verb, trained, values(overrides["latent"]), args.average)
    print(f"{drawn.path}: {drawn.found}")
    print(single.write(trained.directory))
    return 0


def _edit(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.report import single
    from genjax.settings import values
    from genjax.workflows import assemble, editing, posthoc

    trained = posthoc.with_average(assemble.restore(args.run, args.step), args.average)
    drawn = editing.run(args.verb, trained, values(overrides["edit"]), args.average)
    print(f"{drawn.path}: {drawn.found}")
    print(single.write(trained.directory))
    return 0


def _compare(args: argparse.Namespace, overrides: Overrides) -> int:
    with signals.Guard():
        from genjax.workflows import compare

        page = compare.compare(compare.read(args.config, overrides["config"]), args.dir)
    print(f"{page}: open it in a browser; {page.with_name('report.json')} is the same for programs")
    return 0


def _sweep(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import settings
    from genjax.workflows.sweep import plan, run

    slurm = settings.values(overrides["slurm"]) or None
    if slurm is not None and args.jobs != 1:
        raise ConfigError("--jobs and --slurm... are two ways to execute the runs", "leave one of them out")
    given = plan.make(
        args.config,
        settings.load(args.config, overrides["config"]),
        lists=args.grid,
        ranges=args.range,
        draws=args.random,
        seeds=args.seeds,
        score=args.score,
    )
    page = run.sweep(given, args.dir, side_by_side=args.jobs, slurm=slurm)
    print(f"{page}: open it in a browser; {page.with_name('results.json')} is the same for programs")
    return 0


def _data(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax import data, files
    from genjax.config import build
    from genjax.settings import values

    config = build(data.Config, {"name": args.name, **values(overrides["data"])}, "data")
    dataset = data.load(config)
    print(data.describe(dataset))
    picture = data.preview(dataset, 100)
    if isinstance(picture, str):
        print(picture)
        return 0
    out = Path(args.out or Path("runs") / "data" / f"{args.name.replace(':', '-').replace('/', '_')}.png")
    with files.replacing(out) as partial:
        picture.save(partial)
    print(f"{out}: the first rows")
    return 0


def _import(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.settings import values
    from genjax.workflows import convert

    where = args.dir or Path("runs") / Path(args.source).absolute().name
    directory = convert.import_run(args.source, where, data=values(overrides["data"]))
    print(f"{directory}: imported from {args.source}")
    return 0


def _export(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.workflows import convert

    average = None if args.average == "none" else args.average
    print(convert.export_run(args.run, args.out, step=args.step, average=average))
    return 0


def _report(args: argparse.Namespace, overrides: Overrides) -> int:
    from genjax.report import compare, single, sweep

    directory = Path(args.dir)
    known = {"compare.json": compare.write, "sweep.json": sweep.write}
    write = next((w for name, w in known.items() if (directory / name).exists()), single.write)
    print(write(directory))
    return 0
