"""Opens the file of the memory, or another one beside it if that cannot be used. No file is ever deleted or changed
that is not a memory of this version.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from .schema import UnusableFile, create, is_broken, prepare

IN_MEMORY: Final = ":memory:"
MAX_FILES: Final = 10
"""How many names are tried: the configured one, and those with ``.1`` to ``.9`` at their ends."""
BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another program that writes to the file."""


class UnusedFile(NamedTuple):
    """A file that cannot be used, and why."""

    path: str
    reason: str


class MemoryFile:
    """An open file, or a database in memory.

    :ivar path: its path; ``:memory:``: there is no file.
    :ivar connection: the connection that writes.
    :ivar problems: the files that could not be used.
    """

    def __init__(
        self, path: str, connection: sqlite3.Connection, lock: int | None, problems: list[UnusedFile]
    ) -> None:
        self.path = path
        self.connection = connection
        self.problems = problems
        self._lock = lock
        self._readers: list[sqlite3.Connection] = []

    @property
    def in_memory(self) -> bool:
        """True if there is no file."""
        return self.path == IN_MEMORY

    def take_reader(self) -> sqlite3.Connection:
        """Return a connection that only reads, for one thread at a time. :meth:`return_reader` takes it back."""
        return (
            self._readers.pop() if self._readers else _connect(f"file:{_quoted(self.path)}?mode=ro", uri=True)
        )

    def return_reader(self, connection: sqlite3.Connection) -> None:
        """Keep *connection* for the next query."""
        self._readers.append(connection)

    def close(self) -> None:
        """Close all connections. No query is running."""
        for connection in (*self._readers, self.connection):
            connection.close()
        if self._lock is not None:
            os.close(self._lock)


def open_file(path: str, damaged: Collection[str] = ()) -> MemoryFile:
    """Open *path*, or the first file beside it that can be used, or (*path* is empty, or none can) memory.

    Two processes never use one file: each holds the lock of ``FILE.lock``.

    :param damaged: files that are not tried.
    """
    problems: list[UnusedFile] = []
    for candidate in _candidates(path):
        if candidate in damaged:
            continue
        lock = None
        try:
            lock = _lock(f"{candidate}.lock")
            return MemoryFile(candidate, _open(candidate), lock, problems)
        except (UnusableFile, sqlite3.Error, OSError) as error:
            reason = f"it is damaged, or not a SQLite file ({error})" if is_broken(error) else str(error)
            problems.append(UnusedFile(candidate, reason))
        if lock is not None:
            os.close(lock)
    return MemoryFile(IN_MEMORY, _open(IN_MEMORY), None, problems)


def _candidates(path: str) -> Iterator[str]:
    if path:
        yield path
        yield from (f"{path}.{number}" for number in range(1, MAX_FILES))


def _open(path: str) -> sqlite3.Connection:
    if path != IN_MEMORY:  # the messages in it are not for everybody
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = _connect(path)
    try:
        create(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: str, *, uri: bool = False) -> sqlite3.Connection:
    # One thread uses a connection at a time, but not always the same one.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, check_same_thread=False, uri=uri)
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _lock(path: str) -> int:
    """Return a descriptor that holds the lock of *path* until it is closed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UnusableFile("another process uses it") from error
    return descriptor


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
