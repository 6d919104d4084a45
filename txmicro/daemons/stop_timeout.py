"""Ends a process whose stop takes too long.

A stop never ends if a worker's ``closed`` does not return, or if a function blocks the reactor. It never ends, either,
if a thread does not end: Twisted waits for the threads of its pool, and Python for all threads that are not daemons.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from .blocked_reactor import find_blocking
from .signals import SIGNALS

LONGER: Final = 10.0
"""Seconds that a stop may take beyond ``grace``: canceled handlers clean up, ``closed`` runs, connections close."""

STATUS: Final = 1
"""The exit status of a process that did not stop in time."""


class StopTimeout:
    """Ends the process from a thread, *seconds* after its stop began.

    The stop begins when the reactor shuts down, or when a signal arrives, because the reactor may be blocked then.

    :param exit: ends the process with a status.
    """

    log = Logger()

    def __init__(self, reactor: Any, seconds: float, exit: Callable[[int], Any] = os._exit) -> None:
        self._seconds = seconds
        self._exit = exit
        self._stopping = False
        self._handlers: dict[int, Any] = {}
        reactor.callWhenRunning(self._listen)
        reactor.addSystemEventTrigger("before", "shutdown", self._stop)

    def _listen(self) -> None:
        """Handle signals before Twisted, which handles them in the reactor."""
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):  # neither ignored nor the default
                self._handlers[number] = handler
                signal.signal(number, self._signaled)

    def _signaled(self, number: int, frame: Any) -> None:
        # Twisted logs an error at a second signal. SecondSignal handles later ones, once the reactor shuts down.
        if not self._stopping:
            self._stop()
            self._handlers[number](number, frame)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            threading.Thread(target=self._wait, name="txmicro stop timeout", daemon=True).start()

    def _wait(self) -> None:
        time.sleep(self._seconds)
        self.log.critical(
            "ending the process: it has not stopped within {seconds:g} s (grace and {longer:g} s more); {obstacles}",
            seconds=self._seconds,
            longer=LONGER,
            obstacles="; ".join(_obstacles()),
        )
        self._exit(STATUS)


def _obstacles() -> list[str]:
    """Return what may keep the process from stopping."""
    main = threading.main_thread()
    frame = sys._current_frames().get(main.ident or 0)
    doing = (
        [] if frame is None else ["the main thread is in {0.name}, at {0.place}".format(find_blocking(frame))]
    )
    names = [each.name for each in threading.enumerate() if each is not main and not each.daemon]
    return doing + ([f"threads that have not ended: {', '.join(names)}"] if names else [])
