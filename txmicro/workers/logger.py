"""A worker that writes the log lines of all workers to one file, which is rotated.

It hears them on ``txmicro.events``, where every process publishes its own (:mod:`txmicro.log`), under
``log.<level>.<worker type>``, as ``{"time", "level", "service", "worker", "job", "message"}``: ``time`` in Unix
seconds, ``job`` None or missing where there is none. A line of the file is::

    2026-11-23T17:49:35.123Z info   WB WB:1795449588399-3fa9 7c3e…-1/0 the message
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
"""The most characters of a message that are written."""


class LoggerWorker(Worker):
    """Writes to ``log_file``; takes no jobs.

    An event of another shape is dropped, and counted as an error of type ``DecodeError``; a line that cannot be
    written, because the disk is full, as one of type ``OSError``.
    """

    type = "Logger"
    _file: LogFile
    _writes = True

    async def opened(self) -> None:
        """Open the file. A path that cannot be written to is a :class:`~txmicro.errors.ConfigError`."""
        config = self.config
        try:
            self._file = LogFile.fromFullPath(
                config.log_file, rotateLength=config.log_file_size, maxRotatedFiles=config.log_files
            )
        except OSError as error:
            raise ConfigError([f"log_file: cannot write to {config.log_file}: {error.strerror}"]) from error
        await self.subscribe(TOPICS, self.write)

    def closed(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, topic: str, body: Any) -> None:
        """Write the event *body*."""
        try:
            self._file.write(line(body))
            self._writes = True
        except DecodeError:
            self.metrics.record_error("DecodeError")
        except OSError as error:
            self.metrics.record_error("OSError")
            self._say(error)

    def _say(self, error: OSError) -> None:
        """Say it once, until it passes: what is logged here comes back as a line to write."""
        if self._writes:
            self._writes = False
            self.log.error("{worker}: cannot write the log: {error}", worker=self.id, error=error)


def line(body: Any) -> bytes:
    """The line of an event; raises :class:`~txmicro.errors.DecodeError`."""
    seconds, message = get(body, "time", (int, float)), get(body, "message", str)
    level, service, worker = (get(body, name, str) for name in ("level", "service", "worker"))
    job = get(body, "job", (str, type(None)), None) or "-"
    try:
        time = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise DecodeError(f"'time' is {seconds!r:.100}: {error}") from error
    text = f"{time.removesuffix('+00:00')}Z {level:<6} {service} {worker} {job} {message[:MAX_LENGTH]}"
    return printable(text).encode() + b"\n"
