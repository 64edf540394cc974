"""Call the hooks of a run, continue if one fails, and call it again after a restart."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genjax import files
from genjax.core import Variables
from genjax.errors import HookError
from genjax.training import distributed

FILE = "hooks.json"
log = logging.getLogger("genjax")


class Hooks(NamedTuple):
    """Add evaluation and sampling to the loop.

    Hooks are called after the checkpoint of their step is written, in every process of a distributed run,
    with the variables at the run's average. Only the primary process should write files
    (`distributed.is_primary`); `sharding.gathered` returns variables that are sharded over processes whole.
    A hook must not keep the variables: the next step donates them. If a hook raises an Exception, a warning
    names it at once, the run continues, and ends with HookError.

    Attributes:
      on_eval: (variables, step) -> {name: value}, added to the evaluation's line.
      on_sample: (variables, step), at `sample_every` and at the end.
    """

    on_eval: Callable[[Variables, int], Mapping[str, float]] | None = None
    on_sample: Callable[[Variables, int], None] | None = None


class Caller:
    """Call the hooks of one run directory.

    `hooks.json` in the directory holds the last step whose hooks have all finished. A run that was stopped
    between its checkpoint and its hooks calls them when it is resumed.

    Attributes:
      failures: one line for each call that failed.
      values: returned by the last on_eval.
    """

    def __init__(self, hooks: Hooks, directory: Path):
        self._hooks = hooks
        self._path = directory / FILE
        self._evaluated = -1
        self.failures: list[str] = []
        self.values: dict[str, Any] = {}

    @property
    def evaluates(self) -> bool:
        """Return True if there is an on_eval hook."""
        return self._hooks.on_eval is not None

    def due(self, evaluate: bool, sample: bool) -> list[str]:
        """Return the names of the hooks to call at a step that evaluates, samples or both."""
        due = {"on_eval": evaluate, "on_sample": sample}
        return [name for name, now in due.items() if now and getattr(self._hooks, name) is not None]

    def failed(self, name: str) -> bool:
        """Return True if a call of this hook has failed."""
        return any(f.startswith(f"{name} ") for f in self.failures)

    def on_eval(self, variables: Variables, step: int) -> dict[str, Any]:
        """Call on_eval and return its values; none if there is no such hook or it failed."""
        self.values = dict(self._call("on_eval", variables, step) or {})
        self._evaluated = step
        return self.values

    def on_sample(self, variables: Variables, step: int) -> None:
        """Call on_sample, if there is such a hook."""
        self._call("on_sample", variables, step)

    def _call(self, name: str, variables: Variables, step: int) -> Any:
        hook = getattr(self._hooks, name)
        if hook is None:
            return None
        try:
            return hook(variables, step)
        except Exception as error:  # not BaseException: KeyboardInterrupt and SystemExit end the run
            failure = f"{name} failed at step {step}: {type(error).__name__}: {error}"
            self.failures.append(failure)
            log.warning("the hook %s", failure, exc_info=log.isEnabledFor(logging.DEBUG))
            return None

    def finished(self, step: int) -> None:
        """Record that the hooks of this step have returned; a failed one is called again after a restart."""
        # Wait here for the process that writes pictures: a wait in a collective would time out.
        distributed.barrier("hooks")
        if distributed.is_primary() and not any(f" step {step}:" in f for f in self.failures):
            values = json.loads(json.dumps(self.values, default=float))
            files.write_json(self._path, {"step": step, "evaluated": self._evaluated, "values": values})

    def resume(self, step: int, evaluated: int) -> bool:
        """Read the record after a restart; return True if the hooks of the restored step did not finish.

        Args:
          step: the checkpoint's step.
          evaluated: the last evaluated step in the checkpoint.
        """
        record: dict[str, Any] = distributed.agree(self._read())
        self.values = {}
        if record.get("evaluated", -1) == evaluated:
            self.values = record.get("values", {})
            self._evaluated = evaluated
        return record.get("step", -1) < step

    def _read(self) -> dict[str, Any]:
        """Return the record; empty, with a warning, if it is damaged: the hooks are then called once more."""
        if not self._path.exists():
            return {}
        try:
            record = json.loads(self._path.read_text("utf-8"))
            numbers = (record["step"], record["evaluated"])
            if isinstance(record["values"], dict) and all(isinstance(n, int) for n in numbers):
                return record
            what = "its fields have other types"
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = repr(error)
        log.warning("%s cannot be read (%s): the last hooks are called again", self._path, what)
        return {}

    def check(self) -> None:
        """Raise HookError, in every process, if a hook failed in one of them."""
        failures = [f for each in distributed.gather(self.failures) for f in each]
        if failures:
            raise HookError(
                f"{len(failures)} hook call(s) failed, the first: {failures[0]}",
                "training has finished and is saved; repair the hook and run the same command again",
            )
