"""Applies the configuration to the log of ``twistd``, wherever it is written."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from twisted.logger import ILogObserver
from twisted.python.logfile import LogFile
from twisted.python.reflect import namedAny
from twisted.python.usage import UsageError
from zope.interface import provider

from txmicro.config import Config
from txmicro.log import Observer

from .log_output import (
    ConfiguredObserver,
    console_observer,
    file_observer,
    open_log,
    sanitized,
    syslog_observer,
    use_color,
)

PREFIX: Final = "twisted"
"""twistd's default name in syslog, which is replaced, because all daemons would have it."""


class TwistdLog:
    """The log of a process that ``twistd`` or ``twist`` runs.

    twistd logs to the ``ILogObserver`` of its application, unless ``--logger`` is given. So this class removes
    ``--logger`` from the options, and builds the observer that twistd would have built, with the configuration applied.
    ``twist`` has a factory for observers, which is replaced. Both begin to log when the services are made; until then,
    Twisted keeps the events.

    :param name: the name of the process in syslog.
    :param twistd: the options of the command line of twistd or twist.
    :raise UsageError: they are not valid.
    :ivar on_terminal: whether the log is on a terminal, where stderr is, too.
    """

    def __init__(self, name: str, twistd: Any) -> None:
        self._name = name
        self._twistd = twistd
        self._given: Callable[[], Any] | None = None
        self.on_terminal = False
        self._is_twist = "fileLogObserverFactory" in twistd
        if self._is_twist:
            factory = twistd["fileLogObserverFactory"]
            twistd["fileLogObserverFactory"] = lambda stream: self._configured(sanitized(factory(stream)))
        elif twistd.get("logger"):
            self._given = _named(twistd["logger"])
            twistd["logger"] = None
        if twistd.get("logfile") == "-" and not twistd["nodaemon"]:
            raise UsageError(
                "--logfile: '-' is stdout, which a daemon in the background does not have; name a file, or use -n"
            )
        if twistd.get("prefix") == PREFIX:
            twistd["prefix"] = name

    def begin(self, config: Config, environ: Mapping[str, str], reactor: Any) -> Any:
        """Apply *config* from now on, until *reactor* stops.

        Return the ``ILogObserver`` for twistd's application, or None for ``twist``, which calls its factory.

        :raise SystemExit: the log file cannot be opened.
        """
        self._config, self._environ, self._reactor = config, environ, reactor
        return None if self._is_twist else self._configured(self._observer())

    def _configured(self, observer: Observer) -> Any:
        configured = ConfiguredObserver(self._config, observer, self._reactor)
        self._reactor.addSystemEventTrigger("after", "shutdown", configured.close)
        # A function, because zope's provider() does not take instances. twistd checks for the interface.
        return provider(ILogObserver)(cast(Any, lambda event: configured(event)))

    def _observer(self) -> Observer:
        twistd = self._twistd
        if self._given is not None:
            return sanitized(self._given())
        if twistd.get("syslog"):
            return syslog_observer(twistd["prefix"])
        if twistd.get("logfile") in (None, "", "-"):
            self.on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
            return console_observer(sys.stdout, use_color(sys.stdout, self._environ))
        return file_observer(self._open(twistd["logfile"]))

    def _open(self, path: str) -> LogFile:
        try:
            file = open_log(path, self._config)
        except OSError as error:
            text = (
                f"{self._name}: cannot write the log {path}: {error.strerror}; name another file as --logfile"
            )
            raise SystemExit(text) from error
        self._rotate_at_signal(file)
        return file

    def _rotate_at_signal(self, file: LogFile) -> None:
        """Rotate *file* at SIGUSR1, as twistd does, unless the signal has another handler."""
        with suppress(AttributeError, ValueError):  # not on Windows, and only in the main thread
            if not signal.getsignal(signal.SIGUSR1):
                signal.signal(signal.SIGUSR1, lambda *_: self._reactor.callFromThread(file.rotate))


def _named(name: str) -> Callable[[], Any]:
    try:
        factory: Callable[[], Any] = namedAny(name)
    except Exception as error:  # a module may raise any exception on import
        raise UsageError(f"--logger {name} cannot be imported: {type(error).__name__}: {error}") from error
    return factory
