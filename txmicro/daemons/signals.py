"""What a second signal to stop does: it ends the process at once, without a traceback."""

from __future__ import annotations

import signal
from typing import Any, Final

from twisted.logger import Logger

ONE_REQUEST: Final = 1.0
"""Seconds in which signals are one request: Ctrl-C may come from the terminal, and again from whoever runs a daemon."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

log = Logger()


class SecondSignal:
    """Ends the reactor at the second SIGINT or SIGTERM; Twisted's own handlers cannot stop it twice, and say so.

    After that, the next signal ends the process as if nobody handled it, should the reactor hang.
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
        log.warn("ends at once, at the second signal ({name}): what was still running is cut off", name=name)
        self._reactor.crash()
