"""``python -m tests.faults [--row N …] [--quick] [--without MECHANISM]``: run the rows, and report.

The exit status is 0 if all rows that can be run here have passed, otherwise 1. With TXMICRO_REQUIRE_SERVICES=1, a row
that cannot be run here has failed. ``build/faults`` receives the logs and the results, as JSON and as a table for the
documentation.
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

from . import mechanisms, rows
from .cluster import Cluster
from .context import RowContext
from .page import page
from .report import Result, table, write
from .row import ROWS, Row, Unavailable

BUILD = Path("build/faults")
RESULTS = BUILD / "results.json"


QUICK_LIMIT = 14 * 60.0
"""Seconds that a quick run may take. A row that does not fit into them has not passed."""


def main(arguments: list[str]) -> int:
    """Run the rows that the command line selects; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--row", type=int, action="append", choices=sorted(ROWS), help="only this row")
    parser.add_argument("--quick", action="store_true", help="less of each: all in a quarter of an hour")
    parser.add_argument(
        "--without", choices=mechanisms.MECHANISMS, help="take a mechanism out; rows must then fail"
    )
    options = parser.parse_args(arguments)
    if options.without:
        os.environ[mechanisms.WITHOUT] = options.without
        mechanisms.disable()
    chosen = [ROWS[number] for number in sorted(options.row or ROWS)]
    results: list[Result] = []
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "suite.log").open("w") as log:
        observer: Any = textFileLogObserver(log)
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        try:
            react(lambda _: Deferred.fromCoroutine(run_rows(chosen, options.quick, results)))
        except SystemExit as ended:
            if ended.code:
                raise
    (BUILD / "table.txt").write_text(page([result.as_dict() for result in results], date.today()))
    print(table(results))
    for result in results:
        if not acceptable(result):
            print(f"not passed: row {result.row} on {result.broker}: {'; '.join(result.problems)}")
    return 0 if results and all(map(acceptable, results)) else 1


def acceptable(result: Result) -> bool:
    """Return whether the row has passed, or cannot be run here and need not be."""
    return result.passed or (bool(result.unavailable) and os.environ.get(REQUIRED) != "1")


async def run_rows(chosen: list[Row], quick: bool, results: list[Result]) -> None:
    """Run the rows one after the other. Write the results after each of them."""
    end = time.monotonic() + (QUICK_LIMIT if quick else math.inf)
    for row in chosen:
        print(f"row {row.number}: {row.fault} …", flush=True)
        result = await run_timed(row, quick, end)
        if quick and result.only_late:
            # CI's machines run other programs, too, so a row may miss its time limits. A lost job is never excused.
            print("  once more, as nothing was lost", flush=True)
            first, result = result, await run_timed(row, quick, end)
            result.measured["the first time"] = first.problems
        results.append(result)
        write(results, RESULTS)


async def run_timed(row: Row, quick: bool, end: float) -> Result:
    """Run a row until *end* (monotonic clock) at the latest; return its result."""
    result = Result(row.number, row.fault, quick, promise=row.promise)
    await run_one(row, result, min(row.limit, end - time.monotonic()))
    print(f"  {_word(result)} in {result.seconds:.0f} s", flush=True)
    print(f"  {result.as_dict()}", flush=True)
    return result


def _word(result: Result) -> str:
    if result.unavailable:
        return f"cannot be run here ({result.unavailable})"
    return "passed" if result.passed else "NOT PASSED"


async def run_one(row: Row, result: Result, limit: float) -> None:
    """Run a row for at most *limit* seconds. Errors are recorded in the result."""
    if limit <= 0:
        result.problems.append("not run: the rows before it took too long")
        return
    context = RowContext(row, result, BUILD / f"row-{row.number:02}")
    began = time.monotonic()
    try:
        await Deferred.fromCoroutine(_acts(row, context)).addTimeout(limit, reactor)
    except Unavailable as error:
        result.unavailable = str(error)
    except (TimeoutError, CancelledError):
        result.problems.append(f"it took more than {limit:.0f} s")
    except Exception as error:
        result.problems.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    finally:
        await context.close()
    result.seconds = time.monotonic() - began


async def _acts(row: Row, context: RowContext) -> None:
    if not installed():
        raise Unavailable("rabbitmq-server is not installed")
    if row.nodes:
        await context.open(make_nodes(row.nodes, context))
    await row.run(context)
    await context.finish()


def make_nodes(count: int, context: RowContext) -> list[Any]:
    """Return the brokers of a row: one, or a cluster."""
    folders = [Path(tempfile.mkdtemp(prefix="txmicro-faults-")) for _ in range(count)]
    if count == 1:
        return [Node(folders[0])]
    cluster = Cluster(folders)
    context.at_end(cluster.close)
    return list(cluster.nodes)


if __name__ == "__main__":
    rows.load()
    sys.exit(main(sys.argv[1:]))
