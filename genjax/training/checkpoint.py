"""Write checkpoints with Orbax in the background, and restore them on any number of devices and processes.

A checkpoint is a folder checkpoints/STEP with the leaves of the TrainState by their paths (`state`) and a
JSON record (`record/metadata`) that identifies their model, data and tree. Orbax renames the folder into
place when it is complete, so that an interrupted save is never taken for a checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

import genjax
from genjax import files
from genjax.core import Tree, Variables
from genjax.errors import CheckpointError
from genjax.training import distributed, foreign, stored
from genjax.training.step import TrainState
from genjax.training.trees import checksums, describe, difference, digest, entry, named, unlike

__all__ = ["FOLDER", "Checkpoints", "Loaded", "Restored", "digest", "load", "saved_steps"]
FOLDER = "checkpoints"
READING = 300.0  # seconds that one process may read a checkpoint longer than another
log = logging.getLogger("genjax")


class Restored(NamedTuple):
    """Hold what a run resumes from: the steps taken, the TrainState, and its JSON record."""

    step: int
    state: TrainState
    record: dict[str, Any]


class Loaded(NamedTuple):
    """Hold a trained model: the steps taken, its Variables, and their JSON record."""

    step: int
    variables: Variables
    record: dict[str, Any]


@dataclasses.dataclass
class _Keep:
    """Keep the last checkpoints and the best. An Orbax preservation policy."""

    last: int
    best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        return [n >= len(checkpoints) - self.last or c.step == self.best for n, c in enumerate(checkpoints)]


class Checkpoints:
    """Keep the checkpoints of one run directory, for the processes of the run that writes them."""

    def __init__(self, directory: Path | str, keep_last: int = 3):
        """Open the folder, created if it is missing.

        Raises:
          CheckpointError: it cannot be, or there is a file in place of a checkpoint.
        """
        self.folder = (Path(directory) / FOLDER).absolute()
        self._keep = _Keep(keep_last)
        self._unfinished = _unfinished(self.folder)
        self._writing = 0
        self._broken = False
        foreign.silence()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        saved_steps(directory)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except Exception as error:
            raise _failed(f"no checkpoints can be kept in {self.folder}", error) from error
        self._keep.best = _best(self.folder)

    def save(self, state: TrainState, record: Mapping[str, Any], *, best: bool = False) -> None:
        """Start writing a canonical state; return when it has been copied from the devices.

        Args:
          record: plain data, saved with it; `step`, `tree` and the version are added. Equal in all
            processes, each of which writes its share of the leaves.
          best: keep this one until a better one is saved.

        Raises:
          CheckpointError: this save, or one that was still being written, failed.
        """
        step = int(state.step)
        leaves = named(state)
        for path, x in leaves.items():
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                raise CheckpointError(
                    f"{path} is a PRNG key, which a checkpoint must not hold", "derive keys from the step"
                )
        record = {
            **record,
            "step": step,
            "genjax": genjax.__version__,
            "tree": describe(state),
            "players": sorted(state.variables.params),
            "averages": {name: sorted(players) for name, players in state.variables.ema.items()},
            "best": best,
        }
        arrays = {path: x for path, x in leaves.items() if x.size}  # Orbax refuses empty arrays
        record["sums"] = checksums(arrays)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(arrays), record=ocp.args.JsonSave(record))
        self.wait()  # Orbax would, and its error would be taken for one of this step
        if best:
            self._keep.best = step
        self._writing = step
        try:
            saved = self._manager.save(step, args=args, force=True)
        except Exception as error:
            raise self._not_written(error) from error
        if not saved:
            raise CheckpointError(f"the checkpoint of step {step} was not written to {self.folder}")

    def amend(self, step: int, record: Mapping[str, Any], best: bool) -> None:
        """Replace fields of the record of a checkpoint that is on the disk, in a run of one process.

        Args:
          best: keep it until a better one is saved.
        """
        if best:
            self._keep.best = step
        path = self.folder / str(step) / "record" / "metadata"
        files.write_json(path, {**stored.record(self.folder, step), **record, "best": best})

    def wait(self) -> None:
        """Wait until the last save is on the disk.

        Raises:
          CheckpointError: it has failed; names its step and the last one that is kept. Raised once.
        """
        if self._broken:
            return
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._not_written(error) from error

    def _not_written(self, error: BaseException) -> CheckpointError:
        """Return the error of the save that has failed, and remove what it has written."""
        self._broken = True
        if distributed.is_primary():
            for part in self.folder.glob(f"{self._writing}.orbax-checkpoint-tmp*"):
                shutil.rmtree(part, ignore_errors=True)
        kept = saved_steps(self.folder.parent)
        last = f"the checkpoint of step {kept[-1]} is kept" if kept else "there is no other"
        return _failed(
            f"the checkpoint of step {self._writing} could not be written to {self.folder} ({last})", error
        )

    def steps(self) -> list[int]:
        """Return the steps of the finished checkpoints, in order."""
        self._manager.reload()
        return sorted(self._manager.all_steps())

    def written(self, step: int) -> bool:
        """Return whether the checkpoint of a step is complete on the disk. Any thread may call this."""
        return (self.folder / str(step)).is_dir()

    def writing(self) -> bool:
        """Return whether a checkpoint is being written. Any thread may call this."""
        return bool(_unfinished(self.folder))

    def restore(
        self, form: TrainState, layout: TrainState, identity: Mapping[str, Any] | None = None
    ) -> Restored | None:
        """Return the newest checkpoint that can be read, placed by `layout`; None if there is none.

        An unreadable checkpoint is named in a warning and set aside, and the previous one is tried.

        Args:
          form: the canonical state's shapes and dtypes.
          layout: its shardings on the devices of this session.
          identity: must equal the record's; not compared if None.

        Raises:
          CheckpointError: the checkpoint belongs to another model or other data (names the first
            difference), or there are some and none can be read.
        """
        for step in self._unfinished:
            log.warning("checkpoint %s in %s was not finished and is left out", step, self.folder)
        steps = distributed.agree(self.steps())
        broken: dict[int, str] = {}
        for step in reversed(steps):
            found = self._try(step, form, layout, identity)
            # All processes take the same checkpoint. The wait is bounded: if one cannot read its share, the
            # others may be waiting for it inside of Orbax.
            causes = distributed.gather(found if isinstance(found, str) else None, READING)
            if wrong := next((c for c in causes if c is not None), None):
                broken[step] = wrong
                continue
            assert isinstance(found, Restored)
            for bad in broken:
                self._set_aside(bad)
            if broken:
                log.warning("%s; going on from checkpoint %d", _unreadable(self.folder, broken), step)
            return found
        if broken:
            raise CheckpointError(
                f"{_unreadable(self.folder, broken)}, and there is no other",
                "restore the folder from a backup, or train in a new directory",
            )
        return None

    def close(self) -> None:
        """Wait, and stop the threads. Raises CheckpointError if a save has failed."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception) if self._broken else contextlib.nullcontext():
                self._manager.close()

    def _try(
        self, step: int, form: TrainState, layout: TrainState, identity: Mapping[str, Any] | None
    ) -> Restored | str:
        """Return one checkpoint, or why it cannot be read."""
        try:
            record = stored.record(self.folder, step)
            _same(self.folder / str(step), record, form, identity)
            return Restored(step, stored.leaves(self.folder / str(step), record, form, layout), record)
        except CheckpointError:
            raise
        except Exception as error:
            return stored.cause(error)

    def _set_aside(self, step: int) -> None:
        if distributed.is_primary():
            target = self.folder / f"unreadable-{step}"
            shutil.rmtree(target, ignore_errors=True)
            (self.folder / str(step)).rename(target)
        distributed.barrier("set aside")
        self._manager.reload()


