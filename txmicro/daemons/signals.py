"""Ends a process at once, and without a traceback, at the second SIGINT or SIGTERM."""

from __future__ import annotations

import signal
from typing import Any, Final

from twisted.logger import Logger

ONE_REQUEST: Final = 1.0
"""Seconds in which several signals count as one: the terminal sends Ctrl-C, and a parent process may pass it on."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

log = Logger()


class SecondSignal:
    """Stops the reactor at once at the second SIGINT or SIGTERM, for which Twisted's own handlers log an error.

    After that the signals have their default handlers, so that a third one ends the process even if the reactor is
    blocked.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._since = 0.0
        reactor.addSystemEventTrigger("before", "shutdown", self._stopping)

    def _stopping(self) -> None:
        self._since = self._reactor.seconds()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._again)

    def _again(self, number: int, _frame: Any) -> None:
        if self._reactor.seconds() - self._since >= ONE_REQUEST:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            self._reactor.callFromThread(self._end, number)

    def _end(self, number: int) -> None:
        name = signal.Signals(number).name
        log.warn("ending the process at the second signal ({name}); running jobs are not finished", name=name)
        self._reactor.crash()
