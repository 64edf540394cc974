"""Trains the toys one after the other, to be killed and started again: python resume_worker.py DIRECTORY."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import training_toys as toys
from properties import trainer

from genjax.data.dataset import Split
from genjax.data.rows import Rows
from genjax.training import Average, Config
from genjax.training.loop import Hooks

QUIET: dict[str, Any] = {"compilation_cache": False, "tensorboard": False, "progress": False}
CASES = {  # 100 rows in batches of 16: the epochs end inside of batches
    "adversarial": (toys.adversarial, {"accumulate": 2}, "shuffled"),
    "recurrent": (toys.recurrent, {}, "lanes"),
}


class Slow(Rows):
    """Rows that take their time, so that there is time to kill the run."""

    memory = False

    def __init__(self, rows, delay: float = 0.02):
        self.rows = rows
        self.delay = delay

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, indices: np.ndarray):
        time.sleep(self.delay)
        return self.rows(indices)


def config(**changes) -> Config:
    base = {
        "steps": 24,
        "log_every": 1,
        "eval_every": 9,
        "checkpoint_every": 5,
        "averages": {"ema": Average(half_life=100.0)},
        **QUIET,
    }
    return Config(**{**base, **changes})


def main(directory: Path) -> None:
    data = toys.dataset()
    data = dataclasses.replace(data, train=Split("train", Slow(data.train.source)))
    for name, (model, changes, order) in CASES.items():
        trainer(model(), data, config(**changes), batch=16, order=order)(directory / name, Hooks())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
