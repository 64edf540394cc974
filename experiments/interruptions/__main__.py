"""Interrupt a training in each of its parts, resume it, and compare exit codes and bits.

    python -m experiments.interruptions [--trials=20] [--seed=0]

Prints the tables of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jaxlib.version
import numpy as np
import orbax.checkpoint as ocp

from genjax.training.checkpoint import FOLDER, saved_steps
from genjax.training.logbook import WALL_CLOCK

CONFIG = "digits/vae:smoke"
STEPS = 40
QUICK = "--xla_backend_optimization_level=0"
if jaxlib.version.__version_info__ < (0, 12):
    # The emitters of fusions take half of the time of a compilation at level 0; 0.12 has no others.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
FIELDS = {
    "train.steps": STEPS,
    "train.log_every": 5,
    "train.eval_every": 10,
    "train.sample_every": 0,
    "train.checkpoint_every": 12,
    "train.tensorboard": False,
    "train.progress": False,
    "data.eval_batch": 16,
}
PARTS = ("start", "compilation", "steps", "evaluation", "last picture")
REMAINS = 75


class Mark(NamedTuple):
    """Hold a line of the worker: when a part of the training began or ended."""

    time: float
    part: str
    step: int


class Trial(NamedTuple):
    """Hold one interrupted run."""

    signal: str
    part: str
    code: int
    expected: int
    seconds: float
    step: int
    same: bool
    message: str


def command(directory: Path, marks: Path) -> list[str]:
    """Return the command that trains in a directory, or resumes there."""
    fields = [f"--config.{key}={value}" for key, value in FIELDS.items()]
    worker = [sys.executable, "-m", "experiments.interruptions.worker", str(marks)]
    return [*worker, "train", f"--config={CONFIG}", f"--dir={directory}", *fields]


def environment(directory: Path) -> dict[str, str]:
    """Return an environment in which the first process compiles and a resumed one finds the programs."""
    return {
        "XLA_FLAGS": QUICK,
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": f"{directory}-xla",
    }


def read(marks: Path) -> list[Mark]:
    """Return the complete lines that the worker has written so far."""
    if not marks.exists():
        return []
    rows = [line.split() for line in marks.read_text().split("\n")[:-1]]
    return [Mark(float(at), part, int(step)) for at, part, step in rows]


def follow(marks: Path, process: subprocess.Popen[Any]) -> Iterator[Mark]:
    """Yield the worker's lines as they come, until it ends."""
    seen = 0
    while process.poll() is None:
        found = read(marks)
        yield from found[seen:]
        seen = len(found)
        time.sleep(0.001)


def spans(marks: list[Mark]) -> dict[tuple[str, int], float]:
    """Return the seconds of each part, {(part, step): seconds}, in an uninterrupted run."""
    at = {(m.part, m.step): m.time for m in reversed(marks)}
    out = {
        ("start", 0): at["loop", 0] - at["start", 0],
        ("compilation", 0): at["end-step", 0] - at["step", 0],
        ("last picture", STEPS): at["end-picture", STEPS] - at["picture", STEPS],
    }
    for step in range(10, STEPS + 1, 10):
        out["evaluation", step] = at["end-evaluation", step] - at["evaluation", step]
    return out


def moment(part: str, long: dict[tuple[str, int], float], dice: random.Random) -> tuple[int, str, int, float]:
    """Return (how often, which mark, of which step) to wait for, and the seconds to wait after it."""
    if part == "steps":
        return dice.randrange(2, STEPS), "step", 0, dice.uniform(0, 0.05)
    step = dice.choice([step for name, step in long if name == part])
    mark = {"compilation": "step", "last picture": "picture"}.get(part, part)
    return 1, mark, step, dice.uniform(0, long[part, step])


def interrupt(
    name: str, part: str, long: dict[tuple[str, int], float], directory: Path, dice: random.Random
) -> tuple[int, float, str]:
    """Start a run and interrupt it; return exit code, seconds from the signal to the end, and the message."""
    marks = directory.with_suffix(".marks")
    often, wanted, step, wait = moment(part, long, dice)
    process = subprocess.Popen(
        command(directory, marks), env=environment(directory), stderr=subprocess.PIPE, text=True
    )
    for mark in follow(marks, process):
        often -= (mark.part, mark.step) == (wanted, step)
        if not often:
            break
    time.sleep(wait)
    sent = time.monotonic()
    process.send_signal(signal.Signals[name])
    _, err = process.communicate(timeout=300)
    return process.returncode, time.monotonic() - sent, err


