"""``python -m benchmarks.log_lines [--lines N]``: the time that a log line takes in the thread that logs.

A line goes through the observers of a daemon to a file, which a thread writes. The least of several rounds counts,
because other programs on the machine only add to it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, globalLogPublisher

from txmicro.config import Config
from txmicro.daemons.log_output import ConfiguredObserver, file_sink, format_of
from txmicro.daemons.log_standard import log_standard
from txmicro.protocol.job import Job
from txmicro.receiving import running_job
from txmicro.util.log_levels import LogLevels
from txmicro.util.rotated_file import RotatedFile

ROUNDS: Final = 7
WORKER: Final = "WB:1795449588399-3fa9"
TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Source:
    """A worker, as far as its lines go."""

    log = Logger()
    id = WORKER


def measure(form: str, folder: Path, lines: int) -> dict[str, float]:
    """Return the microseconds of a line in each situation, in the format *form*."""
    config, levels = Config(log_format=form, log_file_size=1 << 40), LogLevels()
    file = RotatedFile(str(folder / form), config.rotation)
    sink = file_sink(file, format_of(config))
    observer: Any = ConfiguredObserver(config, levels, sink, MemoryReactorClock())
    job = Job("1795449588399-3fa9-1", None, ["WB:*"], 0, "WA:1", "WA:1", 1.0, traceparent=TRACE)
    source, standard = Source(), logging.getLogger("shop")

    def within_a_job() -> None:
        token = running_job.enter(WORKER, job)
        source.log.info("stored row {row} of {table}", row=5, table="movies")
        running_job.leave(token)

    situations: dict[str, Callable[[], object]] = {
        "a line": lambda: source.log.info("stored row {row} of {table}", row=5, table="movies"),
        "a line of a job": within_a_job,
        "below the level": lambda: source.log.debug("stored row {row}", row=5),
        "of logging": lambda: standard.info("stored row %s of %s", 5, "movies"),
        "of logging, below the level": lambda: standard.debug("stored row %s", 5),
        "no line: to enter and leave a job": lambda: running_job.leave(running_job.enter(WORKER, job)),
    }
    handler = log_standard(levels)
    globalLogPublisher.addObserver(observer)
    sink.writer.start()
    try:
        return {name: _least(function, lines) for name, function in situations.items()}
    finally:
        globalLogPublisher.removeObserver(observer)
        logging.getLogger().removeHandler(handler)
        sink.writer.stop()
        file.close()


def _least(function: Callable[[], object], calls: int) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(calls):
            function()
        rounds.append((time.perf_counter() - began) / calls * 1e6)
    return min(rounds)


def main(arguments: list[str]) -> None:
    """Measure, and print the microseconds of a line as text and as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log_lines")
    parser.add_argument("--lines", type=int, default=5000, help="how many lines in each round (5000)")
    options = parser.parse_args(arguments)
    globalLogPublisher._observers.clear()  # Twisted's own, which keeps lines until a log begins
    with TemporaryDirectory() as folder:
        text, as_json = (measure(form, Path(folder), options.lines) for form in ("text", "json"))
    print(f"{'microseconds':<36}{'text':>8}{'JSON':>8}")
    for name in text:
        print(f"{name:<36}{text[name]:8.2f}{as_json[name]:8.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
