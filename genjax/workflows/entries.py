"""Describe a comparison: its entries, and the config and directory of each of their trainings."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, NamedTuple

from genjax import evaluation
from genjax.config import Folder, Name, Positive, Range, Seed, build
from genjax.errors import ConfigError
from genjax.evaluation.config import Extractor
from genjax.settings import Settings, complete, load
from genjax.workflows.budget import Budget


@dataclasses.dataclass(frozen=True)
class Entry:
    """Describe one model of a comparison.

    Attributes:
      config: its config file or short name, with its size.
      family: as the report names it.
      description: a phrase on what it is.
      passes: at most so many passes over the data, whatever the budget (a counting model needs one).
      overrides: "section.field=value" over its config.
    """

    config: Name
    family: str = ""
    description: str = ""
    passes: Positive | None = None
    overrides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Config:
    """Configure a comparison.

    Attributes:
      name: of its directory, runs/compare-<name>.
      title: of the report.
      seed: of every entry's training.
      seeds: trainings of every entry, with the seeds `seed`, `seed` + 1 and so on. Each gets the whole
        budget. With several, the intervals of the report cover the variation between trainings.
      budget: of every training.
      features: the feature extractor, e.g. "pixels" or "classifier:digits/classifier"; None for the
        dataset's default.
      entries: {name: Entry}, in the report's order.
      evaluate: fields of the evaluate section, the same for all.
      floor: also score held-out real rows, as many as there are samples.
    """

    name: Folder
    entries: dict[Folder, Entry]
    title: str = ""
    seed: Seed = 0
    seeds: Annotated[int, Range(least=1, most=10_000)] = 1
    budget: Budget = dataclasses.field(default_factory=Budget)
    features: Extractor | None = None
    evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)
    floor: bool = True

    @property
    def protocol(self) -> evaluation.Config:
        """The evaluate section that all entries share."""
        return build(evaluation.Config, self.evaluate, "evaluate")


class Training(NamedTuple):
    """Describe one training of an entry.

    Attributes:
      settings: its config, before the budget limits it.
      run: its directory, relative to that of the comparison.
      passes: of its entry.
    """

    settings: Settings
    run: str
    passes: float | None = None


def read(name: str, overrides: list[str]) -> Config:
    """Return the comparison of a config file.

    Raises:
      ConfigError: an unknown key, a value out of its range, or no entry.
    """
    config = build(Config, load(name, overrides), "config")
    if not config.entries:
        raise ConfigError(f"{name} compares nothing", "give it config.entries")
    for entry in config.entries:
        if entry in RESERVED:
            raise ConfigError(f"config.entries: {entry!r} cannot be the name of a run", "choose another name")
    assert config.protocol
    return config


RESERVED = ("features", "floor", "real", "stages")
"""Folders of a comparison that are not runs."""


def trainings(config: Config, name: str) -> list[Training]:
    """Return the trainings of one entry, one for each seed.

    Raises:
      ConfigError: its config file is missing or wrong.
    """
    entry = config.entries[name]
    if config.seeds == 1:
        return [Training(_settings(config, entry, 0), name, entry.passes)]
    return [
        Training(_settings(config, entry, i), f"{name}/seed-{config.seed + i}", entry.passes)
        for i in range(config.seeds)
    ]


def _settings(config: Config, entry: Entry, repeat: int) -> Settings:
    """Return the config of the training number `repeat` of an entry.

    The first training uses the stages as the config names them, the others train them with their own seed.
    """
    raw = load(entry.config, entry.overrides)
    evaluate = {**raw.get("evaluate", {}), **config.evaluate}
    seed = config.seed + repeat
    settings = complete({**raw, "seed": seed, "evaluate": evaluate})
    if repeat == 0:
        return settings
    stages = {
        name: stage
        if stage.config is None
        else dataclasses.replace(stage, overrides=(*stage.overrides, f"seed={seed}"))
        for name, stage in settings.stages.items()
    }
    return dataclasses.replace(settings, stages=stages)
