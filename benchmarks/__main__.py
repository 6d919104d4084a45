"""``python -m benchmarks [--quick] [--bench NAME …] [--system NAME …]``: measure, and tell how it went.

Everything is written to ``build/bench``: the tables to ``results.txt``, what the README shows to ``headline.rst``,
the numbers to ``results.json``, the plots to ``*.png`` and ``*.svg``, what the programs said to ``run``. Leaves with
status 0 unless it cannot measure at all.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from pathlib import Path
from shutil import rmtree, which

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support.rabbitmq import Node

from . import jobs, payload, report, rest, start, workers
from .bench import Stage
from .systems import BUILD, SETTINGS, SYSTEMS, Absent, System, plot

BENCHES = {bench.NAME: bench for bench in (jobs, rest, payload, workers, start)}
NEEDED = {"rabbitmq-server": "rabbitmq-server", "setpriv": "util-linux"}
WANTED = {"gcc": "gcc librabbitmq-dev", "node": "nodejs", "npm": "npm", "wrk": "wrk"}
"""Programs without which nothing is measured, or not all, and the Debian packages that have them."""

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


class Broker(Node):
    """A RabbitMQ with the virtual machine as it comes."""

    erlang = ""


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="all of it in two minutes, and not exact")
    parser.add_argument("--bench", action="append", choices=list(BENCHES), help="only this one")
    parser.add_argument(
        "--system", action="append", choices=[each.name for each in SYSTEMS], help="only this one"
    )
    options = parser.parse_args(arguments)
    check()
    react(lambda _: Deferred.fromCoroutine(run(options)))


def check() -> None:
    """Say what to install where something is missing; leave if nothing can be measured without it."""
    missing = {
        program: package for program, package in (NEEDED | WANTED).items() if not which(program, path=PATH)
    }
    if missing:
        print(
            f"not here: {', '.join(missing)}; on Debian: apt-get install {' '.join(missing.values())}",
            file=sys.stderr,
        )
    if missing.keys() & NEEDED.keys():
        sys.exit(1)


async def run(options: argparse.Namespace) -> None:
    """Make everything ready, measure, and write the report after each bench."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the benches block, and the reactor with them
        signal.signal(number, signal.default_int_handler)
    rmtree(BUILD / "run", ignore_errors=True)
    stage = Stage(Broker(BUILD / "run" / "rabbitmq"), [], BUILD / "run", options.quick)
    stage.systems = prepare(stage, options.system)
    await stage.node.start()
    began = time.monotonic()
    try:
        for name in options.bench or BENCHES:
            await BENCHES[name].measure(stage)
            tell(stage, header(await stage.node.ctl("version"), options.quick, time.monotonic() - began))
    finally:
        stage.node.kill()
    plot()


def prepare(stage: Stage, names: list[str] | None) -> list[System]:
    """Make the systems ready, and give back those that are."""
    ready = []
    for system in SYSTEMS:
        if names and system.name not in names:
            continue
        try:
            system.prepare()
            ready.append(system)
        except Absent as error:
            stage.absent[system.name] = str(error)
            print(f"{system.name} is absent: {error}", flush=True)
    return ready


def tell(stage: Stage, heading: str) -> None:
    """Write what is known so far."""
    results = report.summarize(stage.samples)
    report.write(results, BUILD / "results.json")
    (BUILD / "headline.rst").write_text(report.headline(results), "utf-8")
    text = report.text(heading, results, SETTINGS, stage.absent)
    (BUILD / "results.txt").write_text(text, "utf-8")
    print(f"\n{text}", flush=True)


def header(version: str, quick: bool, seconds: float) -> str:
    """Where it was measured, and how."""
    kind = "quick: not exact" if quick else "full"
    return (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n"
        f"RabbitMQ {version.strip()}, {platform.python_implementation()} {platform.python_version()}\n"
        f"{time.strftime('%Y-%m-%d %H:%M')}, {kind}, {seconds / 60:.1f} minutes, load {os.getloadavg()[0]:.1f}"
    )


def processor() -> str:
    """What Linux calls the processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
