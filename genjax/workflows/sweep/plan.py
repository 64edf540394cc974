"""Describe a sweep: the settings, the seeds and the run directories. sweep.json holds it.

sweep.json is an object:

    name, config (the name that was given), raw (that config with its overrides), seeds
    fields       the fields that vary, as dotted names
    scales       {field: "uniform" or "log"} of those that were drawn from a range
    score        the score that the settings are compared by; null for the final evaluation loss
    loss         the name of that loss in metrics.jsonl
    settings     [{values: {field: value}, name, runs: [directory of each seed, relative]}]
    command, dataset, environment
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax import files
from genjax.errors import ConfigError, DataError
from genjax.settings import Settings, complete
from genjax.workflows.directory import differences
from genjax.workflows.sweep import grid

FILE = "sweep.json"


@dataclasses.dataclass(frozen=True)
class Point:
    """Hold one run of a sweep.

    Attributes:
      values: {field: value}.
      seed: which of the seeds, from 0.
    """

    values: dict[str, Any]
    seed: int

    @property
    def name(self) -> str:
        """The name of its directory."""
        return f"{grid.slug(self.values)},seed={self.seed}"

    @property
    def label(self) -> str:
        """The setting and the seed in words."""
        return f"{grid.label(self.values)}, seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Hold what a sweep runs.

    Attributes:
      name: of the sweep, whose directory is runs/sweep-NAME.
      config: the config file or short name, as it was given.
      raw: its content with the overrides.
      settings: {field: value} each.
      seeds: runs of each setting.
      scales: {field: "uniform" or "log"} of the fields that were drawn from a range.
      score: the score that the settings are compared by; None for the final evaluation loss.
      loss: the name of that loss in metrics.jsonl; empty if there is a score.
    """

    name: str
    config: str
    raw: dict[str, Any]
    settings: list[dict[str, Any]]
    seeds: int = 1
    scales: dict[str, str] = dataclasses.field(default_factory=dict)
    score: str | None = None
    loss: str = ""

    @property
    def fields(self) -> list[str]:
        """The fields that vary."""
        return list(self.settings[0])

    @property
    def points(self) -> list[Point]:
        """All runs: every setting with the first seed, then with the second, and so on.

        A sweep that is stopped early has then compared all settings with fewer seeds.
        """
        return [Point(values, seed) for seed in range(self.seeds) for values in self.settings]

    def seeds_of(self, values: Mapping[str, Any]) -> list[Point]:
        """Return the runs of one setting."""
        return [Point(dict(values), seed) for seed in range(self.seeds)]

    def settings_of(self, point: Point) -> Settings:
        """Return the complete config of a run.

        Seed i is added to the config's `seed` and `data.seed`: runs differ in initialisation, noise and the
        order of the rows.

        Raises:
          ConfigError: a value that the config refuses; names the setting.
        """
        raw = copy.deepcopy(self.raw)
        try:
            for field, x in point.values.items():
                put(raw, field, x)
            base = complete(raw)
            put(raw, "seed", base.seed + point.seed)
            put(raw, "data.seed", base.data.seed + point.seed)
            return complete(raw)
        except ConfigError as error:
            raise ConfigError(f"{grid.label(point.values)}: {error.message}", error.hint) from error

    def to_json(self) -> dict[str, Any]:
        """Return the plan as sweep.json holds it."""
        settings = [
            {
                "values": values,
                "name": grid.label(values),
                "runs": [point.name for point in self.seeds_of(values)],
            }
            for values in self.settings
        ]
        return {**dataclasses.asdict(self), "fields": self.fields, "settings": settings}


def put(raw: dict[str, Any], field: str, x: Any) -> None:
    """Set a dotted field in nested mappings.

    Raises:
      ConfigError: a part of the name is a value already.
    """
    node = raw
    *path, last = field.split(".")
    for part in path:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise ConfigError(f"{field!r} cannot be swept: {part!r} is a value, not a section")
    node[last] = x


def make(
    config: str,
    raw: Mapping[str, Any],
    *,
    lists: Sequence[str] = (),
    ranges: Sequence[str] = (),
    draws: int = 0,
    seeds: int = 1,
    score: str | None = None,
) -> Plan:
    """Return the plan of a command.

    Args:
      config: the config file or short name.
      raw: its content with overrides.
      lists, ranges: the --grid and --range options (see grid.py).
      draws: of the ranges.

    Raises:
      ConfigError: an option or a config that is refused.
    """
    if not 1 <= seeds <= 1000:
        raise ConfigError(f"--seeds={seeds} is not a number of runs", "give 1 to 1000")
    values = grid.lists(lists)
    drawn = grid.ranges(ranges)
    base = complete(raw)
    whole = {field: r.whole and isinstance(_current(base.raw, field), int) for field, r in drawn.items()}
    settings = grid.combine(values, drawn, draws, whole)
    scales = {field: r.scale for field, r in drawn.items()}
    name = base.name.replace("/", "-")
    return Plan(name, config, _plain(raw), _plain(settings), seeds, scales, score)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it. Raises ConfigError if JSON cannot hold it."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"a value cannot be written to JSON: {error}", "use numbers, text and lists"
        ) from error


def _current(raw: Mapping[str, Any], field: str) -> Any:
    """Return the value that a field has in a complete config; None if it has none."""
    node: Any = raw
    for part in field.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def read(where: Path) -> Plan | None:
    """Return the plan in a sweep's directory; None if there is none.

    Raises:
      DataError: sweep.json holds something else.
    """
    path = where / FILE
    try:
        held = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "restore it, or sweep in a new directory"
        ) from error
    try:
        known = {f.name: held[f.name] for f in dataclasses.fields(Plan)}
        known["settings"] = [dict(s["values"]) for s in held["settings"]]
        plan = Plan(**known)
        assert plan.points
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not describe a sweep: {error!r}", "sweep in a new directory") from error
    return plan


def merge(old: Plan, new: Plan, where: Path) -> Plan:
    """Return the plan of a directory that is used again: with the settings and seeds of both.

    Raises:
      ConfigError: the sweeps differ in anything else but the score.
    """
    fields = {"fields": sorted(old.fields)}, {"fields": sorted(new.fields)}
    for key, was, now in [*differences(old.raw, new.raw), *differences(*fields)]:
        raise ConfigError(
            f"{where} holds a sweep with {key}={was!r}, and this one has {now!r}",
            "give --dir another directory; in the same one, only values and seeds can be added",
        )
    added = [{field: s[field] for field in old.fields} for s in new.settings if s not in old.settings]
    return dataclasses.replace(
        new,
        settings=[*old.settings, *added],
        seeds=max(old.seeds, new.seeds),
        scales={**old.scales, **new.scales},
    )


def with_loss(plan: Plan, loss: str) -> Plan:
    """Return the plan with the name of the final evaluation loss."""
    return dataclasses.replace(plan, loss=loss)


def write(where: Path, plan: Plan, about: Mapping[str, Any]) -> None:
    """Write sweep.json."""
    files.write_json(where / FILE, {**plan.to_json(), **about})
