"""Decide what a run does about a batch whose step is not finite: end, or leave the batch out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from genjax.errors import NonFiniteError
from genjax.training import distributed
from genjax.training.config import Config

log = logging.getLogger("genjax")


class Skips:
    """Keep the indices of the batches that a run leaves out.

    Attributes:
      batches: in order, without repetition.
    """

    def __init__(self, config: Config):
        self._config = config
        self.batches: list[int] = []

    def include(self, batches: Iterable[int]) -> None:
        """Add the batches that a checkpoint's record has."""
        self.batches = sorted({*self.batches, *batches})

    def add(self, what: str, saved: list[int], number: Callable[[], int]) -> None:
        """Leave one more batch out, and log it.

        Args:
          what: the step and the value that is not finite, in words.
          saved: the steps of the checkpoints there are.
          number: returns the index of the batch.

        Raises:
          NonFiniteError: the config does not allow it, or not once more.
        """
        kept = f"the checkpoint of step {saved[-1]} is kept" if saved else "nothing was saved"
        if self._config.on_nonfinite == "stop" or len(self.batches) >= self._config.skip_limit:
            raise NonFiniteError(
                f"{what}; {kept}",
                "lower the learning rate, clip gradients (optimizer.clip), or leave such batches out "
                "(train.on_nonfinite='skip')",
            )
        batch = number()
        self.include([batch])
        log.warning("%s; batch %d is left out from now on; %s", what, batch, kept)


def nonfinite_element(batch: Mapping[str, np.ndarray]) -> str | None:
    """Return `batch['NAME']` of the first element that is not finite in any process's rows of a batch."""
    floats = {name: x for name, x in batch.items() if np.issubdtype(x.dtype, np.inexact)}
    bad = next((name for name, x in floats.items() if not np.isfinite(x).all()), None)
    # Each process sees its own rows only, and all of them must go on in the same way.
    found = next((name for name in distributed.gather(bad) if name), None)
    return None if found is None else f"batch[{found!r}]"
