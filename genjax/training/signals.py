"""Remember SIGTERM and SIGINT, so that a run saves before it leaves."""

from __future__ import annotations

import signal
import threading
from typing import Any


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
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, _: Any) -> None:
        self.signal = signal.Signals(number).name
        signal.signal(number, self._before.pop(number))

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
