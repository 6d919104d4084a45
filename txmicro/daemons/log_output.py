"""Where log events go: a terminal, a file, syslog, or an observer of somebody's own; and what of them goes there."""

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

# What goes there


class ConfiguredObserver:
    """An observer that passes to *observer* what *config* wants logged, and little of what recurs."""

    def __init__(self, config: Config, observer: Observer, reactor: Any) -> None:
        self._limited = RateLimitedObserver(observer, reactor)
        self._wanted = filtered_by(config, self._limited)

    def __call__(self, event: LogEvent) -> None:
        """Observe *event*."""
        self._wanted(event)

    def close(self) -> None:
        """Say how much was left out until now; to be called when the process stops."""
        self._limited.close()


def filtered_by(config: Config, observer: Observer) -> Observer:
    """Return an observer that passes to *observer* what *config* wants logged."""
    chosen = filtered(
        observer, level=config.log_level, manager_log=config.manager_log, worker_log=config.worker_log
    )
    return chosen if config.log_level.lower() == "debug" else _without_chatter(chosen)


def _without_chatter(observer: Observer) -> Observer:
    """*observer*, without what Twisted says of each factory and port: our services say in words where they are."""

    def observe(event: LogEvent) -> None:
        own = not event.get("log_namespace", "").startswith(("twisted.", "log_legacy"))
        if own or event.get("log_level", LogLevel.info) > LogLevel.info:
            observer(event)

    return observe


def in_reactor_thread_only(observer: Observer, reactor: Any) -> Observer:
    """Return an observer that gives *observer*, which is not safe in threads, all events in the reactor's thread."""

    def observe(event: LogEvent) -> None:
        if in_reactor_thread():
            observer(event)
        else:
            reactor.callFromThread(observer, event)

    return observe


# Where to


def use_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to color what goes to *stream*: a terminal, unless ``NO_COLOR`` (https://no-color.org) is set."""
    return stream.isatty() and not environ.get("NO_COLOR")


def console_observer(stream: TextIO, color: bool) -> Observer:
    """Return an observer that writes lines to *stream*."""
    encoding = stream.encoding or "utf-8"

    def write(text: str) -> None:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()

    return text_observer(write, color)


def open_log(path: str, config: Config) -> LogFile:
    """Open the log file *path*, of which *config* says how large it grows and how many old ones stay.

    Raises OSError.
    """
    size, kept = config.log_file_size, config.log_files
    file: LogFile = LogFile.fromFullPath(path, rotateLength=size, maxRotatedFiles=kept)
    return file


def file_observer(file: LogFile) -> Observer:
    """Return an observer that writes lines to *file*."""
    return text_observer(lambda text: file.write(text.encode()), False)


def text_observer(write: Callable[[str], Any], color: bool) -> Observer:
    """Return an observer that writes lines: time, level, worker or service, message; then the traceback, indented."""

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
    """Return the local time of *line*, as RFC 3339 has it, to the millisecond."""
    return datetime.fromtimestamp(line.time).astimezone().isoformat(timespec="milliseconds")


def syslog_observer(prefix: str) -> Observer:
    """Return an observer that writes lines to syslog: level, worker or service, message; then the traceback.

    *prefix* is what the process is called there. Syslog adds the time, and gets the level as priority too.
    """
    import syslog  # Windows has none

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


# Observers of somebody's own


class SanitizedFailure(Failure):
    """A failure whose traceback is safe to show; its exception is as it was raised."""

    def __init__(self, failure: Failure) -> None:
        self.__dict__.update(failure.__dict__)
        self._lines = traceback_of(failure)

    def getTraceback(self, *_: Any, **__: Any) -> str:
        """Return the traceback, without passwords, and without the middle of a long one."""
        return "\n".join((*self._lines, ""))

    def getErrorMessage(self) -> str:
        """Return what the exception says, on one line, without passwords."""
        return clean(super().getErrorMessage())


def sanitized(observer: Any) -> Observer:
    """Return an observer that gives *observer*, which writes events in its own way, none that is unsafe to show.

    :param observer: a new one or, as twistd takes them, one of ``twisted.python.log``.
    """
    modern = observer if ILogObserver.providedBy(observer) else LegacyLogObserverWrapper(observer)
    return lambda event: cast(Observer, modern)(_safe(event))


def _safe(event: LogEvent) -> LogEvent:
    """*event* with its text formatted already: what a format's fields hold is not to be formatted again."""
    line, failure = read(event), event.get("log_failure")
    safe = {key: clean(value) if isinstance(value, str) else value for key, value in event.items()}
    safe.pop("log_flattened", None)
    text = f"{line.worker} {line.message}" if line.worker else line.message
    safe |= {"log_format": "{log_text}", "log_text": text}
    return safe if failure is None else safe | {"log_failure": SanitizedFailure(failure)}
