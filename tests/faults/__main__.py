"""``python -m tests.faults [--row N …] [--quick] [--without MECHANISM]``: play the rows, tell how they went.

Leaves with status 0 if all rows that could be played here have passed, with 1 if not. With TXMICRO_REQUIRE_SERVICES=1
those that could not be played have failed. ``build/faults`` has the results, as JSON and as a table for the
documentation, and the logs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver

from tests.support.rabbitmq import REQUIRED, Node, installed, reactor

from . import rows, sabotage
from .cluster import Cluster
from .page import page
from .report import Result, table, write
from .row import ROWS, Row, Unavailable
from .stage import Stage

BUILD = Path("build/faults")
RESULTS = BUILD / "results.json"


QUICK_LIMIT = 14 * 60.0
"""Seconds that a quick run may take; rows that it cannot begin or end in them have not passed."""


def main(arguments: list[str]) -> int:
    """Play what the command line says; gives the status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--row", type=int, action="append", choices=sorted(ROWS), help="only this row")
    parser.add_argument("--quick", action="store_true", help="less of each: all in a quarter of an hour")
    parser.add_argument(
        "--without", choices=sabotage.MECHANISMS, help="take a mechanism out; rows must then fail"
    )
    options = parser.parse_args(arguments)
    if options.without:
        os.environ[sabotage.WITHOUT] = options.without
        sabotage.take_out()
    chosen = [ROWS[number] for number in sorted(options.row or ROWS)]
    results: list[Result] = []
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "suite.log").open("w") as log:
        observer: Any = textFileLogObserver(log)
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        try:
            react(lambda _: Deferred.fromCoroutine(play(chosen, options.quick, results)))
        except SystemExit as ended:
            if ended.code:
                raise
    (BUILD / "table.txt").write_text(page([result.as_dict() for result in results], date.today()))
    print(table(results))
    return 0 if results and all(map(acceptable, results)) else 1


def acceptable(result: Result) -> bool:
    """Whether it has passed, or could not be played, where that need not be."""
    return result.passed or (bool(result.unavailable) and os.environ.get(REQUIRED) != "1")


async def play(chosen: list[Row], quick: bool, results: list[Result]) -> None:
    """Play rows one after the other; what is known is written after each."""
    end = time.monotonic() + (QUICK_LIMIT if quick else math.inf)
    for row in chosen:
        print(f"row {row.number}: {row.fault} …", flush=True)
        result = await play_timed(row, quick, end)
        if quick and result.only_late:
            # CI's machines do other work, and wait for nobody. What is lost is lost the first time, too.
            print("  once more, as nothing was lost", flush=True)
            first, result = result, await play_timed(row, quick, end)
            result.measured["the first time"] = first.problems
        results.append(result)
        write(results, RESULTS)


async def play_timed(row: Row, quick: bool, end: float) -> Result:
    """Play a row until *end*, of the monotonic clock, at most, and tell how it went."""
    result = Result(row.number, row.fault, quick, promise=row.promise)
    await play_one(row, result, min(row.limit, end - time.monotonic()))
    print(f"  {_word(result)} in {result.seconds:.0f} s", flush=True)
    print(f"  {result.as_dict()}", flush=True)
    return result


def _word(result: Result) -> str:
    if result.unavailable:
        return f"cannot be played here ({result.unavailable})"
    return "passed" if result.passed else "NOT PASSED"


async def play_one(row: Row, result: Result, limit: float) -> None:
    """Play a row, for so many seconds at most; whatever goes wrong is in the result."""
    if limit <= 0:
        result.problems.append("not played: the rows before it took too long")
        return
    stage = Stage(row, result, BUILD / f"row-{row.number:02}")
    began = time.monotonic()
    try:
        await Deferred.fromCoroutine(_acts(row, stage)).addTimeout(limit, reactor)
    except Unavailable as error:
        result.unavailable = str(error)
    except (TimeoutError, CancelledError):
        result.problems.append(f"it took more than {limit:.0f} s")
    except Exception as error:
        result.problems.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    finally:
        await stage.close()
    result.seconds = time.monotonic() - began


async def _acts(row: Row, stage: Stage) -> None:
    if not installed():
        raise Unavailable("there is no rabbitmq-server")
    if row.nodes:
        await stage.open(make_nodes(row.nodes, stage))
    await row.play(stage)
    await stage.finish()


def make_nodes(count: int, stage: Stage) -> list[Any]:
    """The brokers of a row: one, or a cluster."""
    folders = [Path(tempfile.mkdtemp(prefix="txmicro-faults-")) for _ in range(count)]
    if count == 1:
        return [Node(folders[0])]
    cluster = Cluster(folders)
    stage.at_end(cluster.close)
    return list(cluster.nodes)


if __name__ == "__main__":
    rows.load()
    sys.exit(main(sys.argv[1:]))
