"""Observers that write log events to a terminal, a file, syslog, or an observer of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO, cast

from twisted.logger import ILogObserver, LegacyLogObserverWrapper, LogEvent
from twisted.python.failure import Failure

from txmicro.config import Config
from txmicro.log import Line, Observer, clean, filtered, read, traceback_of, with_running_job
from txmicro.log_format import json_format, message_of, text_format
from txmicro.util.log_levels import LogLevels
from txmicro.util.reactor_thread import in_reactor_thread
from txmicro.util.rotated_file import RotatedFile

from .log_limit import RateLimitedObserver
from .log_sink import LogSink

# Which events are logged


class ConfiguredObserver:
    """An observer that passes on to *observer* the events that *config* and *levels* want logged.

    Similar ones are limited. Events of a handler get the fields of the job that it runs.
    """

    def __init__(self, config: Config, levels: LogLevels, observer: Observer, reactor: Any) -> None:
        self._limited = RateLimitedObserver(observer, reactor)
        self._wanted = filtered(
            lambda event: self._limited(with_running_job(event)),
            levels,
            manager_log=config.manager_log,
            worker_log=config.worker_log,
        )

    def __call__(self, event: LogEvent) -> None:
        """Pass on *event*, or not."""
        self._wanted(event)

    def close(self) -> None:
        """Log how many events were left out. Call this when the process stops."""
        self._limited.close()


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


def format_of(config: Config, color: bool = False) -> Callable[[Line], str]:
    """Return the function that returns a line in the format of *config*."""
    return json_format() if config.log_format == "json" else text_format(color)


def console_sink(stream: TextIO, render: Callable[[Line], str]) -> LogSink[str]:
    """Return an observer that writes lines to *stream*."""
    encoding = stream.encoding or "utf-8"

    def write(lines: Sequence[str]) -> None:
        stream.write("".join(lines).encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()

    return LogSink("the terminal", render, write)


def file_sink(file: RotatedFile, render: Callable[[Line], str]) -> LogSink[bytes]:
    """Return an observer that writes lines to *file*."""
    return LogSink(file.path, lambda line: render(line).encode(), file.write)


def syslog_sink(prefix: str) -> LogSink[tuple[int, str]]:
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

    def render(line: Line) -> tuple[int, str]:
        text = f"{line.level} {line.worker or line.service} {message_of(line)}"
        return priorities[line.level], "\n    ".join((text, *line.traceback))

    def write(lines: Sequence[tuple[int, str]]) -> None:
        for priority, text in lines:
            for each in text.split("\n"):
                syslog.syslog(priority, each)

    return LogSink("syslog", render, write)


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
