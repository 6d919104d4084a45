"""The forms of a log line: text for people, and JSON for programs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from .log import Line
from .util.json_lines import json_line

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


def time_of(line: Line) -> str:
    """Return the local time of *line* in milliseconds, in the format of RFC 3339."""
    return datetime.fromtimestamp(line.time).astimezone().isoformat(timespec="milliseconds")


def message_of(line: Line) -> str:
    """Return the message of *line*, followed by its job, hop and trace, as far as the message does not name them."""
    names = []
    if line.job and line.job not in line.message:
        names.append(f"job {line.job}" if line.hop is None else f"job {line.job}/{line.hop}")
    if line.trace and line.trace not in line.message:
        names.append(f"trace {line.trace}")
    return f"{line.message} ({', '.join(names)})" if names else line.message


def text_format(color: bool) -> Callable[[Line], str]:
    """Return a function that returns time, level, worker or service, and message, then the traceback, indented."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if color else text

    def render(line: Line) -> str:
        text = " ".join(
            (
                paint(time_of(line), _DIM),
                paint(f"{line.level:8}", _COLORS[line.level]),
                paint(line.worker or line.service, _CYAN),
                message_of(line),
            )
        )
        return "\n    ".join((text, *line.traceback)) + "\n"

    return render


def fields_of(line: Line, host: str) -> dict[str, Any]:
    """Return the fields of *line*, which this process on *host* logs; see :data:`txmicro.util.json_lines.FIELDS`."""
    return {
        **line._asdict(),
        "traceback": "\n".join(line.traceback),
        "repeated": line.repeated or None,
        "host": host,
        "pid": os.getpid(),
    }


def json_format() -> Callable[[Line], str]:
    """Return a function that returns a line as JSON."""
    host = socket.gethostname()
    return lambda line: json_line(fields_of(line, host)) + "\n"
