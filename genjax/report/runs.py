"""Read run directories: the only part of the report that opens their files.

A run that is not finished has fewer files and is read as far as it goes. A file that exists and cannot be
read is one DataError that names it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genjax.errors import DataError
from genjax.evaluation.scores import Score
from genjax.evaluation.scores import read as read_scores
from genjax.spec import Spec, from_json

if TYPE_CHECKING:
    import numpy as np

REGENERATE = "delete the file and repeat the command that wrote it"
WAITING = "waiting"
TRAINING = "training"
SAMPLED = "sampled"
SCORED = "scored"
FAILED = "failed"
_PICTURE = re.compile(r"step_(\d+)(?:_(.+))?")


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold one run directory: its config, metrics, scores and samples, as far as they exist.

    Attributes:
      label: what the reader is shown: the family if no other entry is of it, else the name.
      error: why the entry of a comparison failed; empty for one that did not.
      budget: budget.json: how a comparison limited the training; empty for another run.
      pace: pace.json: what a run that is limited by seconds decided; empty for another run.
      repeats: the other trainings of the same entry, with other seeds. `scores` are then over all of them.
    """

    directory: Path
    name: str
    family: str
    description: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    scores: tuple[Score, ...] | None
    label: str = ""
    error: str = ""
    budget: dict[str, Any] = dataclasses.field(default_factory=dict)
    pace: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeats: tuple[Run, ...] = ()

    @property
    def trainings(self) -> tuple[Run, ...]:
        """This run and its repeats."""
        return (self, *self.repeats)

    @property
    def asked(self) -> int:
        """Steps that the config asked for before a budget limited them; 0 if no budget did."""
        return int(self.budget.get("asked") or 0)

    @property
    def seconds(self) -> float:
        """Seconds that the training took, those of its stages included: as far as they are logged."""
        own = max((float(m.get("seconds") or 0) for m in self.metrics), default=0.0)
        return own + float(self.budget.get("stage_seconds") or 0)

    @property
    def status(self) -> str:
        """One of failed, scored, sampled (not scored), training and waiting (no file yet)."""
        if self.error:
            return FAILED
        if self.scores is not None:
            return SCORED
        if self.samples is not None:
            return SAMPLED
        return TRAINING if self.config or self.metrics else WAITING

    @property
    def pending(self) -> bool:
        """True if the run is neither scored nor failed."""
        return self.status not in (SCORED, FAILED)

    @property
    def progress(self) -> tuple[int, int]:
        """(last step that was logged, last step of the run as its config or pace.json has it, or 0)."""
        last = max((int(m["step"]) for m in self.metrics), default=0)
        decided = self.pace.get("decisions")
        if decided:
            return last, int(decided[-1]["end"])
        train = self.config.get("train")
        return last, int((train or {}).get("steps") or 0) if isinstance(train, dict) else 0

    @property
    def state(self) -> str:
        """The status in words, with the step while it trains and the error of a failed run."""
        if self.status == TRAINING:
            step, of = self.progress
            done = of and step >= of
            return f"trained ({step} steps)" if done else f"training (step {step} of {of or '?'})"
        if self.status == FAILED:
            return f"failed: {self.error}"
        return "sampled and not scored" if self.status == SAMPLED else self.status

    @property
    def examples(self) -> int:
        """Training examples seen so far: steps times the batch; 0 if the config does not give it."""
        return self.progress[0] * self.batch

    @property
    def batch(self) -> int:
        """Rows of a training batch; 0 if the config does not give it."""
        data = self.config.get("data")
        return int(data.get("batch") or 0) if isinstance(data, dict) else 0

    @property
    def options(self) -> dict[str, Any]:
        """The options of the sampler."""
        return dict(self.config.get("sample") or {})

    @cached_property
    def spec(self) -> Spec:
        """The form of the data, from dataset.json; empty if it is missing.

        Raises:
          DataError: dataset.json holds something else.
        """
        saved = self.dataset.get("spec") or {"elements": {}}
        try:
            return from_json(saved)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            path = self.directory / "dataset.json"
            raise DataError(f"{path} does not describe data: {error!r}", REGENERATE) from error

    @cached_property
    def samples(self) -> dict[str, np.ndarray] | None:
        """samples/samples.npz: a column for each target and given condition; None if it is missing."""
        return arrays(self.directory / "samples" / "samples.npz")

    @cached_property
    def neighbours(self) -> dict[str, np.ndarray] | None:
        """samples/neighbours.npz: `element` (its name), `sample`, `neighbour`, `distance` (M); or None."""
        return arrays(self.directory / "samples" / "neighbours.npz")

    @cached_property
    def captions(self) -> list[str] | None:
        """A text for each of the first samples, from samples/final_captions.json; None if it is missing."""
        return captions(self.directory / "samples" / "final_captions.json")

    def pictures(self, name: str | None = None) -> list[tuple[int, Path]]:
        """Return the sample pictures that training saved, as (step, path) in order of step.

        Args:
          name: of the element, where a picture is saved for each of several; None for all pictures.
        """
        out = []
        for path in (self.directory / "samples").glob("step_*.png"):
            found = _PICTURE.fullmatch(path.stem)
            if found and (name is None or found[2] in (None, name)):
                out.append((int(found[1]), path))
        return sorted(out)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Hold a directory of `genjax compare`: compare.json, the entries' runs, the floor and real rows."""

    directory: Path
    about: dict[str, Any]
    entries: tuple[Run, ...]
    floor: tuple[Score, ...] | None
    real: dict[str, np.ndarray] | None

    @property
    def labels(self) -> dict[str, str]:
        """{entry name: what the reader is shown}."""
        return {run.name: run.label for run in self.entries}

    @cached_property
    def captions(self) -> list[str] | None:
        """A text for each of the first real rows, from real/final_captions.json; None if it is missing."""
        return captions(self.directory / "real" / "final_captions.json")

    @property
    def spec(self) -> Spec:
        """The form of the data, which all entries share; empty before one has begun."""
        return next((run.spec for run in self.entries if run.spec.elements), Spec({}))


