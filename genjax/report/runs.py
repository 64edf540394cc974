"""Run directories as values: plain files are read here and nowhere else in the report.

A run that is not finished has fewer files and is read as far as it goes. A file that is there and
cannot be read is one DataError that names it.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genjax.errors import DataError
from genjax.evaluation.scores import Score
from genjax.evaluation.scores import read as read_scores

if TYPE_CHECKING:
    import numpy as np

REGENERATE = "delete the file and repeat the command that wrote it"
WAITING, TRAINING, SAMPLED, SCORED = "waiting", "training", "sampled", "scored"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory: its config, its metrics, its scores and its samples, as far as they are there."""

    directory: Path
    name: str
    family: str
    description: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    scores: tuple[Score, ...] | None
    label: str = ""
    """What the reader is shown: the family where no other entry is of it, else the name."""

    @property
    def status(self) -> str:
        """waiting (nothing yet), training, sampled (not scored) or scored."""
        if self.scores is not None:
            return SCORED
        if self.samples is not None:
            return SAMPLED
        return TRAINING if self.config or self.metrics else WAITING

    @property
    def progress(self) -> tuple[int, int]:
        """(last step that was logged, steps of the config or 0)."""
        last = max((int(m["step"]) for m in self.metrics), default=0)
        train = self.config.get("train")
        return last, int((train or {}).get("steps") or 0) if isinstance(train, dict) else 0

    @property
    def state(self) -> str:
        """The status in words, with the step while it trains."""
        step, of = self.progress
        if self.status == TRAINING:
            return (
                f"trained ({step} steps)" if of and step >= of else f"training (step {step} of {of or '?'})"
            )
        return "sampled and not scored" if self.status == SAMPLED else self.status

    @property
    def examples(self) -> int:
        """Training examples seen so far: steps times the batch; 0 where the config does not say it."""
        data = self.config.get("data")
        return self.progress[0] * int(data.get("batch") or 0) if isinstance(data, dict) else 0

    @property
    def knobs(self) -> dict[str, Any]:
        """The sampler's settings."""
        return dict(self.config.get("sample") or {})

    @property
    def levels(self) -> int | None:
        """The grey levels of the dataset's images, where dataset.json says them."""
        spec = self.dataset.get("spec") or {}
        image = (spec.get("elements") or spec).get("image") or {}
        return int(image["levels"]) if image.get("levels") else None

    @cached_property
    def samples(self) -> dict[str, np.ndarray] | None:
        """samples/samples.npz: `image` (N, H, W, C) and perhaps `label` (N,); None where it is missing."""
        return arrays(self.directory / "samples" / "samples.npz")

    @cached_property
    def neighbours(self) -> dict[str, np.ndarray] | None:
        """neighbours.npz: `image`, `neighbour` (M, H, W, C) and `distance` (M,); None where missing."""
        for path in (self.directory / "samples" / "neighbours.npz", self.directory / "neighbours.npz"):
            if path.exists():
                return arrays(path)
        return None

    def pictures(self) -> list[tuple[int, Path]]:
        """The sample pictures that training left, (step, path) in order of step."""
        out = []
        for path in (self.directory / "samples").glob("*.png"):
            digits = "".join(c for c in path.stem if c.isdigit())
            if digits:
                out.append((int(digits), path))
        return sorted(out)

    def score(self, name: str) -> Score | None:
        return next((s for s in self.scores or () if s.name == name), None)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A directory of `genjax compare`: compare.json, the entries' runs, the floor and the real samples."""

    directory: Path
    about: dict[str, Any]
    entries: tuple[Run, ...]
    floor: tuple[Score, ...] | None
    real: dict[str, np.ndarray] | None

    @property
    def labels(self) -> dict[str, str]:
        """{entry name: what the reader is shown}."""
        return {run.name: run.label for run in self.entries}

    @property
    def levels(self) -> int:
        """The grey levels of the images: the first that a dataset.json says, else the real images' own."""
        said = [run.levels for run in self.entries if run.levels]
        if said:
            return said[0]
        images = [s["image"] for s in (self.real, *(r.samples for r in self.entries)) if s and "image" in s]
        return max(2, *(int(i.max()) + 1 for i in images)) if images else 256


def comparison(directory: str | Path) -> Comparison:
    """Reads a comparison.

    Raises:
      DataError: compare.json is missing, or a file that is there cannot be read.
    """
    directory = Path(directory)
    about = load_json(directory / "compare.json")
    if about is None:
        raise DataError(f"no compare.json in {directory}", "give the directory that `genjax compare` wrote")
    if not isinstance(about, dict) or not isinstance(about.get("entries"), dict):
        raise DataError(f"{directory / 'compare.json'} has no entries", REGENERATE)
    entries = []
    for name, entry in about["entries"].items():
        where = directory / str(entry.get("run") or name)
        entries.append(
            run(where, name, str(entry.get("family") or name), str(entry.get("description") or ""))
        )
    families = [entry.family for entry in entries]
    entries = [
        dataclasses.replace(e, label=e.family if families.count(e.family) == 1 else e.name) for e in entries
    ]
    floor = directory / str((about.get("floor") or {}).get("scores") or "floor/scores.json")
    return Comparison(
        directory, about, tuple(entries), scores(floor) or None, arrays(directory / "real" / "samples.npz")
    )


def run(directory: str | Path, name: str = "", family: str = "", description: str = "") -> Run:
    """Reads one run directory, as far as it goes.

    Raises:
      DataError: a file that is there cannot be read.
    """
    directory = Path(directory)
    config = load_json(directory / "config.json") or {}
    model = config.get("model") or {}
    name = name or str(config.get("name") or directory.name)
    return Run(
        directory=directory,
        name=name,
        label=name,
        family=family or str(model.get("name") or directory.name),
        description=description,
        config=config,
        dataset=load_json(directory / "dataset.json") or {},
        metrics=tuple(load_lines(directory / "metrics.jsonl")),
        scores=scores(directory / "scores.json"),
    )


def scores(path: Path) -> tuple[Score, ...] | None:
    """scores.json as Scores; None where the file is missing.

    Raises:
      DataError: not a list of scores.
    """
    try:
        return tuple(read_scores(path))
    except FileNotFoundError:
        return None


def load_json(path: Path) -> Any:
    """The file's value, None where it is missing. DataError where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}", REGENERATE) from error


def load_lines(path: Path) -> list[dict[str, Any]]:
    """metrics.jsonl. A last line without its newline is being written now and is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", REGENERATE) from error
    out = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}, is not a record with a step: {error}", REGENERATE
            ) from error
        out.append(record)
    return out


def arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an npz, None where the file is missing. DataError where it cannot be read."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        return None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as arrays: {error}", REGENERATE) from error
