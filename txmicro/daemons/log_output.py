"""Observers that write log events to a terminal, a file, syslog, or an observer of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TextIO, cast

from twisted.logger import ILogObserver, LegacyLogObserverWrapper, LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from txmicro.config import Config
from txmicro.log import Line, Observer, clean, filtered, read, traceback_of
from txmicro.util.reactor_thread import in_reactor_thread

from .log_limit import RateLimitedObserver

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_CYAN: Final = "\x1b[36m"
_COLORS: Final = {
    "debug": _DIM,
    "info": "\x1b[32m",
    "warn": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}

# Which events are logged


class ConfiguredObserver:
    """An observer that passes on to *observer* the events that *config* wants logged, with similar ones limited."""

    def __init__(self, config: Config, observer: Observer, reactor: Any) -> None:
        self._limited = RateLimitedObserver(observer, reactor)
        self._wanted = filtered_by(config, self._limited)

    def __call__(self, event: LogEvent) -> None:
        """Pass on *event*, or not."""
        self._wanted(event)

    def close(self) -> None:
        """Log how many events were left out. Call this when the process stops."""
        self._limited.close()


def filtered_by(config: Config, observer: Observer) -> Observer:
    """Return an observer that passes on to *observer* the events that *config* wants logged."""
    chosen = filtered(
        observer, level=config.log_level, manager_log=config.manager_log, worker_log=config.worker_log
    )
    return chosen if config.log_level.lower() == "debug" else _without_twisted_info(chosen)


def _without_twisted_info(observer: Observer) -> Observer:
    """Return an observer without Twisted's info events about each factory and port; txmicro logs its own."""

    def observe(event: LogEvent) -> None:
        own = not event.get("log_namespace", "").startswith(("twisted.", "log_legacy"))
        if own or event.get("log_level", LogLevel.info) > LogLevel.info:
            observer(event)

    return observe


def in_reactor_thread_only(observer: Observer, reactor: Any) -> Observer:
    """Return an observer that calls *observer*, which is not thread-safe, only in the reactor's thread."""

    def observe(event: LogEvent) -> None:
        if in_reactor_thread():
            observer(event)
        else:
            reactor.callFromThread(observer, event)

    return observe


# Where events are written


def use_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether to use colors on *stream*: on a terminal, unless ``NO_COLOR`` (https://no-color.org) is set."""
    return stream.isatty() and not environ.get("NO_COLOR")


def console_observer(stream: TextIO, color: bool) -> Observer:
    """Return an observer that writes lines to *stream*."""
    encoding = stream.encoding or "utf-8"

    def write(text: str) -> None:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()

    return text_observer(write, color)


def open_log(path: str, config: Config) -> LogFile:
    """Open the log file *path*, with the size and the number of old files of *config*.

    :raise OSError: it cannot be opened.
    """
    size, kept = config.log_file_size, config.log_files
    file: LogFile = LogFile.fromFullPath(path, rotateLength=size, maxRotatedFiles=kept)
    return file


def file_observer(file: LogFile) -> Observer:
    """Return an observer that writes lines to *file*."""
    return text_observer(lambda text: file.write(text.encode()), False)


def text_observer(write: Callable[[str], Any], color: bool) -> Observer:
    """Return an observer that writes time, level, worker or service, and message, then the traceback, indented."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if color else text

    def observe(event: LogEvent) -> None:
        line = read(event)
        text = " ".join(
            (
                paint(time_of(line), _DIM),
                paint(f"{line.level:8}", _COLORS[line.level]),
                paint(line.worker or line.service, _CYAN),
                line.message,
            )
        )
        write("\n    ".join((text, *line.traceback)) + "\n")

    return observe


def time_of(line: Line) -> str:
    """Return the local time of *line* in milliseconds, in the format of RFC 3339."""
    return datetime.fromtimestamp(line.time).astimezone().isoformat(timespec="milliseconds")


def syslog_observer(prefix: str) -> Observer:
    """Return an observer that writes level, worker or service, and message to syslog, then the traceback.

    Syslog adds the time. The level is the priority, too.

    :param prefix: the name of the process in syslog.
    """
    import syslog  # not on Windows

    priorities = {
        "debug": syslog.LOG_DEBUG,
        "info": syslog.LOG_INFO,
        "warn": syslog.LOG_WARNING,
        "error": syslog.LOG_ERR,
        "critical": syslog.LOG_CRIT,
    }
    syslog.openlog(prefix)

    def observe(event: LogEvent) -> None:
        line = read(event)
        priority = priorities[line.level]
        syslog.syslog(priority, f"{line.level} {line.worker or line.service} {line.message}")
        for each in line.traceback:
            syslog.syslog(priority, f"    {each}")

    return observe


# Observers of the user's own


class SanitizedFailure(Failure):
    """A copy of a failure whose traceback is safe to show. Its exception is unchanged."""

    def __init__(self, failure: Failure) -> None:
        self.__dict__.update(failure.__dict__)
        self._lines = traceback_of(failure)

    def getTraceback(self, *_: Any, **__: Any) -> str:
        """Return the traceback without passwords, and without the middle of a long one."""
        return "\n".join((*self._lines, ""))

    def getErrorMessage(self) -> str:
        """Return the text of the exception on one line, without passwords."""
        return clean(super().getErrorMessage())


def sanitized(observer: Any) -> Observer:
    """Return an observer that passes on events to *observer* with texts that are safe to show.

    :param observer: an ``ILogObserver``, or one for ``twisted.python.log``, which twistd accepts, too.
    """
    modern = observer if ILogObserver.providedBy(observer) else LegacyLogObserverWrapper(observer)
    return lambda event: cast(Observer, modern)(_safe(event))


def _safe(event: LogEvent) -> LogEvent:
    """Return *event* with its text already formatted, because a formatted text must not be formatted again."""
    line, failure = read(event), event.get("log_failure")
    safe = {key: clean(value) if isinstance(value, str) else value for key, value in event.items()}
    safe.pop("log_flattened", None)
    text = f"{line.worker} {line.message}" if line.worker else line.message
    safe |= {"log_format": "{log_text}", "log_text": text}
    return safe if failure is None else safe | {"log_failure": SanitizedFailure(failure)}
