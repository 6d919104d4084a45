"""A worker that writes the log lines of all workers to one file, which is rotated.

Each process publishes its log lines as events (:mod:`txmicro.log`), under ``log.<level>.<worker type>``. An event is
``{"time", "level", "service", "worker", "job", "message"}``, with ``time`` in Unix seconds. ``job`` is None or missing
if the line is not about a job. A line of the file is::

    2026-11-23T17:49:35.123Z info   DB DB:1795449588399-3fa9 7c3e…-1/0 the message
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from twisted.python.logfile import LogFile

from txmicro.errors import ConfigError, DecodeError
from txmicro.protocol.messages import get
from txmicro.util.text import printable
from txmicro.worker import Worker

TOPICS: Final = "log.#"
MAX_LENGTH: Final = 10_000
"""The most characters of a message that are written; the rest is cut off."""


class LoggerWorker(Worker):
    """A worker that writes events with log lines to ``log_file``. It takes no jobs.

    An event that is not a log line is dropped and counted as an error of type ``DecodeError``. A line that cannot be
    written, on a full disk for instance, is dropped and counted as one of type ``OSError``.
    """

    type = "Logger"
    _file: LogFile
    _writable = True

    async def opened(self) -> None:
        """Open the file and subscribe. Raise :class:`~txmicro.errors.ConfigError` if the file cannot be written to."""
        config = self.config
        try:
            self._file = LogFile.fromFullPath(
                config.log_file, rotateLength=config.log_file_size, maxRotatedFiles=config.log_files
            )
        except OSError as error:
            raise ConfigError(
                [
                    f"log_file: cannot write to {config.log_file} ({error.strerror}): set log_file to a writable path"
                ]
            ) from error
        await self.subscribe(TOPICS, self.write)

    def closed(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, topic: str, body: Any) -> None:
        """Write the log line that the event *body* is. Drop it if that fails."""
        try:
            self._file.write(format_line(body))
            self._writable = True
        except DecodeError:
            self.metrics.record_error("DecodeError")
        except OSError as error:
            self.metrics.record_error("OSError")
            self._log_once(error)

    def _log_once(self, error: OSError) -> None:
        """Log *error* once until a line can be written again: a line that is logged here comes back as an event."""
        if self._writable:
            self._writable = False
            self.log.error(
                "{worker}: cannot write to {file}: {error}; log lines are dropped until it can (logged once)",
                worker=self.id,
                file=self.config.log_file,
                error=error,
            )


def format_line(body: Any) -> bytes:
    """Return the line for the event *body*.

    :raise DecodeError: *body* is not a log line.
    """
    seconds, message = get(body, "time", (int, float)), get(body, "message", str)
    level, service, worker = (get(body, name, str) for name in ("level", "service", "worker"))
    job = get(body, "job", (str, type(None)), None) or "-"
    try:
        time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise DecodeError(f"'time' is {seconds!r:.100}: {error}") from error
    text = f"{time.removesuffix('+00:00')}Z {level:<6} {service} {worker} {job} {message[:MAX_LENGTH]}"
    return printable(text).encode() + b"\n"
