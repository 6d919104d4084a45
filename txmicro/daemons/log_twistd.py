"""Applies the configuration to the log of ``twistd``, wherever it is written."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from twisted.logger import ILogObserver
from twisted.python.reflect import namedAny
from twisted.python.usage import UsageError
from zope.interface import provider

from txmicro.config import Config
from txmicro.log import Observer
from txmicro.util.log_levels import LogLevels
from txmicro.util.rotated_file import RotatedFile

from .log_journal import is_journal, journal_sink
from .log_output import (
    ConfiguredObserver,
    console_sink,
    file_sink,
    format_of,
    sanitized,
    syslog_sink,
    use_color,
)
from .log_sink import LogSink

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
        self._sink: LogSink[Any] | None = None
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

    def begin(self, config: Config, levels: LogLevels, environ: Mapping[str, str], reactor: Any) -> Any:
        """Apply *config* and *levels* from now on, until *reactor* stops.

        Return the ``ILogObserver`` for twistd's application, or None for ``twist``, which calls its factory.

        :raise SystemExit: the log file cannot be opened.
        """
        self._config, self._levels, self._environ, self._reactor = config, levels, environ, reactor
        return None if self._is_twist else self._configured(self._observer())

    def _configured(self, observer: Observer) -> Any:
        configured = ConfiguredObserver(self._config, self._levels, observer, self._reactor)
        self._reactor.addSystemEventTrigger("after", "shutdown", configured.close)
        # A function, because zope's provider() does not take instances. twistd checks for the interface.
        return provider(ILogObserver)(cast(Any, lambda event: configured(event)))

    def _observer(self) -> Observer:
        if self._given is not None:
            return sanitized(self._given())
        self._sink = sink = self._make_sink()
        self._reactor.callWhenRunning(sink.writer.start)
        self._reactor.addSystemEventTrigger("after", "shutdown", sink.writer.stop)
        atexit.register(sink.writer.stop)  # after reactor.crash(), which fires no triggers
        return sink

    def _make_sink(self) -> LogSink[Any]:
        twistd = self._twistd
        if twistd.get("syslog"):
            return syslog_sink(twistd["prefix"])
        if twistd.get("logfile") in (None, "", "-"):
            self.on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
            if self._config.log_format == "text" and is_journal(sys.stdout, self._environ):
                return journal_sink(self._name)
            return console_sink(sys.stdout, format_of(self._config, use_color(sys.stdout, self._environ)))
        file = self._open(twistd["logfile"])
        self._reactor.callWhenRunning(file.start)
        sink = file_sink(file, format_of(self._config))
        self._rotate_at_signal(file, sink)
        return sink

    def end(self, status: int) -> None:
        """Write what waits, and end the process with *status*, without any cleanup. Any thread may call it."""
        if self._sink is not None:
            self._sink.writer.stop()
        os._exit(status)

    def _open(self, path: str) -> RotatedFile:
        try:
            return RotatedFile(path, self._config.rotation)
        except OSError as error:
            text = (
                f"{self._name}: cannot write the log {path}: {error.strerror}; name another file as --logfile"
            )
            raise SystemExit(text) from error

    def _rotate_at_signal(self, file: RotatedFile, sink: LogSink[bytes]) -> None:
        """Rotate *file* at SIGUSR1, as twistd does, unless the signal has another handler."""

        def rotate() -> None:
            file.rotate_soon()
            sink.writer.put(b"", 0)

        with suppress(AttributeError, ValueError):  # not on Windows, and only in the main thread
            if not signal.getsignal(signal.SIGUSR1):
                signal.signal(signal.SIGUSR1, lambda *_: self._reactor.callFromThread(rotate))


def _named(name: str) -> Callable[[], Any]:
    try:
        factory: Callable[[], Any] = namedAny(name)
    except Exception as error:  # a module may raise any exception on import
        raise UsageError(f"--logger {name} cannot be imported: {type(error).__name__}: {error}") from error
    return factory