def load(
    directory: Path | str,
    step: int | Literal["best"] | None = None,
    like: Variables | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Loaded:
    """Return a run's Variables, to sample from or to freeze; optimizer state is not read.

    Args:
      directory: the run directory.
      step: which checkpoint; None for the newest that can be read, or "best".
      like: the model's Variables (arrays or shapes) before training, which give the trees their types;
        the checkpoint of another model is refused. None for nested dicts.
      sharding: of the arrays; None for the default device.

    Raises:
      CheckpointError: there is no such checkpoint, it cannot be read, or it is another model's.
    """
    foreign.silence()
    folder = (Path(directory) / FOLDER).absolute()
    steps = saved_steps(directory)
    if step == "best":
        step = _best(folder)
        if step is None:
            raise CheckpointError(
                f"no best checkpoint in {folder}", "set train.keep_best, or load the newest"
            )
    if not steps or (step is not None and step not in steps):
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise CheckpointError(
            f"{wanted} in {folder}", f"there are: {', '.join(map(str, steps))}" if steps else "train first"
        )
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    for n in [step] if step is not None else reversed(steps):
        try:
            record = stored.record(folder, n)
            form = _variables(record, like)
            wanted = {f"variables/{p}": entry(x) for p, x in named(form).items()}
            saved = {p: e for p, e in record["tree"].items() if p.startswith("variables/")}
            if found := difference(saved, wanted):
                raise CheckpointError(f"{folder / str(n)} belongs to another model: {found}")
            layout = jax.tree.map(lambda _: sharding, form)
            return Loaded(n, stored.leaves(folder / str(n), record, form, layout, "variables/"), record)
        except CheckpointError:
            raise
        except Exception as error:
            if step is not None or n == steps[0]:
                raise _failed(
                    f"checkpoint {n} in {folder} cannot be read", error, "load another step"
                ) from error
            log.warning("%s; taking the one before", _unreadable(folder, {n: stored.cause(error)}))
    raise CheckpointError(f"no checkpoint in {folder}")


def saved_steps(directory: Path | str) -> list[int]:
    """Return the steps of a run's finished checkpoints, in order; none if there is no folder.

    Raises:
      CheckpointError: there is something else in place of a checkpoint.
    """
    folder = Path(directory) / FOLDER
    found = [p for p in folder.glob("*") if p.name.isdecimal()] if folder.is_dir() else []
    for path in found:
        if not path.is_dir():
            raise CheckpointError(
                f"{path} is not a checkpoint: it is no folder", "restore it from a backup, or move it away"
            )
    return sorted(int(p.name) for p in found)


def _variables(record: Mapping[str, Any], like: Variables | None) -> Variables:
    """Return the form of a checkpoint's Variables: typed as `like`, or nested dicts."""
    if like is not None:
        form = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like.replace(frozen={}, ema={}))
        ema = {
            name: {p: form.params.get(p, {}) for p in players} for name, players in record["averages"].items()
        }
        return form.replace(ema=ema)
    nested: dict[str, Any] = {
        "params": {p: {} for p in record["players"]},
        "state": {},
        "ema": {name: {p: {} for p in players} for name, players in record["averages"].items()},
    }
    for path, (shape, dtype) in record["tree"].items():
        top, *parts = path.split("/")
        if top == "variables":
            node = nested
            for part in parts[:-1]:
                node = node.setdefault(part, {})
            node[parts[-1]] = jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
    return Variables(**nested)


