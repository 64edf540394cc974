"""Train a toy as one process of several.

python distributed_worker.py DIRECTORY CASE COORDINATOR PROCESSES PROCESS [KEY=JSON ...]

Writes losses to metrics.jsonl as every run does, and `shards-I.json`: {path: whether the leaf is divided over
processes}.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from genjax.training import distributed

RULES = ((r"inner/kernel$", (None, "fsdp")), (r"outer/kernel$", ("fsdp", None)))
CASES: dict[str, dict[str, Any]] = {
    "data": {},
    "fsdp": {"sharding": RULES},
    "hooks": {},
    "plain": {},
}


def without_callback() -> None:
    """Replace jaxlib's private function by one that takes no missed_heartbeat_callback."""
    from jax._src import distributed as runtime

    connect = getattr(runtime._jax, distributed.CONNECT)

    def plain(*args: Any, **kwargs: Any) -> Any:
        if "missed_heartbeat_callback" in kwargs:
            raise TypeError("incompatible function arguments")
        return connect(*args, **kwargs)

    setattr(runtime._jax, distributed.CONNECT, plain)


def main(directory: Path, case: str, coordinator: str, processes: int, process: int, changes: dict) -> None:
    if case == "plain":
        without_callback()
    distributed.initialise(coordinator, processes, process, heartbeat=10)
    import jax
    import resume_worker
    import training_toys as toys
    from properties import trainer

    from genjax.data.dataset import Split
    from genjax.errors import HookError
    from genjax.training import Mesh, trees
    from genjax.training.loop import Hooks

    delay = changes.pop("delay", 0.0)
    config = dict(CASES[case])
    if case == "fsdp":
        config["mesh"] = Mesh(data=1, fsdp=len(jax.devices()))

    def on_eval(variables: Any, step: int) -> dict[str, float]:
        whole = sharded(variables)
        return {"sum": float(sum(abs(x).sum() for x in jax.tree.leaves(whole.params)))}

    def sharded(variables: Any) -> Any:
        from genjax.training.sharding import gathered

        leaves = trees.named(variables.params)
        divided = {p: not x.is_fully_replicated and not x.is_fully_addressable for p, x in leaves.items()}
        (directory.parent / f"shards-{process}.json").write_text(json.dumps(divided))
        return gathered(variables)

    def on_sample(variables: Any, step: int) -> None:
        if case == "hooks" and distributed.is_primary():
            raise OSError("the disk of pictures is full")
        if distributed.is_primary():
            (directory / "picture.txt").write_text(f"{step}")
        print("sampled", distributed.index(), step, flush=True)

    data = toys.dataset()
    if delay:
        source = resume_worker.Slow(data.train.source, delay)
        data = dataclasses.replace(data, train=Split("train", source))
    run = trainer(toys.mlp(), data, resume_worker.config(**{**config, **changes}), batch=16, eval_batch=8)
    try:
        result = run(directory, Hooks(on_eval, on_sample))
    except HookError:
        distributed.barrier("hook errors are raised together")
        raise
    print("finished", result.step, flush=True)


if __name__ == "__main__":
    from genjax.errors import GenjaxError

    where, case, coordinator, processes, process, *rest = sys.argv[1:]
    changes = {key: json.loads(value) for key, _, value in (item.partition("=") for item in rest)}
    try:
        main(Path(where), case, coordinator, int(processes), int(process), changes)
    except GenjaxError as error:
        print(f"genjax: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
