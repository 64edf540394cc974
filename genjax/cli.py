"""Parse the command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from genjax.errors import ConfigError, GenjaxError, Interrupted

EXAMPLES = """examples:
  genjax compare --config=compare/digits                 five families side by side, one report
  genjax train --config=digits/gpt --config.model.width=128
  genjax sweep --config=digits/vae --grid optimizer.learning_rate=1e-3,3e-3 --seeds=3
  genjax sample runs/digits-gpt --num=64 --label=3 --sample.temperature=0.8
  genjax evaluate runs/digits-gpt
  genjax data tfds:mnist
"""


class _Parser(argparse.ArgumentParser):
    """Raise ConfigError for what is wrong, in place of leaving the process."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.given: set[str] = set()
        self.register("action", None, _Once)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, f"see `{self.prog} --help`")


class _Once(argparse.Action):
    """Store a value, which must not be empty; refuse an option that is given twice."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        name = option or self.dest
        if name in parser.given:
            parser.error(f"{name} is given twice")
        if values == "" and self.dest not in TEXTS:
            parser.error(f"{name} has an empty value")
        parser.given.add(name)
        setattr(namespace, self.dest, values)


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    p = _Parser(
        prog="genjax",
        description="Train, sample, evaluate and compare generative models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--version", action="store_true", help="print the version and leave")
    p.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = p.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    c = add("train", "Train a model, or resume where its run directory left off.")
    c.add_argument("--config", required=True, metavar="FILE[:SIZE]", help="a config file or short name")
    c.add_argument("--dir", help="the run directory (default: runs/<name>)")
    c.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, for a run of several processes")
    c.add_argument("--processes", type=int, help="how many processes the run has")
    c.add_argument("--process", type=int, help="the index of this process, from 0")
    c.epilog = "any field of the config: --config.SECTION.FIELD=VALUE"

    c = add("config", "Print every field of a config with its resolved value.")
    c.add_argument("config", metavar="FILE[:SIZE]", help="a config file, a short name or a run's config.json")
    c.add_argument("--describe", action="store_true", help="with the description of each field")
    c.epilog = "any field of the config: --config.SECTION.FIELD=VALUE"

    c = add("sample", "Draw samples from a run.")
    c.add_argument("run", help="a run directory")
    c.add_argument("--num", type=int, help="how many (default: 64, or the files of --input)")
    c.add_argument("--label", help="the class to draw (default: each in turn)")
    c.add_argument("--prompt", help="text to continue or to translate, or a caption")
    c.add_argument("--gap", type=int, metavar="TOKENS", help="write so many tokens after the prompt")
    c.add_argument("--suffix", help="the text that follows the gap")
    c.add_argument("--input", metavar="PATH", help="an image or a folder of images to translate or complete")
    c.add_argument(
        "--start",
        type=int,
        help="the index of the first sample: sample i equals the sample i that `evaluate` scores",
    )
    c.add_argument("--regex", help="a regular expression that samples of text must match")
    c.add_argument("--json-schema", metavar="SCHEMA", help="a JSON schema (or its file) that they must fit")
    c.add_argument("--words", metavar="A,B,...", help="samples are one of these words")
    c.add_argument(
        "--stop", action="append", metavar="TEXT", help="a text that ends a sample, e.g. '\\n'; several times"
    )
    c.add_argument("--stream", action="store_true", help="write one sample of text as it is drawn")
    c.add_argument("--seed", type=int, help="of the samples (default: evaluate.seed of the run)")
    c.add_argument("--step", default="latest", help="latest, best or a step")
    c.add_argument("--average", help="which average of the weights, or none (default: evaluate.average)")
    c.add_argument("--out", help="a file (default: <run>/samples/sample), or FOLDER/ for a file per sample")
    c.epilog = "any option of the sampler: --sample.OPTION=VALUE"

    c = add("evaluate", "Score a run: realism, diversity, likelihood, control, cost.")
    c.add_argument("run", help="a run directory")
    c.add_argument("--step", default="latest", help="latest, best or a step")
    c.add_argument("--features", help="the feature extractor, e.g. pixels (default: by dataset)")
    c.epilog = (
        "any field of the evaluation: --evaluate.FIELD=VALUE; any sampling option: --sample.OPTION=VALUE"
    )

    c = add("latent", "Draw the latent space of a run: paths, edits, projections, style mixing.")
    codecs = ("interpolate", "traverse", "edit", "search", "map")
    generators = ("project", "mix", "factors", "curve")
    c.add_argument(
        "verb", choices=codecs + generators, help="project, mix and factors are of GANs, curve of any sampler"
    )
    c.add_argument("run", help="the directory of a run with real-valued codes, such as a VAE, or of a GAN")
    c.add_argument("--step", default="latest", help="latest, best or a step")
    c.add_argument("--average", help="which average of the weights, or none (default: evaluate.average)")
    c.epilog = "any option of the verb: --latent.OPTION=VALUE (docs/guides/latent.md and gan.md)"

    c = add("edit", "Edit rows with a diffusion: complete, vary, restore, steer and join them.")
    c.add_argument("verb", choices=("inpaint", "outpaint", "vary", "restore", "steer", "interpolate"))
    c.add_argument("run", help="the directory of a run of a diffusion")
    c.add_argument("--step", default="latest", help="latest, best or a step")
    c.add_argument("--average", help="which average of the weights, or none (default: evaluate.average)")
    c.epilog = "any option of the verb: --edit.OPTION=VALUE (docs/guides/diffusion.md)"

    c = add("compare", "Train, sample and score several models under one budget; write one report.")
    c.add_argument("--config", default="compare/digits", metavar="FILE[:SIZE]")
    c.add_argument("--dir", help="the comparison's directory (default: runs/compare-<name>)")
    c.epilog = "any field of the config: --config.budget.value=30"

    c = add(
        "sweep",
        "Train a config with several values of some fields and several seeds; write a table and a plot.",
    )
    c.add_argument("--config", required=True, metavar="FILE[:SIZE]", help="a config file or short name")
    c.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="FIELD=A,B,...",
        help="values of a field; several --grid are combined: optimizer.learning_rate=1e-3,3e-3",
    )
    c.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="FIELD=SCALE:LO,HI",
        help="draw a field with --random=N; SCALE is uniform or log: optimizer.learning_rate=log:1e-4,1e-2",
    )
    c.add_argument("--random", type=int, default=0, metavar="N", help="draws from the ranges")
    c.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each setting")
    c.add_argument("--score", metavar="NAME", help="a score of `evaluate` (default: final evaluation loss)")
    c.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that run side by side")
    c.add_argument("--dir", help="the sweep's directory (default: runs/sweep-<name>)")
    c.epilog = (
        "any field of the config: --config.SECTION.FIELD=VALUE; on SLURM, any parameter of submitit's "
        "AutoExecutor: --slurm.timeout_min=60 --slurm.slurm_partition=NAME"
    )

    c = add("data", "Prepare and describe a dataset; write a picture of it.")
    c.add_argument(
        "name", help="digits, mnist5k, pydoc, multi30k, chorales, tfds:NAME, folder:PATH, text:PATH ..."
    )
    c.add_argument("--out", help="where to write the picture")
    c.epilog = "any field of the data section: --data.FIELD=VALUE"

    c = add("import", "Import a GPT-2, BERT or T5 directory of transformers as a run.")
    c.add_argument("source", help="a directory with config.json, model.safetensors and tokenizer.json")
    c.add_argument("--dir", help="the run directory (default: runs/<name of the source>)")
    c.epilog = "any field of the data that it is evaluated on and trained with: --data.FIELD=VALUE"

    c = add("export", "Write a run's weights as a directory that transformers reads.")
    c.add_argument("run", help="a run directory")
    c.add_argument("out", help="the directory to write")
    c.add_argument("--step", default="latest", help="latest, best or a step")
    c.add_argument("--average", default="eval", help="which average of the parameters, or none")

    c = add("report", "Write report.html again from the files of a run, a comparison or a sweep.")
    c.add_argument("dir", help="the directory of a run, a comparison or a sweep")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (0, or the error's own: see genjax.errors)."""
    _forgive(sys.stdout)
    words = sys.argv[1:] if argv is None else list(argv)
    show = "--traceback" in words
    command = ""
    try:
        args, rest = parser().parse_known_args(words)
        command = args.command or ""
        return _run(args, rest)
    except GenjaxError as error:
        if show:
            raise
        print(f"genjax: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("genjax: interrupted", file=sys.stderr)
        return Interrupted.exit_code if command in ("train", "compare") else 130
    except BrokenPipeError:  # `genjax data digits | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if show or error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        print(f"genjax: {error}\n  hint: free space, or give a writable folder", file=sys.stderr)
        return 4
    except Exception as error:
        if show or not _is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or ["no memory is left"])[0]
        print(f"genjax: out of memory: {first}\n  hint: use a smaller batch or model", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run the command that the arguments name."""
    for name in TEXTS:
        given = getattr(args, name, None)
        if given is not None:
            setattr(args, name, [_unicode(x) for x in given] if isinstance(given, list) else _unicode(given))
    if args.version:
        from genjax import __version__

        print(f"genjax {__version__}")
        return 0
    if not args.command:
        if rest:
            raise ConfigError(f"unknown argument {rest[0]!r}", "see `genjax --help`")
        parser().print_help()
        return 2
    overrides = _overrides(args.command, rest)
    from genjax import commands

    return commands.run(args, overrides)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether NumPy or a device could not allocate an array. JAX need not be imported for that."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)[:200]


TEXTS = ("prompt", "suffix", "label", "regex", "words", "json_schema", "stop")
"""Arguments that are text, not paths."""


def _forgive(stream: Any) -> None:
    """Let a stream write "?" for characters that its encoding lacks, as that of an old terminal does."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def _unicode(text: str) -> str:
    """Return an argument of the command line with U+FFFD for bytes that are not UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


PREFIXES = {
    "train": ("config",),
    "config": ("config",),
    "compare": ("config",),
    "sweep": ("config", "slurm"),
    "sample": ("sample",),
    "evaluate": ("evaluate", "sample"),
    "latent": ("latent",),
    "edit": ("edit",),
    "data": ("data",),
    "import": ("data",),
    "export": (),
    "report": (),
}


def _overrides(command: str, rest: Sequence[str]) -> dict[str, list[str]]:
    """Return {prefix: ["key=value", ...]} of the arguments that argparse does not know, e.g. --config.seed=1.

    Raises:
      ConfigError: an argument of another form, or two that set the same field.
    """
    found: dict[str, list[str]] = {prefix: [] for prefix in PREFIXES[command]}
    items = list(rest)
    while items:
        item = items.pop(0)
        prefix, dot, key = item.removeprefix("--").partition(".")
        if not item.startswith("--") or not dot or prefix not in found:
            forms = ", ".join(f"--{p}.KEY=VALUE" for p in found) or "none"
            raise ConfigError(f"unknown argument {item!r} of `genjax {command}`", f"overrides here: {forms}")
        if "=" not in key and items and not items[0].startswith("--"):
            key = f"{key}={items.pop(0)}"
        if "=" not in key:
            raise ConfigError(f"{item} has no value", f"write {item}=VALUE")
        _refuse_again(prefix, key, found[prefix])
        found[prefix].append(key)
    return found


def _refuse_again(prefix: str, override: str, earlier: Sequence[str]) -> None:
    """Raise ConfigError if an earlier override sets the same field, or a section that contains it."""
    path = override.partition("=")[0].split(".")
    for other in earlier:
        set_before = other.partition("=")[0].split(".")
        shared = min(len(path), len(set_before))
        if path[:shared] == set_before[:shared]:
            names = " and ".join(dict.fromkeys(f"--{prefix}.{'.'.join(p)}" for p in (set_before, path)))
            raise ConfigError(f"{names}: the same field is set twice", "leave one of them out")


def script() -> None:
    """Run the command of this process and end it with its exit code."""
    code = main()
    if code == 0:  # all is done: a signal while the interpreter ends must not say otherwise
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    script()
