"""Decide what a comparison keeps of an earlier session in its directory, and what it begins again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import ConfigError
from genjax.settings import complete
from genjax.workflows import directory as directories
from genjax.workflows.entries import Config, Training

SHARED = ("name", "seed", "seeds", "budget")
"""Fields that a comparison keeps for life."""
MEASURED = ("features", "evaluate")
"""Fields that it keeps once an entry is scored."""
TRAINED = (*directories.FIXED, "train", "steps", "passes")
"""What the training of an entry depends on: sections of its config, and its limits beside the budget."""
ANOTHER = "give --dir another directory, or remove that one"


def failures(where: Path) -> dict[str, str]:
    """Return {entry: error} of the entries that failed in the earlier session."""
    try:
        about = json.loads((where / "compare.json").read_text("utf-8"))
        return {name: e["error"] for name, e in about["entries"].items() if e.get("error")}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def keep(where: Path, config: Config, found: Mapping[str, Sequence[Training]]) -> None:
    """Write the comparison's config, and remove what a changed config has made worthless.

    What is finished is never removed. An entry that failed begins again if its config has changed, and goes
    on where it stopped if it has not.

    Raises:
      ConfigError: the directory holds another comparison, or an entry that did not fail with another config.
    """
    old = _saved(where)
    failed = failures(where)
    _check_shared(where, old, config)
    _check_measured(where, old, config, found)
    for name, each in found.items():
        if name not in failed:
            _check_entry(where, name, each)
    for name, each in found.items():
        if name in failed:
            _begin_again(where, each)
    files.write_json(where / directories.CONFIG, _plain(config))


def _saved(where: Path) -> dict[str, Any]:
    return directories.saved_config(where) if (where / directories.CONFIG).exists() else {}


def _plain(config: Config) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _check_shared(where: Path, old: Mapping[str, Any], config: Config) -> None:
    """Raise ConfigError if the directory holds a comparison with another budget, seed or name."""
    new = _plain(config)
    for key in SHARED:
        if old and old.get(key, new[key]) != new[key]:
            raise ConfigError(
                f"{where} holds a comparison with another {key}: {old[key]!r}, here {new[key]!r}", ANOTHER
            )


def _check_measured(
    where: Path, old: Mapping[str, Any], config: Config, found: Mapping[str, Sequence[Training]]
) -> None:
    """Let another way of measuring replace the old one if nothing was scored with it but the floor.

    Raises:
      ConfigError: an entry was scored.
    """
    new = _plain(config)
    changed = [key for key in MEASURED if old and old.get(key) != new[key]]
    if not changed:
        return
    scored = [t.run for each in found.values() for t in each if _scores(where, t.run).exists()]
    if scored:
        key = changed[0]
        raise ConfigError(
            f"{where / scored[0]} was scored with another {key}: {old.get(key)!r}, here {new[key]!r}", ANOTHER
        )
    _scores(where, "floor").unlink(missing_ok=True)


def _check_entry(where: Path, name: str, each: Sequence[Training]) -> None:
    """Raise ConfigError if an entry that did not fail was begun with another config."""
    for training in each:
        changed = _changed(where / training.run, training)
        if not _scores(where, training.run).exists():  # it may be sampled and measured in another way
            changed = [c for c in changed if c[0].split(".")[0] in (*directories.FIXED, "steps", "passes")]
        if changed:
            key, was, now = changed[0]
            raise ConfigError(
                f"entry {name!r} in {where / training.run} has {key}={was!r}, and its config has {now!r}",
                f"give --dir another directory, or remove {where / training.run} to train it again",
            )


def _begin_again(where: Path, each: Sequence[Training]) -> None:
    """Remove the trainings and scores of an entry that a change of its config has made worthless."""
    for training in each:
        run = where / training.run
        changed = {key.split(".")[0] for key, _, _ in _changed(run, training)}
        if changed & set(TRAINED):
            shutil.rmtree(run)
        elif changed:
            _scores(where, training.run).unlink(missing_ok=True)


def _changed(run: Path, training: Training) -> list[tuple[str, Any, Any]]:
    """Return (key, old value, new value) of what differs from what a run was begun with; none if it was not.

    The limits in its config.json are those of the budget; what the entry asked for is in budget.json.
    """
    if not (run / directories.CONFIG).exists():
        return []
    try:
        old = complete(directories.saved_config(run)).raw
    except ConfigError as error:  # of a version with other fields
        return [("train", error.message, "a config that can be read")]
    asked = _note(run)
    before = {**_unlimited(old), "steps": asked.get("asked"), "passes": asked.get("passes")}
    new = training.settings
    after = {**_unlimited(new.raw), "steps": new.train.steps, "passes": training.passes}
    return directories.differences(before, after)


def _note(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "budget.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _unlimited(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without its name and the limits of its training, as JSON has it."""
    plain = json.loads(json.dumps(raw))
    plain["train"] = {k: v for k, v in plain["train"].items() if k not in ("steps", "seconds", "passes")}
    del plain["name"]
    return plain


def _scores(where: Path, run: str) -> Path:
    return where / run / "scores.json"
