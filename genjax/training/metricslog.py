"""Read and write metrics.jsonl: one JSON object per line, damaged lines left out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from genjax import files

FILE = "metrics.jsonl"
log = logging.getLogger("genjax")


def read(directory: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return (the lines of a run's metrics.jsonl, the numbers from 1 of lines that are damaged).

    A line is damaged if it is not UTF-8, not JSON, or no object with a `step` and a `split`: a process that
    was killed leaves a part of a line, and a failing disk anything. Nothing is returned for a missing file.

    Raises:
      OSError: the file cannot be read.
    """
    path = directory / FILE
    content = path.read_bytes() if path.exists() else b""
    lines: list[dict[str, Any]] = []
    damaged: list[int] = []
    for number, text in enumerate(content.split(b"\n"), 1):
        if not text.strip():
            continue
        line = _parse(text)
        if line is None:
            damaged.append(number)
        else:
            lines.append(line)
    return lines, damaged


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("split"), str):
        return None
    step = line.get("step")
    return line if isinstance(step, int) and not isinstance(step, bool) else None


class MetricsLog:
    """Append to the metrics.jsonl of a run, which one process does."""

    def __init__(self, directory: Path):
        """Prepare the log; no file is touched before `cut`."""
        self._directory = directory
        self._file: TextIO | None = None

    def cut(self, keep: Callable[[Mapping[str, Any]], bool]) -> None:
        """Remove the lines that are damaged, with a warning, and those not to `keep`; open for appending.

        Raises:
          OSError: the file cannot be read or written.
        """
        self.close()
        path = self._directory / FILE
        lines, damaged = read(self._directory)
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            log.warning("%s: removed line %d%s, which cannot be read", path, damaged[0], more)
        files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines if keep(line)))
        self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line and flush it. Raises OSError if it cannot be written."""
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Return when every line is on the disk. Raises OSError if one is not."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Raises OSError if a line cannot be written."""
        file = self._file
        self._file = None
        if file is not None:
            file.close()
