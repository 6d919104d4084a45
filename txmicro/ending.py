"""Ends the process when its stop in order takes too long.

What can keep it: a thread that somebody started and that does not end (Twisted waits for its own pool, and Python for
all threads that are not daemons), a ``closed`` that never returns, a function that blocks the reactor.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

LONGER: Final = 10.0
"""Seconds that a stop may take beyond ``grace``: cancelled handlers clean up, ``closed`` runs, connections close."""

STATUS: Final = 1
"""The status of a process that did not stop in order."""


class LastResort:
    """Ends the process, from a thread of its own, *seconds* after the reactor began to shut down.

    :param exit: ends it with a status.
    """

    log = Logger()

    def __init__(self, reactor: Any, seconds: float, exit: Callable[[int], Any] = os._exit) -> None:
        self._seconds = seconds
        self._exit = exit
        reactor.addSystemEventTrigger("before", "shutdown", self._stopping)

    def _stopping(self) -> None:
        threading.Thread(target=self._wait, name="txmicro last resort", daemon=True).start()

    def _wait(self) -> None:
        time.sleep(self._seconds)
        self.log.critical(
            "ends at once: it has not stopped within {seconds:g} s (grace, and {longer:g} more){threads}",
            seconds=self._seconds,
            longer=LONGER,
            threads=_waited_for(),
        )
        self._exit(STATUS)


def _waited_for() -> str:
    main = threading.main_thread()
    names = [each.name for each in threading.enumerate() if each is not main and not each.daemon]
    return f"; threads that have not ended: {', '.join(names)}" if names else ""
