"""Check every training of a comparison before the first one begins: configs, data, models, samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genjax.data import Dataset
from genjax.errors import ConfigError, GenjaxError
from genjax.workflows import planned
from genjax.workflows.assemble import Datasets
from genjax.workflows.entries import Config, Training, trainings


def all_trainings(config: Config) -> dict[str, list[Training]]:
    """Return {entry: its trainings}.

    Raises:
      GenjaxError: configs are missing or wrong; names all of these entries.
    """
    found: dict[str, list[Training]] = {}
    wrong: dict[str, GenjaxError] = {}
    for name in config.entries:
        try:
            found[name] = trainings(config, name)
        except GenjaxError as error:
            wrong[name] = error
    refuse(wrong)
    return found


def entries(found: Mapping[str, Sequence[Training]], datasets: Datasets) -> Dataset:
    """Return the dataset that all entries share, if each of them can be trained and sampled.

    Nothing is trained or compiled. The stages of an entry are checked in the same way.

    Raises:
      GenjaxError: some cannot; names all of them.
      ConfigError: two entries read different data.
    """
    read: dict[str, Dataset] = {}
    wrong: dict[str, GenjaxError] = {}
    for name, each in found.items():
        try:
            read[name] = planned.experiment(each[0].settings, datasets).dataset
        except GenjaxError as error:
            wrong[name] = error
    refuse(wrong)
    return _one_dataset(read)


def refuse(wrong: Mapping[str, GenjaxError], what: str = "cannot be trained") -> None:
    """Raise the first error again, with the names of all entries that have one; return if there is none.

    Raises:
      GenjaxError: of the type of the first error.
    """
    if not wrong:
        return
    first = next(iter(wrong.values()))
    said = "; ".join(f"{name}: {error.message}" for name, error in wrong.items())
    counted = f"{len(wrong)} {'entry' if len(wrong) == 1 else 'entries'} {what}"
    raise type(first)(f"{counted}: {said}", first.hint)


def _one_dataset(datasets: Mapping[str, Dataset]) -> Dataset:
    first, *others = datasets.items()
    for name, dataset in others:
        if dataset.fingerprint != first[1].fingerprint:
            raise ConfigError(
                f"entries {first[0]!r} and {name!r} read different data: {first[1].name} "
                f"({first[1].fingerprint[:12]}) and {dataset.name} ({dataset.fingerprint[:12]})",
                "give them the same data section, or compare them apart",
            )
    return first[1]
