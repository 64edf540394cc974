"""Write a run's metrics.jsonl and TensorBoard events (without TensorFlow), and show its progress."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genjax.core import Mean
from genjax.errors import CheckpointError, ConfigError
from genjax.training.events import Events
from genjax.training.metricslog import MetricsLog

WALL_CLOCK = ("seconds", "examples_per_second")
"""Fields of a line that differ between two runs of the same numbers."""


class Logbook:
    """Write metrics.jsonl and the event files of one run directory.

    A line is {"step", "split": "train" | "eval", "seconds", metric: value}: a number, a list (a mean for
    each class), or null where it is not finite.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tensorboard: bool = True,
        wandb: str | None = None,
        step: int = 0,
        again: bool = False,
    ):
        """Open the logs of a run that resumes at `step`, and remove the lines of later steps.

        Args:
          again: remove the evaluation of `step` as well, because it will be written again.

        Raises:
          ConfigError: `wandb` is given, and the package is not installed.
          CheckpointError: a file cannot be read or written.
        """
        self._directory = directory
        self._tensorboard = tensorboard
        self._metrics = MetricsLog(directory)
        self._events: Events | None = None
        self._step = step
        self._wandb = _wandb(wandb, directory) if wandb else None
        self.cut(step, again)

    def cut(self, step: int, again: bool = False) -> None:
        """Remove the lines of steps after `step`, and with `again` the evaluation of `step`.

        Lines that cannot be read are removed too, with a warning.

        Raises:
          CheckpointError: a file cannot be read or written.
        """
        self.close(wandb=False)

        def keep(line: Mapping[str, Any]) -> bool:
            repeated = again and line["step"] == step and line["split"] == "eval"
            return line["step"] <= step and not repeated

        with _writing(self._directory, step):
            self._metrics.cut(keep)
            if self._tensorboard:
                self._events = Events(self._directory, step)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Append one line and flush it. Raises CheckpointError if it cannot be written."""
        plain = {k: _plain(v) for k, v in values.items()}
        scalars = {f"{split}/{k}": v for k, v in plain.items() if isinstance(v, (int, float))}
        with _writing(self._directory, step):
            self._metrics.write({"step": step, "split": split, **plain})
            if self._events is not None:
                self._events.scalars(step, scalars)
        self._step = step
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def sync(self) -> None:
        """Return when every line is on the disk. Raises CheckpointError if one is not."""
        with _writing(self._directory, self._step):
            self._metrics.sync()

    def close(self, wandb: bool = True) -> None:
        """Close the files; with `wandb` also the Weights & Biases run.

        Raises:
          CheckpointError: a line cannot be written.
        """
        events = self._events
        self._events = None
        with _writing(self._directory, self._step), contextlib.ExitStack() as last:
            if events is not None:
                last.callback(events.close)
            last.callback(self._metrics.close)
        if wandb and self._wandb is not None:
            self._wandb.finish()


@contextlib.contextmanager
def _writing(directory: Path, step: int) -> Iterator[None]:
    """Turn an error of the file system into a CheckpointError that names the step."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"the log of step {step} in {error.filename or directory} cannot be written: "
            f"{error.strerror or error}",
            "free space or give the right to write, and run again: it goes on from the last checkpoint",
        ) from error


def _plain(x: Any) -> Any:
    if isinstance(x, (list, tuple)) or getattr(x, "ndim", 0):
        return [_plain(v) for v in x]
    x = x.item() if hasattr(x, "item") else x
    return None if isinstance(x, float) and not math.isfinite(x) else x


def require_wandb(project: str | None) -> None:
    """Raise ConfigError if a project is named, and the package is not installed."""
    if project is not None and importlib.util.find_spec("wandb") is None:
        raise ConfigError("train.wandb is set and wandb is not installed", "pip install genjax-lab[wandb]")


def _wandb(project: str, directory: Path) -> Any:
    require_wandb(project)
    import wandb  # pyright: ignore[reportMissingImports]

    return wandb.init(
        project=project, dir=str(directory), name=directory.name, id=directory.name, resume="allow"
    )


class Window:
    """Sum means since the last line. Checkpoints hold the sums: a resumed run writes the same line."""

    def __init__(self, saved: Mapping[str, Any] | None = None):
        host: Any = np.asarray
        self.sums = {k: Mean(host(total), host(count)) for k, (total, count) in (saved or {}).items()}

    def add(self, means: Mapping[str, Mean]) -> None:
        """Add the means of one step."""
        for k, m in means.items():
            self.sums[k] = self.sums[k] + m if k in self.sums else m

    def saved(self) -> dict[str, Any]:
        """Return the sums as plain data, without rounding: the argument of another `Window`."""
        return {k: [np.asarray(m.total).tolist(), np.asarray(m.count).tolist()] for k, m in self.sums.items()}

    def take(self) -> dict[str, Any]:
        """Return the means of everything counted, and empty the window."""
        sums = self.sums
        self.sums = {}
        return values(sums)


def values(means: Mapping[str, Mean]) -> dict[str, Any]:
    """Return total / count of each mean that counted anything."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return {
            k: np.asarray(m.total) / np.where(np.asarray(m.count) == 0, 1, m.count)
            for k, m in means.items()
            if np.any(m.count)
        }


class Progress:
    """Show a bar with speed and remaining time on a terminal, or a plain line every 10 s elsewhere.

    Attributes:
      total: steps of the run; may change while it goes on.
    """

    def __init__(self, title: str, total: int, start: int, batch: int, show: bool = True):
        self.total = total
        self._batch = batch
        self._title = title
        self._bar = None
        self._show = show
        self._next = 0.0
        self._last = (time.monotonic(), start)
        if show and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("[bold]{task.description}"),
                progress.BarColumn(),
                progress.TextColumn("{task.completed}/{task.total}"),
                progress.TextColumn("{task.fields[speed]}"),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[loss]}"),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._task = self._bar.add_task(title, total=total, completed=start, speed="compiling", loss="")
            self._bar.start()

    def __call__(self, step: int, text: str = "") -> None:
        """Show the number of steps taken, at most twice a second."""
        now = time.monotonic()
        if not self._show or (now < self._next and step < self.total):
            return
        then, before = self._last
        speed = (step - before) * self._batch / max(now - then, 1e-9)
        self._last = (now, step)
        if self._bar is not None:
            self._next = now + 0.5
            self._bar.update(
                self._task, completed=step, total=self.total, speed=f"{speed:,.0f} examples/s", loss=text
            )
            self._bar.refresh()
        elif step != before:
            self._next = now + 10.0
            left = (self.total - step) * (now - then) / (step - before)
            print(
                f"{self._title} step {step}/{self.total}  {speed:,.0f} examples/s  {left:,.0f} s left  "
                f"{text}".rstrip(),
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
