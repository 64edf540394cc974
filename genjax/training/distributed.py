"""Connect the processes of one run, let them agree on values, and report the failure of one of them.

In a run of one process every function here returns at once. All communication uses the coordination service
of `jax.distributed`, never device collectives, so that it is possible while a training step is in flight.
Every process must make the same calls in the same order.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import importlib.util
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from genjax.errors import ConfigError, GenjaxError, HookError, Interrupted, NonFiniteError, PeerError

HEARTBEAT = 30  # seconds without a sign of life after which a process counts as dead
FOREVER = 7 * 24 * 3600  # seconds; a dead process ends a wait long before
GRACE = 15.0  # seconds after which a failed process is ended, if it has not ended by itself
CONNECT = "get_distributed_runtime_client"  # of jaxlib: makes the client of the coordination service
log = logging.getLogger("genjax")

LOST = PeerError(
    "another process of this run stopped responding",
    "see its own log, then start all processes again: they resume from the last checkpoint",
)
_SIGNS = ("gloo", "nccl", "connection closed", "connection reset", "heartbeat", "barrier", "coordination")
"""Words, in lower case, of the runtime's errors when a collective or a barrier lost a participant."""
_calls = itertools.count()
_leaving: int | None = None
_keep: list[Any] = []


# --- start -------------------------------------------------------------------------------------------


def initialise(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    heartbeat: int = HEARTBEAT,
) -> None:
    """Connect this process to the others of its run. Call it before the first JAX operation.

    Uses the arguments if they are given; else JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID
    (or JOB_COMPLETION_INDEX, which Kubernetes sets in the pods of an indexed Job or JobSet); else JAX's own
    detection of SLURM and Kubernetes. Does nothing for one process.

    Args:
      coordinator: host:port of process 0; the port must be free there.
      processes: number of processes.
      process: index of this process, from 0.
      heartbeat: seconds without a sign of life after which a process counts as dead.

    Raises:
      ConfigError: the arguments are incomplete or contradict each other, or the others did not connect.
    """
    given = (coordinator, processes, process)
    if given == (None, None, None):
        given = _environment()
    if given is None:
        return
    how: dict[str, Any] = {}
    if given != (None, None, None):
        how = _explicit(*given)
        if how["num_processes"] == 1:
            return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's preemption service takes SIGTERM for itself; training/signals.py handles it.
    jax.config.update("jax_enable_preemption_service", False)
    with _watched():
        try:
            jax.distributed.initialize(
                **how, heartbeat_timeout_seconds=heartbeat, shutdown_timeout_seconds=FOREVER
            )
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the processes of this run cannot be joined: {str(error).splitlines()[0]}",
                "give all of them the same --coordinator and --processes, before any JAX operation",
            ) from error
    _client()  # an unsupported version of JAX is refused here, not in the middle of a run
    atexit.register(_leave_at_exit)  # runs before JAX's own, which would wait for a dead process


def _explicit(coordinator: Any, processes: Any, process: Any) -> dict[str, Any]:
    """Return the arguments of jax.distributed.initialize, checked."""
    if coordinator is None or processes is None or process is None:
        raise ConfigError(
            f"coordinator={coordinator}, processes={processes} and process={process} belong together",
            "give --coordinator=HOST:PORT, --processes=N and --process=I",
        )
    if processes < 1 or not 0 <= process < processes:
        raise ConfigError(
            f"there is no process {process} of {processes}", "count from 0 to one less than --processes"
        )
    if not coordinator.rpartition(":")[2].isdigit():
        raise ConfigError(f"the coordinator {coordinator!r} has no port", "write HOST:PORT")
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
        "cluster_detection_method": "deactivate",
    }


def _environment() -> tuple[str | None, int | None, int | None] | None:
    """Return (coordinator, processes, process) from the environment.

    None if this process is alone; three Nones if JAX's own detection finds them.
    """
    e = os.environ
    index = e.get("JAX_PROCESS_ID") or e.get("JOB_COMPLETION_INDEX")
    if e.get("JAX_COORDINATOR_ADDRESS") and e.get("JAX_NUM_PROCESSES") and index:
        return e["JAX_COORDINATOR_ADDRESS"], int(e["JAX_NUM_PROCESSES"]), int(index)
    # A batch script that is not a step of srun has no SLURM_STEP_NODELIST, and is alone.
    slurm = "SLURM_STEP_NODELIST" in e and int(e.get("SLURM_NTASKS", "1")) > 1
    kubernetes = "KUBERNETES_SERVICE_HOST" in e and index is not None and _installed("kubernetes")
    return (None, None, None) if slurm or kubernetes else None


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Let this process end with PeerError's exit code if the runtime loses another one.

    The runtime reports a lost process to `missed_heartbeat_callback`, in a thread of its own; the default
    callback ends the process with code 1. JAX has no public option for it, so the private function that
    connects to the coordinator is wrapped while JAX calls it. jaxlib 0.10 cannot convert the callback's
    argument and aborts instead, so SIGABRT is caught as well, by a handler that C can call: Python's own
    handlers run only after abort() has returned, which it never does.

    A version of JAX without that function, or whose function has no such parameter, connects as usual. A
    lost process is then still a PeerError where a collective or a barrier fails because of it; a process
    that only computes ends with the runtime's own message and exit code.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(_lost)
    _keep.append(handler)
    ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGABRT), handler)
    extension = getattr(_private(), "_jax", None)
    connect = getattr(extension, CONNECT, None)
    if connect is None:
        yield
        return

    def connect_watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return connect(*args, **kwargs, missed_heartbeat_callback=_lost)
        except TypeError:  # another jaxlib, whose function does not take the callback
            return connect(*args, **kwargs)

    setattr(extension, CONNECT, connect_watched)
    try:
        yield
    finally:
        setattr(extension, CONNECT, connect)


