"""Score a finished run with other options of its sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax import evaluation
from genjax.sampling.sampler import options
from genjax.workflows import assemble, evaluate

METRICS = ("frechet", "prdc", "accuracy")


class Measure:
    """Hold a run and the reference that its samples are compared with."""

    def __init__(self, run: Path, samples: int, sets: int = 1, step: str | int = "latest"):
        """Restore the run.

        Args:
          samples: in a set.
          sets: of samples; more than one for intervals.
          step: of the checkpoint.
        """
        self.run = run
        self.trained = assemble.restore(run, step)
        self.dataset = self.trained.experiment.dataset
        chosen = {"samples": samples, "sets": sets, "metrics": METRICS}
        self.config = evaluate.config_of(self.trained, chosen)
        self.features = evaluate.features(
            self.config.features, self.dataset, Path("runs") / "features", say=print
        )
        self.reference = evaluation.ReferenceStatistics(self.dataset, self.features, self.config)

    @property
    def asked(self) -> dict[str, Any]:
        """The options of the sampler in the config of the run."""
        return dict(self.trained.experiment.settings.sample)

    def at(self, step: int) -> None:
        """Read another checkpoint of the run."""
        self.trained = assemble.restore(self.run, step)

    def scores(self, given: Mapping[str, Any], note: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Sample with options over those of the config, and return a record of the scores; print it.

        Args:
          note: further fields of the record.
        """
        model = self.trained.experiment.model
        scores, _ = evaluation.evaluate(
            model,
            self.trained.variables,
            self.dataset,
            self.features,
            self.config,
            options(model, {**self.asked, **given}),
            reference=self.reference,
        )
        record: dict[str, Any] = {"run": self.run.name, **given, **(note or {})}
        for score in scores:
            record[score.name] = score.value
            if score.low is not None:
                record[f"{score.name}_interval"] = (score.low, score.high)
        print(json.dumps(record), flush=True)
        return record
