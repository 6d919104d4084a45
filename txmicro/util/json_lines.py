"""The JSON form of a log line; docs/howto/logs.rst describes its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

FIELDS: Final = (
    "time",
    "level",
    "component",
    "worker",
    "job",
    "hop",
    "trace",
    "message",
    "error",
    "traceback",
    "repeated",
    "logger",
    "host",
    "pid",
)
"""The fields, in their order. Those without a value are left out, except the first two and ``message``."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def show_time(seconds: float) -> str:
    """Return Unix time as ISO 8601 in UTC, in milliseconds.

    :raise ValueError: no date has it. :raise OverflowError: the same. :raise OSError: the same.
    """
    return (
        datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    )


def json_line(fields: Mapping[str, Any]) -> str:
    """Return *fields*, whose ``time`` is Unix time, as one line without its newline.

    Texts must not have surrogates. Fields that are not in :data:`FIELDS` are left out.
    """
    line = {name: fields.get(name) for name in FIELDS}
    line["time"] = show_time(fields["time"])
    return _encode({name: value for name, value in line.items() if value not in _EMPTY or name in _ALWAYS})


_EMPTY: Final[tuple[Any, ...]] = (None, "", [])
_ALWAYS: Final = frozenset(("time", "level", "message"))
