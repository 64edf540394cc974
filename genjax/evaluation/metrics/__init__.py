"""Find the metrics: one file each, found by genjax.plugins; nothing is registered.

A metric is a module with the names of `Metric`: a file of this package, or a dotted module outside it that is
named in `evaluate.metrics`. Metrics name no element of the data: they read the main target, the label and
the conditions from the context.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast, get_args

from genjax import plugins
from genjax.evaluation.config import METRICS, Config
from genjax.evaluation.requirements import Requirements
from genjax.evaluation.scores import Criterion, Definition, Score

if TYPE_CHECKING:
    from genjax.evaluation.context import Context

log = logging.getLogger("genjax")


class Metric(Protocol):
    """List the names that a metric's module provides.

    Attributes:
      SCORES: {score name: its definition}. A name that is completed when it is measured (a batch size, the
        kind of a likelihood) is declared by its stem.
      REQUIRES: conditions that the context must meet for `measure` to be called.
    """

    SCORES: Mapping[str, Definition]
    REQUIRES: Requirements

    def measure(self, context: Context) -> list[Score]:
        """Return the scores of a model, or of real rows."""
        ...


def names() -> list[str]:
    """Return the names of the built-in metrics, by criterion (in the order of `Criterion`), then by name."""
    order = get_args(Criterion)

    def place(name: str) -> tuple[int, str]:
        first = next(iter(load(name).SCORES.values()))
        return order.index(first.criterion), name

    return sorted(plugins.names(METRICS), key=place)


def load(name: str) -> Metric:
    """Import a metric by name.

    Raises:
      ConfigError: no such metric; names the nearest.
    """
    return cast(Metric, plugins.load(METRICS, name, "metric", ("SCORES", "REQUIRES", "measure")))


def wanted(config: Config) -> dict[str, Metric]:
    """Return the metrics that the config names, or all built-in ones, by name and in order."""
    chosen = names() if config.metrics is None else config.metrics
    return {name: load(name) for name in chosen}


def need_features(config: Config) -> bool:
    """Return whether a metric that is wanted reads features or predicted labels."""
    return any(m.REQUIRES.features or m.REQUIRES.classifier for m in wanted(config).values())


def applicable(context: Context) -> list[Metric]:
    """Return the wanted metrics that apply to the context.

    A metric that the config names and that does not apply to a model is logged with the reason. For real
    rows nothing is logged: most metrics of a model do not apply to them.
    """
    found = []
    for name, metric in wanted(context.config).items():
        reason = metric.REQUIRES.unmet(context)
        if reason is None:
            found.append(metric)
        elif context.config.metrics is not None and not context.real:
            log.warning("metric %r was left out: %s", name, reason)
    return found
