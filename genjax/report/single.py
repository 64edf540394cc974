"""Write the report of one run: its samples, curves and scores, and how to repeat it, in one page."""

from __future__ import annotations

from pathlib import Path

from genjax import __version__, files
from genjax.errors import DataError
from genjax.report import protocol, runs, samples, sections
from genjax.report.page import page
from genjax.report.tables import columns


def write(run_directory: str | Path) -> Path:
    """Write report.html into a run directory, finished or not; return its path.

    Raises:
      DataError: not a run directory, or a file that cannot be read; names it.
    """
    run = runs.run(run_directory)
    if run.status == runs.WAITING:
        raise DataError(
            f"{run.directory} has neither config.json nor metrics.jsonl",
            "give a directory that `genjax train` wrote",
        )
    alone = runs.Comparison(run.directory, {"dataset": _dataset(run)}, (run,), None, None)
    found = columns(alone)
    last = run.progress[0]
    text = page(
        run.name,
        " · ".join(w for w in ("genjax run", run.family, _dataset(run)) if w),
        f"One run, {run.state}" + (f"; the last step on record is {last}." if run.samples else "."),
        samples.hero(alone, found),
        [
            sections.scores(alone, found) if found else None,
            sections.alarms(alone),
            samples.samples(alone),
            samples.latent(run),
            samples.edits(run),
            sections.curves(alone),
            samples.neighbours(alone, found),
            sections.likelihoods(alone, found),
            protocol.protocol(alone, found),
            protocol.reproduce({}, [run]),
        ],
        f"Written by genjax {__version__} from the files of {run.directory.name}/.",
    )
    return files.write_text(run.directory / "report.html", text)


def _dataset(run: runs.Run) -> str:
    data = run.config.get("data")
    return str(run.dataset.get("name") or (data.get("name") if isinstance(data, dict) else "") or "")
