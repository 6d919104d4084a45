"""A worker that writes the log lines of all workers to one file, which is rotated.

Each process publishes its log lines as events (:mod:`txmicro.log`), under ``log.<level>.<worker type>``. An event is
``{"time", "level", "service", "worker", "job", "message"}``, with ``time`` in Unix seconds. ``job`` is None or missing
if the line is not about a job. Other fields of :data:`txmicro.util.json_lines.FIELDS` are optional.

A line of the file is a JSON object if ``log_format`` is ``json``, or else::

    2026-11-23T17:49:35.123Z info   DB DB:1795449588399-3fa9 7c3e…-1/0 the message
"""

from __future__ import annotations

import time
from typing import Any, Final

from txmicro.errors import ConfigError, DecodeError
from txmicro.protocol.messages import get
from txmicro.util.background_writer import BackgroundWriter
from txmicro.util.json_lines import FIELDS, json_line, show_time
from txmicro.util.rotated_file import RotatedFile
from txmicro.util.text import encodable, printable
from txmicro.worker import Worker

TOPICS: Final = "log.#"
REMINDER: Final = 60.0
"""Seconds after which it is logged again that lines cannot be written."""

MAX_LENGTH: Final = 10_000
"""The most characters of a message that are written; the rest is cut off."""

_NUMBERS: Final = frozenset(("hop", "pid", "repeated"))


class LoggerWorker(Worker):
    """A worker that writes events with log lines to ``log_file``. It takes no jobs.

    A thread writes, so that a disk that is slow or does not answer never blocks the process. An event that is not a log
    line is dropped and counted as an error of type ``DecodeError``. A line that cannot be written, on a full disk for
    instance, is dropped and counted as one of type ``OSError``.
    """

    type = "Logger"
    _file: RotatedFile
    _writer: BackgroundWriter[bytes]
    _silent_until = 0.0

    async def opened(self) -> None:
        """Open the file and subscribe. Raise :class:`~txmicro.errors.ConfigError` if the file cannot be written to."""
        config = self.config
        try:
            self._file = RotatedFile(config.log_file, config.rotation)
        except OSError as error:
            raise ConfigError(
                [
                    f"log_file: cannot write to {config.log_file} ({error.strerror}): set log_file to a writable path"
                ]
            ) from error
        self._render = format_json if config.log_format == "json" else format_line
        self._writer = BackgroundWriter(self._file.write, self._note, self._lost)
        self._file.start()
        self._writer.start()
        await self.subscribe(TOPICS, self.write)

    def closed(self) -> None:
        """Write what waits, and close the file."""
        self._writer.stop()
        self._file.close()

    def write(self, topic: str, body: Any) -> None:
        """Write the log line that the event *body* is. Drop it if that fails."""
        try:
            line = self._render(body)
        except DecodeError:
            self.metrics.record_error("DecodeError")
            return
        self._writer.put(line, len(line))

    def _note(self, number: int, reason: str) -> bytes:
        text = f"{number:,} log lines before this one were not written: {reason}"
        body = {
            "time": time.time(),
            "level": "warn",
            "service": self.type,
            "worker": self.id,
            "message": text,
        }
        return self._render(body)

    def _lost(self, number: int, reason: str) -> None:
        self.reactor.callFromThread(self._count_lost, number, reason)

    def _count_lost(self, number: int, reason: str) -> None:
        for _ in range(number):
            self.metrics.record_error("OSError")
        self._log_once(reason)

    def _log_once(self, reason: str) -> None:
        """Log *reason* at most once a minute: a line that is logged here comes back as an event."""
        now = self.reactor.seconds()
        if now >= self._silent_until:
            self._silent_until = now + REMINDER
            self.log.error(
                "{worker}: cannot write to {file}: {reason}; log lines are dropped until it can (logged at most once a "
                "minute)",
                worker=self.id,
                file=self.config.log_file,
                reason=reason,
            )


def format_line(body: Any) -> bytes:
    """Return the line for the event *body*, as text.

    :raise DecodeError: *body* is not a log line.
    """
    time, message, job = _read(body)
    level, service, worker = (get(body, name, str) for name in ("level", "service", "worker"))
    text = f"{time} {level:<6} {service} {worker} {job or '-'} {message}"
    return printable(text).encode() + b"\n"


def format_json(body: Any) -> bytes:
    """Return the line for the event *body*, as JSON. Optional fields of a wrong type are left out.

    :raise DecodeError: *body* is not a log line.
    """
    _, message, job = _read(body)
    line: dict[str, Any] = {}
    for name in FIELDS:
        value = body.get(name)
        if name in _NUMBERS:
            line[name] = value if type(value) is int else None
        elif isinstance(value, str):
            line[name] = encodable(value[-MAX_LENGTH:])
    line |= {
        "time": body["time"],
        "level": get(body, "level", str),
        "message": printable(message),
        "job": job,
    }
    line["component"] = line.get("component") or encodable(get(body, "service", str))
    return json_line(line).encode() + b"\n"


def _read(body: Any) -> tuple[str, str, str]:
    """Return time, message and job of the event *body*; raise DecodeError."""
    seconds, message = get(body, "time", (int, float)), get(body, "message", str)
    job = get(body, "job", (str, type(None)), None) or ""
    for name in ("level", "service", "worker"):
        get(body, name, str)
    try:
        return show_time(seconds), message[:MAX_LENGTH], printable(job)
    except (ValueError, OverflowError, OSError) as error:
        raise DecodeError(f"'time' is {seconds!r:.100}: {error}") from error