def complete(directory: Path) -> bool:
    """Return whether nothing is left to do: the last step is saved and its picture is drawn."""
    steps = saved_steps(directory)
    hooks = directory / "hooks.json"
    return steps[-1:] == [STEPS] and hooks.exists() and json.loads(hooks.read_text())["step"] == STEPS


def content(directory: Path) -> dict[str, bytes]:
    """Return the bits of the last checkpoint, its record, the metrics and the pictures."""
    folder = directory.absolute() / FOLDER / str(saved_steps(directory)[-1])
    record = json.loads((folder / "record" / "metadata").read_text())
    item = {p: np.zeros(shape, dtype) for p, (shape, dtype) in record["tree"].items() if 0 not in shape}
    how = {p: ocp.RestoreArgs(restore_type=np.ndarray) for p in item}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        leaves = reader.restore(folder / "state", args=ocp.args.PyTreeRestore(item, restore_args=how))
    record.pop("seconds")
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    plain = [{k: v for k, v in line.items() if k not in WALL_CLOCK} for line in lines]
    pictures = {str(p.name): p.read_bytes() for p in sorted((directory / "samples").glob("step_*"))}
    texts = {"record": record, "metrics": plain}
    return {
        **{path: np.asarray(x).tobytes() for path, x in leaves.items()},
        **{name: json.dumps(text, sort_keys=True).encode() for name, text in texts.items()},
        **pictures,
    }


def trial(
    name: str,
    part: str,
    long: dict[tuple[str, int], float],
    directory: Path,
    whole: dict[str, bytes],
    dice: random.Random,
) -> Trial:
    """Interrupt a run once, resume it to the end, and compare it with the whole one."""
    code, seconds, err = interrupt(name, part, long, directory, dice)
    expected = -signal.SIGKILL if name == "SIGKILL" else 0 if complete(directory) else REMAINS
    step = saved_steps(directory)[-1] if saved_steps(directory) else 0
    again = command(directory, directory.with_suffix(".again"))
    done = subprocess.run(again, env=environment(directory), capture_output=True, text=True, check=False)
    same = done.returncode == 0 and content(directory) == whole
    unexpected = err.strip().splitlines()[-1] if err.strip() else ""
    return Trial(
        name, part, code, expected, seconds, step, same, unexpected + done.stderr[-300:] * (not same)
    )


def table(trials: list[Trial]) -> str:
    """Return the trials of each signal and part as Markdown."""
    lines = [
        "| signal | when | trials | exit codes | as documented | identical | seconds to the exit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("SIGKILL", "SIGTERM"):
        for part in PARTS:
            some = [t for t in trials if (t.signal, t.part) == (name, part)]
            codes = ", ".join(
                f"{c} ({sum(t.code == c for t in some)})" for c in sorted({t.code for t in some})
            )
            right = sum(t.code == t.expected for t in some)
            same = sum(t.same for t in some)
            most = max((t.seconds for t in some), default=0.0)
            lines.append(
                f"| {name} | {part} | {len(some)} | {codes} | {right} | {same} | at most {most:.1f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Run all trials; return 1 if one of them did not end as documented."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--trials", type=int, default=20, help="of each signal")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.monotonic()
        run = command(root / "whole", root / "whole.marks")
        subprocess.run(run, env=environment(root / "whole"), check=True, capture_output=True)
        print(f"uninterrupted: {time.monotonic() - began:.1f} s")
        long = spans(read(root / "whole.marks"))
        print("seconds of each part:", {k: round(s, 2) for k, s in long.items()}, flush=True)
        whole = content(root / "whole")
        trials: list[Trial] = []
        for n in range(args.trials):
            for name in ("SIGKILL", "SIGTERM"):
                part = PARTS[n % len(PARTS)]
                found = trial(name, part, long, root / f"{name}-{n}", whole, dice)
                trials.append(found)
                print(f"{time.monotonic() - began:.0f} s: {found}", flush=True)
    print(table(trials))
    late = [t.seconds for t in trials if t.signal == "SIGTERM"]
    print(f"SIGTERM to the exit: at most {max(late, default=0.0):.1f} s")
    wrong = [t for t in trials if not t.same or t.code != t.expected]
    print(f"{len(trials) - len(wrong)} of {len(trials)} trials as documented")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
