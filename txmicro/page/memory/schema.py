"""The tables of the memory, and the check that a file is one.

``jobs`` has one row per job: its summary and its records. ``number`` says when the job was first heard of, or failed,
in units of :data:`TICK`, and is unique: jobs are listed and deleted in its order. ``terms`` is a full-text index, with
``number`` as its key, of the words that a job is searched by and the terms that it is filtered by. ``failures`` has one
row per group of failures.
"""

from __future__ import annotations

import sqlite3
from typing import Final

APPLICATION: Final = 0x7478_6D6A
"""The file's ``application_id``: "txmj"."""
VERSION: Final = 1
"""The file's ``user_version``. It changes with the tables, with what is stored in them, and with the terms."""
TICK: Final = 0.0001
"""Seconds of a job's ``number``. Up to 10,000 jobs per second have numbers that are their times."""
OTHERS: Final = "(other messages)"
"""The message of a group of failures that are in no other group, because there are too many groups."""

_CREATE: Final = (
    """CREATE TABLE jobs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, failed INTEGER NOT NULL, grp TEXT, dead INTEGER,
        address TEXT NOT NULL, types TEXT NOT NULL, lane TEXT NOT NULL, outcome TEXT NOT NULL,
        error TEXT NOT NULL, message TEXT NOT NULL, sent REAL NOT NULL, ended REAL, seconds REAL,
        hops INTEGER NOT NULL, worker TEXT NOT NULL, sender TEXT NOT NULL, trace TEXT NOT NULL, steps TEXT NOT NULL)""",
    "CREATE INDEX jobs_by_age ON jobs (failed)",
    "CREATE INDEX jobs_by_group ON jobs (grp) WHERE grp IS NOT NULL",
    "CREATE INDEX dead_by_group ON jobs (grp) WHERE dead IS NOT NULL",
    """CREATE VIRTUAL TABLE terms USING fts5(
        words, content='', detail=none, columnsize=0, prefix='1 2', tokenize="ascii tokenchars '_:'")""",
    """CREATE TABLE failures (
        id TEXT PRIMARY KEY, type TEXT NOT NULL, error TEXT NOT NULL, message TEXT NOT NULL, count INTEGER NOT NULL,
        dead INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL, sample TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX failures_by_last ON failures (last)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)

_BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


class UnusableFile(Exception):
    """The file is not a memory of jobs, or one that this version can read. It is left as it is."""


def create(connection: sqlite3.Connection) -> None:
    """Create the tables that an empty file lacks.

    :raise UnusableFile: the file has other contents.
    """
    _check(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if not _number(connection, "application_id"):
        for statement in _CREATE:
            connection.execute(statement)
    connection.execute("COMMIT")


def is_broken(error: Exception) -> bool:
    """Return whether *error* says that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without the extended code
    return code in _BROKEN


def prepare(connection: sqlite3.Connection) -> None:
    """Set what a connection needs. A commit does not wait for the disk: a power failure may cost the last second."""
    connection.isolation_level = None
    for setting in ("synchronous = NORMAL", "cache_size = -16000", "journal_size_limit = 67108864"):
        connection.execute(f"PRAGMA {setting}")


def _check(connection: sqlite3.Connection) -> None:
    application, version = _number(connection, "application_id"), _number(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == 0 and version == 0 and not tables:
        return
    if application != APPLICATION:
        raise UnusableFile("it is a SQLite file of another program")
    if version != VERSION:
        raise UnusableFile(f"it has version {version}, and this txmicro reads version {VERSION}")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
