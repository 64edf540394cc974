"""Act on SIGTERM and SIGINT: save first where a step would be lost, and leave at once where none would.

A training loop that is called from other code uses `Stop`, which only remembers a signal. The command line
enters a `Guard` before it imports JAX. A guard has a thread of its own, because Python runs signal handlers
between two instructions of the main thread, which may be inside a compilation for a minute.

Exit code 75 means that work remains and the same command goes on with it.

- Nothing to lose (before the first step, which includes its compilation; while a picture is drawn, once the
  checkpoint of its step is on the disk): the process ends within about a second.
- Steps since the last checkpoint: the call of the step that is running ends, then the evaluation that is due,
  if any, and a checkpoint is written. Pictures that are due are drawn when the run is resumed. The time is
  therefore at most that of a step, an evaluation, the compilation of both, and a checkpoint.
- A second signal: the process ends when no checkpoint is being written. Steps since the last one are lost.
- A third one: the process ends at once.
- After the last checkpoint and picture: nothing remains, and the exit code is 0.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from genjax.errors import Interrupted

NUMBERS = (signal.SIGTERM, signal.SIGINT)
POLL = 0.02  # seconds between two looks at whether the process may end
AGAIN = "run the same command again to go on"


class Stop:
    """Remember SIGTERM and SIGINT while entered; a second signal of the same number has its usual effect.

    Attributes:
      signal: the name of the signal received; None before.
    """

    def __init__(self):
        self.signal: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, _: Any) -> None:
        self.signal = signal.Signals(number).name
        signal.signal(number, self._before.pop(number))

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave_when(self, safe: Callable[[], bool], idle: Callable[[], bool] = lambda: True) -> None:
        """Let a guard end the process: after a signal when `safe`, after a second one when `idle`."""


class Guard(Stop):
    """End the process at a signal as soon as no work is lost, with exit code 75: see the module.

    Enter it in the main thread; in another thread it does nothing. From then on a signal ends the process at
    once, until `leave_when` or `hold` says otherwise.
    """

    def __init__(self):
        super().__init__()
        self._received = 0
        self._safe: Callable[[], bool] = lambda: True
        self._idle: Callable[[], bool] = lambda: True
        self._silent = False
        self._write: socket.socket | None = None
        self._wakeup = -1

    def __enter__(self) -> Guard:
        global _active
        if threading.current_thread() is not threading.main_thread():
            return self
        read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        super().__enter__()
        threading.Thread(target=self._watch, args=(read,), daemon=True).start()
        _active = self
        return self

    def _remember(self, number: int, _: Any) -> None:
        """Do nothing: the thread reads the number from the socket."""

    def __exit__(self, *_: Any) -> None:
        global _active
        if self._write is None:
            return
        self.hold()
        _active = None
        super().__exit__()
        signal.set_wakeup_fd(self._wakeup)
        self._write.close()  # ends the thread
        self._write = None

    def leave_when(self, safe: Callable[[], bool], idle: Callable[[], bool] = lambda: True) -> None:
        self._safe = safe
        self._idle = idle
        self._silent = False

    def hold(self) -> None:
        """Only remember signals from here on."""
        self.leave_when(lambda: False, lambda: False)
        self._silent = True

    def _watch(self, read: socket.socket) -> None:
        """Receive the numbers of signals until the guard is left, and end the process when it may end."""
        with read:
            while True:
                read.settimeout(POLL if self._received else None)
                try:
                    numbers = read.recv(64)
                except TimeoutError:
                    numbers = None
                if numbers == b"":
                    return
                for number in numbers or b"":
                    if number in NUMBERS:
                        self._receive(signal.Signals(number).name)
                if self._received and self._may_end():
                    self._end()

    def _receive(self, name: str) -> None:
        self._received += 1
        if self._received == 1:
            self.signal = name
            if not self._silent and not self._may_end():
                _say(f"{name}: saving before the run stops; a second signal stops it without saving")

    def _may_end(self) -> bool:
        return self._safe() or (self._received == 2 and self._idle()) or self._received > 2

    def _forked(self) -> None:
        """Give a child process the handlers that it would have without a guard."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self) -> None:
        _say(f"{stopped(self.signal)}\n  hint: {AGAIN}")
        os._exit(Interrupted.exit_code)


_active: Guard | None = None


def _forked() -> None:
    if _active is not None:
        _active._forked()


os.register_at_fork(after_in_child=_forked)


@contextlib.contextmanager
def entered() -> Iterator[Stop]:
    """Yield the guard of the command line, or a `Stop` if there is none.

    With a guard, signals are only remembered after the block: the caller knows whether work remains, and
    calls `proceed` if it does. Without one, a signal that came when nothing was left to do has its usual
    effect after the block.
    """
    if _active is None:
        with Stop() as stop:
            yield stop
        if stop.signal is not None:
            signal.raise_signal(signal.Signals[stop.signal])
        return
    guard = _active
    try:
        yield guard
    finally:
        guard.hold()


def proceed() -> None:
    """Begin a part of a command after a finished training: nothing is lost if the process ends there.

    Raises:
      Interrupted: a signal has come.
    """
    if _active is None:
        return
    if _active.signal is not None:
        raise Interrupted(stopped(_active.signal), AGAIN)
    _active.leave_when(lambda: True)


def stopped(name: str | None) -> str:
    """Return the message of a process that ends without loss."""
    return f"stopped by {name}; no step is lost"


def _say(text: str) -> None:
    """Write to stderr from any thread, and show the cursor that a progress bar has hidden."""
    show = "\x1b[?25h" if os.isatty(2) else ""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{show}genjax: {text}\n".encode())
