"""Writes log lines to systemd's journal, with their fields (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).

An entry is one datagram. Each of its fields is ``NAME=value`` and a newline. A value with a newline is written as the
name, a newline, the value's length (64 bits, little-endian), the value, and a newline. Entries here are always small
enough for a datagram.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from txmicro.log import Line
from txmicro.util.text import encodable

from .log_sink import LogSink

SOCKET: Final = "/run/systemd/journal/socket"
"""The path of the journal's socket."""

STREAM: Final = "JOURNAL_STREAM"
"""The environment variable with device and inode of the stream that systemd has connected to the journal."""

TRACEBACK_MAX: Final = 64 << 10
"""The most characters of a traceback: a socket's buffer for datagrams usually has 208 KiB."""

PRIORITIES: Final = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""Syslog's severities."""


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether *stream* is connected to the journal, as :data:`STREAM` says, and the journal has a socket."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return False
    return environ.get(STREAM) == f"{status.st_dev}:{status.st_ino}" and os.path.exists(SOCKET)


def journal_entry(line: Line, name: str) -> bytes:
    """Return the datagram for *line* of the process *name*."""
    text = "\n".join((line.message, *line.traceback))[: TRACEBACK_MAX + len(line.message)]
    fields = {
        "MESSAGE": text,
        "PRIORITY": str(PRIORITIES[line.level]),
        "SYSLOG_IDENTIFIER": name,
        "TXMICRO_WORKER": line.worker,
        "TXMICRO_JOB": line.job,
        "TXMICRO_HOP": "" if line.hop is None else str(line.hop),
        "TXMICRO_TRACE": line.trace,
        "TXMICRO_COMPONENT": line.component,
        "TXMICRO_ERROR": line.error,
        "TXMICRO_REPEATED": str(line.repeated or ""),
    }
    return b"".join(_field(key, encodable(value).encode()) for key, value in fields.items() if value)


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)


def journal_sink(name: str, path: str = SOCKET) -> LogSink[bytes]:
    """Return an observer that writes to the journal, as the process *name*."""
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def write(entries: Sequence[bytes]) -> None:
        for entry in entries:
            journal.sendto(entry, path)

    return LogSink("the journal", lambda line: journal_entry(line, name), write)