def _private() -> Any:
    """Return the private module of JAX that holds the connection to the coordinator."""
    return importlib.import_module("jax._src.distributed")


# --- processes ---------------------------------------------------------------------------------------


def count() -> int:
    """Return the number of processes of this run."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Return the index of this process, from 0."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_primary() -> bool:
    """Return True in the one process that holds locks and writes files."""
    return index() == 0


def barrier(name: str) -> None:
    """Wait until every process has called this; `name` appears in errors."""
    if count() > 1:
        _client().wait_at_barrier(f"genjax/{name}/{next(_calls)}", FOREVER * 1000)


def gather(value: Any, timeout: float = FOREVER) -> list[Any]:
    """Return the plain (JSON) values of all processes, in the order of their indices, in every process."""
    if count() == 1:
        return [value]
    client = _client()
    call = next(_calls)
    client.key_value_set(f"genjax/gather/{call}/{index():06d}", json.dumps(value))
    client.wait_at_barrier(f"genjax/gather/{call}", int(timeout * 1000))
    found = sorted(client.key_value_dir_get(f"genjax/gather/{call}/"))
    return [json.loads(text) for _, text in found]


def agree(value: Any) -> Any:
    """Return the primary's plain (JSON) value in every process."""
    return gather(value)[0]


def any_of(flag: bool) -> bool:
    """Return True in every process if `flag` is set in one of them."""
    return any(gather(bool(flag)))


def _client() -> Any:
    """Return the client of the coordination service. JAX exports no public name for it.

    Raises:
      ConfigError: this version of JAX keeps the client somewhere else.
    """
    client = getattr(getattr(_private(), "global_state", None), "client", None)
    if client is None:
        raise ConfigError(
            f"jax {jax.__version__} has no jax._src.distributed.global_state.client",
            "train in one process, or install the version of jax that genjax is tested with",
        )
    return client


# --- failure -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Report the loss of another process as PeerError, and end this one soon if it fails. May be nested.

    A process that fails alone must not wait for the others, which may be waiting for it: after GRACE seconds
    it is ended. Errors that all processes raise together have no such limit.

    Raises:
      PeerError: a collective or a barrier lost a participant.
    """
    if count() == 1:
        yield
        return
    try:
        yield
    except (Interrupted, NonFiniteError, HookError):
        raise
    except PeerError:
        _leave(PeerError.exit_code)
        raise
    except BaseException as error:
        if _of_a_peer(error):
            _leave(PeerError.exit_code)
            raise LOST from None
        _leave(error.exit_code if isinstance(error, GenjaxError) else 1)
        raise


def _of_a_peer(error: BaseException | None) -> bool:
    """Return True if the runtime raised this error, or its cause, because it lost another process."""
    while error is not None:
        text = str(error).lower()
        runtime = isinstance(error, (jax.errors.JaxRuntimeError, RuntimeError, ValueError))
        if runtime and any(sign in text for sign in _SIGNS):
            return True
        error = error.__cause__
    return False


def lost() -> bool:
    """Return True if another process is known to be lost: then nothing may wait for the others."""
    return _leaving == PeerError.exit_code


def _leave(code: int) -> None:
    """End the process with `code` after GRACE seconds, unless it ends earlier."""
    global _leaving
    if _leaving is None:
        _leaving = code
        if lost():  # silence the tracebacks of threads that wait for the lost process
            logging.getLogger("absl").setLevel(logging.CRITICAL)
            threading.excepthook = lambda args: None
        timer = threading.Timer(GRACE, os._exit, (code,))
        timer.daemon = True
        timer.start()


def _leave_at_exit() -> None:
    """Skip JAX's shutdown, which waits for all processes, if one of them is lost."""
    if lost():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(PeerError.exit_code)


def _lost(_: Any) -> None:
    """End this process because the runtime lost another one. Called from a thread of the runtime."""
    if _leaving is None:
        os.write(2, f"genjax: {LOST}\n".encode())
        os._exit(PeerError.exit_code)
    # The main thread is leaving already, and prints its own message.
    time.sleep(GRACE / 3)
    os._exit(_leaving)
