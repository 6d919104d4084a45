"""Reads log files, with those that were rotated and compressed before them."""

from __future__ import annotations

import gzip
import heapq
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from txmicro.errors import TxmicroError
from txmicro.util.rotated_file import rotated_files

from .log_entries import LogEntry, Unread, entries


class LogFileUnreadable(TxmicroError):
    """A log file cannot be read; the message says which one, and why.

    Name another file, or use ``--follow``, which reads the bus.
    """


def read_files(paths: Sequence[str], since: float, warn: Callable[[str], Any]) -> Iterator[LogEntry]:
    """Yield the entries of the logs *paths* in the order of their times, as far as each file has that order.

    :param since: files that were written last before this Unix time are left out.
    :param warn: called with what could not be read of a file.
    :raise LogFileUnreadable: a file does not exist or cannot be read.
    """
    found = [_files(path, since) for path in paths]
    logs = [_read_log(files, warn) for files in found]
    return heapq.merge(*logs, key=lambda entry: entry.line.time)


def _files(path: str, since: float) -> list[str]:
    """Return the files of the log *path*, the oldest first; raise LogFileUnreadable."""
    try:
        os.stat(path)
        rotated = [each.path for each in reversed(rotated_files(os.path.abspath(path)))]
        newer = [each for each in rotated if os.stat(each).st_mtime >= since]
    except OSError as error:
        raise _unreadable(path, error) from error
    return [*newer, path]


def _unreadable(path: str, error: OSError) -> LogFileUnreadable:
    return LogFileUnreadable(
        f"{path}: cannot be read: {error.strerror or error}; give the path of a log file, or use --follow alone to "
        "read the bus"
    )


def _read_log(files: Sequence[str], warn: Callable[[str], Any]) -> Iterator[LogEntry]:
    for path in files:
        unread = Unread()
        yield from entries(_lines(path, warn), unread)
        if unread.lines:
            count = (
                f"{unread.lines:,} line{' is not a log line' if unread.lines == 1 else 's are not log lines'}"
            )
            warn(f"{path}: {count}, and left out")


def _lines(path: str, warn: Callable[[str], Any]) -> Iterator[str]:
    opener: Callable[..., Any] = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        warn(f"{path}: its end cannot be read: {error}; the lines before it are shown")
    except OSError as error:
        raise _unreadable(path, error) from error
