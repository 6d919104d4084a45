"""Signals: the second SIGINT or SIGTERM ends the process at once, and SIGUSR2 logs all lines."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any, Final

from twisted.logger import Logger

from txmicro.util.log_levels import LogLevels

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


class DebugSignal:
    """Logs all lines, whatever their levels are, from one SIGUSR2 to the next.

    A handler of the program's own is left alone.
    """

    def __init__(self, reactor: Any, levels: LogLevels) -> None:
        self._levels = levels
        with suppress(AttributeError, ValueError):  # not on Windows, and only in the main thread
            if signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL:
                signal.signal(signal.SIGUSR2, lambda *_: reactor.callFromThread(self._toggle))

    def _toggle(self) -> None:
        """Log, at a moment when everything is logged, what is logged from now on."""
        if self._levels.debug:
            log.info("SIGUSR2: lines are logged by their levels again")
            self._levels.toggle_debug()
        else:
            self._levels.toggle_debug()
            log.info("SIGUSR2: all lines are logged, whatever the levels are, until the next SIGUSR2")
