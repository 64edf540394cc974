"""Measure KenLM: build it from its source distribution and run its command-line programs."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PROGRAMS = ("lmplz", "build_binary", "query")
OPTIONS = ("--discount_fallback", "-S", "20%")
"""Options of lmplz beside the order; its defaults are no pruning and interpolated unigrams."""


class Measured(NamedTuple):
    """Hold perplexity (unseen words included), the numbers of scored and of unseen tokens, and seconds."""

    perplexity: float
    tokens: int
    unseen: int
    train: float
    score: float


def build(where: Path) -> None:
    """Download the source distribution with pip and build the programs into a folder.

    Needs cmake, a C++ compiler and Boost (Debian: libboost-program-options-dev, libboost-system-dev,
    libboost-thread-dev, libboost-test-dev).
    """
    where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = lambda *command: subprocess.run(command, cwd=folder, check=True)
        options = ("--no-deps", "--no-binary=:all:", "--no-build-isolation")
        run(sys.executable, "-m", "pip", "download", *options, "kenlm==0.3.0")
        run("tar", "xzf", "kenlm-0.3.0.tar.gz")
        run("cmake", "-S", "kenlm-0.3.0", "-B", "build", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF")
        run("cmake", "--build", "build", "--parallel", "2", "--target", *PROGRAMS)
        for program in PROGRAMS:
            (where / program).write_bytes((Path(folder) / "build" / "bin" / program).read_bytes())
            (where / program).chmod(0o755)


def write(path: Path, tokens: np.ndarray, end: int, unknown: int | None) -> None:
    """Write tokens as KenLM reads them: a word per token ("t12"), a line per sentence without its end token.

    The unknown token becomes a word that no training text contains.
    """
    word = lambda t: "\n" if t == end else "t" + str(t) if t != unknown else "never-seen"
    path.write_text(" ".join(word(t) for t in tokens.tolist()).replace(" \n ", "\n").replace("\n ", "\n"))


def measure(kenlm: Path, folder: Path, text: Any, order: int) -> Measured:
    """Train on text.train and score text.held, each with its own command."""
    train, held, arpa, binary = (folder / name for name in ("train", "held", "arpa", "binary"))
    write(train, text.train, text.end, None)
    write(held, text.held, text.end, text.unknown)
    estimate = (str(kenlm / "lmplz"), "-o", str(order), *OPTIONS, "--text", str(train), "--arpa", str(arpa))
    seconds = timed(*estimate)[0]
    timed(str(kenlm / "build_binary"), str(arpa), str(binary))
    score, out = timed(str(kenlm / "query"), "-v", "summary", str(binary), stdin=held)
    number = lambda name: float(re.search(rf"^{name}:\s*([0-9.e+]+)", out, re.MULTILINE).group(1))  # type: ignore[union-attr]
    unseen = int(number("OOVs"))
    return Measured(number("Perplexity including OOVs"), int(number("Tokens")), unseen, seconds, score)


def timed(*command: str, stdin: Path | None = None) -> tuple[float, str]:
    """Run a command and return (seconds, standard output).

    Raises:
      SystemExit: if the command fails.
    """
    start = time.perf_counter()
    with open(stdin or "/dev/null") as source:
        done = subprocess.run(command, stdin=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - start, done.stdout