def _same(folder: Path, record: Mapping[str, Any], form: Tree, identity: Mapping[str, Any] | None) -> None:
    """Raise CheckpointError with the first difference of identity and the first of the tree."""
    other = [] if identity is None else unlike(record.get("identity", {}), identity)
    found = [f"{key} is {a!r} there and {b!r} here" for key, a, b in other[:1]]
    leaf = difference(record["tree"], describe(form))
    found += [leaf] if leaf else []
    if found:
        raise CheckpointError(
            f"{folder} belongs to another run: {'; '.join(found)}",
            "train in a new directory, or go on with the config that it was made with",
        )


def _best(folder: Path) -> int | None:
    """Return the step of the newest checkpoint that was the best when it was written."""
    for step in reversed(saved_steps(folder.parent)):
        try:
            record = stored.record(folder, step)
        except (OSError, ValueError):
            continue
        if record.get("best"):
            return step
    return None


def _unreadable(folder: Path, causes: Mapping[int, str]) -> str:
    """Return which checkpoints cannot be read, and why, in words."""
    first, *others = causes
    more = f", nor can {', '.join(map(str, others))}" if others else ""
    return f"checkpoint {first} in {folder} cannot be read ({causes[first]}){more}"


def _unfinished(folder: Path) -> list[str]:
    names = (
        sorted(p.name for p in folder.glob("*") if "orbax-checkpoint-tmp" in p.name)
        if folder.is_dir()
        else []
    )
    return [re.sub(r"\.orbax-checkpoint-tmp.*", "", n) for n in names]


def _failed(what: str, error: BaseException, hint: str = "") -> CheckpointError:
    return CheckpointError(
        f"{what}: {stored.cause(error)}", hint or "free space or give the right to write, and run again"
    )
