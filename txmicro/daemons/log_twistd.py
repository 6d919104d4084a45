"""Makes twistd's log obey the configuration, wherever it goes."""

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
"""What twistd is called in syslog when nothing else is said; it tells daemons of ours from no other."""


class TwistdLog:
    """The log of a process that twistd, or ``twist``, runs.

    twistd logs to its application's ``ILogObserver`` if that has one and no ``--logger`` is given. So we take
    ``--logger`` from it, and build what it would have built, behind what the configuration says. ``twist`` takes a
    factory, which is replaced. Either begins to log when the services are made; Twisted keeps the lines from before.

    :param name: what the process is called in syslog.
    :param twistd: the options of twistd's, or twist's, command line. Raises UsageError.
    """

    def __init__(self, name: str, twistd: Any) -> None:
        self._name = name
        self._twistd = twistd
        self._given: Callable[[], Any] | None = None
        self._is_twist = "fileLogObserverFactory" in twistd
        if self._is_twist:
            factory = twistd["fileLogObserverFactory"]
            twistd["fileLogObserverFactory"] = lambda stream: self._configured(sanitized(factory(stream)))
        elif twistd.get("logger"):
            self._given = _named(twistd["logger"])
            twistd["logger"] = None
        if twistd.get("logfile") == "-" and not twistd["nodaemon"]:
            raise UsageError(
                "a daemon in the background has no stdout to log to: name a --logfile, or use -n"
            )
        if twistd.get("prefix") == PREFIX:
            twistd["prefix"] = name

    def begin(self, config: Config, environ: Mapping[str, str], reactor: Any) -> Any:
        """Obey *config* from now on, until *reactor* stops.

        Returns the ``ILogObserver`` for twistd's application; None: ``twist`` runs, and asks for its own. Raises
        SystemExit if the log file cannot be written.
        """
        self._config, self._environ, self._reactor = config, environ, reactor
        return None if self._is_twist else self._configured(self._observer())

    def _configured(self, observer: Observer) -> Any:
        configured = ConfiguredObserver(self._config, observer, self._reactor)
        self._reactor.addSystemEventTrigger("after", "shutdown", configured.close)
        # A function, as zope's provider() takes no instance; twistd asks whether it is an observer.
        return provider(ILogObserver)(cast(Any, lambda event: configured(event)))

    def _observer(self) -> Observer:
        twistd = self._twistd
        if self._given is not None:
            return sanitized(self._given())
        if twistd.get("syslog"):
            return syslog_observer(twistd["prefix"])
        if twistd.get("logfile") in (None, "", "-"):
            return console_observer(sys.stdout, use_color(sys.stdout, self._environ))
        return file_observer(self._open(twistd["logfile"]))

    def _open(self, path: str) -> LogFile:
        try:
            file = open_log(path, self._config)
        except OSError as error:
            text = (
                f"{self._name}: cannot write the log {path}: {error.strerror}; --logfile names another file"
            )
            raise SystemExit(text) from error
        self._rotate_when_told(file)
        return file

    def _rotate_when_told(self, file: LogFile) -> None:
        """Rotate *file* at SIGUSR1, as twistd does, unless somebody uses that signal."""
        with suppress(AttributeError, ValueError):  # Windows has none, and threads may not
            if not signal.getsignal(signal.SIGUSR1):
                signal.signal(signal.SIGUSR1, lambda *_: self._reactor.callFromThread(file.rotate))


def _named(name: str) -> Callable[[], Any]:
    try:
        factory: Callable[[], Any] = namedAny(name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UsageError(f"--logger {name} cannot be imported: {type(error).__name__}: {error}") from error
    return factory
