"""``python -m tests.faults [--row N …] [--quick]``: play the rows, tell how they went.

Leaves with status 0 if all rows that were played have passed, with 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver

from tests.rabbitmq import Node, installed, reactor

from . import rows
from .cluster import Cluster
from .report import Result, table, write
from .row import ROWS, Row, Unavailable
from .stage import Stage

BUILD = Path("build/faults")
RESULTS = BUILD / "results.json"


def main(arguments: list[str]) -> int:
    """Play what the command line says; gives the status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--row", type=int, action="append", choices=sorted(ROWS), help="only this row")
    parser.add_argument("--quick", action="store_true", help="less of each: all in a quarter of an hour")
    options = parser.parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    chosen = [ROWS[number] for number in sorted(options.row or ROWS)]
    results: list[Result] = []
    with (BUILD / "suite.log").open("w") as log:
        observer: Any = textFileLogObserver(log)
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        try:
            react(lambda _: Deferred.fromCoroutine(play(chosen, options.quick, results)))
        except SystemExit as ended:
            if ended.code:
                raise
    print(table(results))
    return 0 if results and all(result.passed for result in results) else 1


async def play(chosen: list[Row], quick: bool, results: list[Result]) -> None:
    """Play rows one after the other; what is known is written after each."""
    for row in chosen:
        print(f"row {row.number}: {row.fault} …", flush=True)
        result = await play_one(row, quick)
        results.append(result)
        write(results, RESULTS)
        print(f"  {'passed' if result.passed else 'NOT PASSED'} in {result.seconds:.0f} s", flush=True)
        print(f"  {result.as_dict()}", flush=True)


async def play_one(row: Row, quick: bool) -> Result:
    """Play a row; whatever goes wrong is in the result."""
    result = Result(row.number, row.fault, quick)
    stage = Stage(row, result, BUILD / f"row-{row.number:02}")
    began = time.monotonic()
    try:
        await Deferred.fromCoroutine(_acts(row, stage)).addTimeout(row.limit, reactor)
    except Unavailable as error:
        result.problems.append(f"cannot be played here: {error}")
    except (TimeoutError, CancelledError):
        result.problems.append(f"it took more than {row.limit:g} s")
    except Exception as error:
        result.problems.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    finally:
        await stage.close()
    result.seconds = time.monotonic() - began
    return result


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