def comparison(directory: str | Path) -> Comparison:
    """Read a comparison.

    Raises:
      DataError: compare.json is missing, or a file that is there cannot be read.
    """
    directory = Path(directory)
    about = load_json(directory / "compare.json")
    if about is None:
        raise DataError(f"no compare.json in {directory}", "give the directory that `genjax compare` wrote")
    if not isinstance(about, dict) or not isinstance(about.get("entries"), dict):
        raise DataError(f"{directory / 'compare.json'} has no entries", REGENERATE)
    found = [_entry(directory, name, entry) for name, entry in about["entries"].items()]
    families = [entry.family for entry in found]
    entries = tuple(
        dataclasses.replace(e, label=e.family if families.count(e.family) == 1 else e.name) for e in found
    )
    floor = directory / str((about.get("floor") or {}).get("scores") or "floor/scores.json")
    real = arrays(directory / "real" / "samples.npz")
    return Comparison(directory, about, entries, scores(floor) or None, real)


def _entry(directory: Path, name: str, entry: dict[str, Any]) -> Run:
    """Return the run of one entry of compare.json."""
    where = directory / str(entry.get("run") or name)
    found = run(where, name, str(entry.get("family") or name), str(entry.get("description") or ""))
    changes: dict[str, Any] = {"error": str(entry.get("error") or "")}
    if entry.get("repeats"):
        changes["repeats"] = tuple(run(directory / str(other), name) for other in entry["repeats"])
        changes["scores"] = scores(directory / str(entry.get("scores")))
    return dataclasses.replace(found, **changes)


def run(directory: str | Path, name: str = "", family: str = "", description: str = "") -> Run:
    """Read one run directory, as far as it goes.

    Raises:
      DataError: a file that is there cannot be read.
    """
    directory = Path(directory)
    config = load_object(directory / "config.json")
    model = config.get("model")
    model = model if isinstance(model, dict) else {}
    name = name or str(config.get("name") or directory.name)
    return Run(
        directory=directory,
        name=name,
        label=name,
        family=family or str(model.get("name") or directory.name),
        description=description,
        config=config,
        dataset=load_object(directory / "dataset.json"),
        metrics=tuple(load_lines(directory / "metrics.jsonl")),
        scores=scores(directory / "scores.json"),
        budget=load_object(directory / "budget.json"),
        pace=load_object(directory / "pace.json"),
    )


def scores(path: Path) -> tuple[Score, ...] | None:
    """Return the scores of a scores.json; None if the file is missing.

    Raises:
      DataError: not a list of scores.
    """
    try:
        return tuple(read_scores(path))
    except FileNotFoundError:
        return None


def load_json(path: Path) -> Any:
    """Return the file's value; None if it is missing.

    Raises:
      DataError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}", REGENERATE) from error


def load_object(path: Path) -> dict[str, Any]:
    """Return the file's object; empty if the file is missing.

    Raises:
      DataError: the file is not JSON, or holds something else.
    """
    if not path.exists():
        return {}
    found = load_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no object, but {type(found).__name__}", REGENERATE)
    return found


def load_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl; none if the file is missing.

    Raises:
      DataError: a line is not a record with a step.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", REGENERATE) from error
    # A last line without its newline is still being written: it is left out.
    lines = enumerate(text.split("\n")[:-1], 1)
    return [_record(path, number, line) for number, line in lines if line.strip()]


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        record["step"] = int(record["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}, line {number}, is not a record with a step: {error}", REGENERATE) from error
    return record


def captions(path: Path) -> list[str] | None:
    """Return the list of texts in a JSON file; None if it is missing.

    Raises:
      DataError: the file is not a list.
    """
    found = load_json(path)
    if found is None:
        return None
    if not isinstance(found, list):
        raise DataError(f"{path} is not a list of texts", REGENERATE)
    return [str(text) for text in found]


def arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of an npz; None if the file is missing.

    Raises:
      DataError: the file cannot be read as arrays.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        return None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as arrays: {error}", REGENERATE) from error
