"""``python -m benchmarks [--quick] [--bench NAME …] [--system NAME …]``: measure, and report.

Everything is written to ``build/bench``: the tables to ``results.txt``, the README's table to
``headline.rst``, the numbers to ``results.json``, the plots to ``*.png`` and ``*.svg``, the programs' output
to ``run``. The exit status is 0 unless nothing can be measured.
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

from . import jobs, payload, report, rest, start, workers
from .bench import Broker, Context
from .systems import BUILD, SETTINGS, SYSTEMS, Absent, System, plot

BENCHES = {bench.NAME: bench for bench in (jobs, rest, payload, workers, start)}
NEEDED = {"rabbitmq-server": "rabbitmq-server", "setpriv": "util-linux"}
WANTED = {"gcc": "gcc librabbitmq-dev", "node": "nodejs", "npm": "npm", "wrk": "wrk"}
"""Programs that the measurements need, all or some of them, with the Debian packages that contain them."""

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


def main(arguments: list[str]) -> None:
    """Parse the command line, and run the benchmarks."""
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
    """Print which packages to install. Exit if a program that every measurement needs is missing."""
    missing = {
        program: package for program, package in (NEEDED | WANTED).items() if not which(program, path=PATH)
    }
    if missing:
        print(
            f"not installed: {', '.join(missing)}; on Debian: apt-get install {' '.join(missing.values())}",
            file=sys.stderr,
        )
    if missing.keys() & NEEDED.keys():
        sys.exit(1)


async def run(options: argparse.Namespace) -> None:
    """Prepare the systems, measure, and write the report after each benchmark."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the benchmarks block the reactor, which could not handle the signals
        signal.signal(number, signal.default_int_handler)
    rmtree(BUILD / "run", ignore_errors=True)
    context = Context(Broker(BUILD / "run" / "rabbitmq"), [], BUILD / "run", options.quick)
    context.systems = prepare(context, options.system)
    await context.node.start()
    began = time.monotonic()
    try:
        for name in options.bench or BENCHES:
            await BENCHES[name].measure(context)
            tell(context, header(await context.node.ctl("version"), options.quick, time.monotonic() - began))
    finally:
        context.node.kill()
    plot()


def prepare(context: Context, names: list[str] | None) -> list[System]:
    """Prepare the systems, and return those that can be run."""
    ready = []
    for system in SYSTEMS:
        if names and system.name not in names:
            continue
        try:
            system.prepare()
            ready.append(system)
        except Absent as error:
            context.absent[system.name] = str(error)
            print(f"{system.name} is absent: {error}", flush=True)
    return ready


def tell(context: Context, heading: str) -> None:
    """Write and print the results so far."""
    results = report.summarize(context.samples)
    report.write(results, BUILD / "results.json")
    (BUILD / "headline.rst").write_text(report.headline(results), "utf-8")
    text = report.text(heading, results, SETTINGS, context.absent)
    (BUILD / "results.txt").write_text(text, "utf-8")
    print(f"\n{text}", flush=True)


def header(version: str, quick: bool, seconds: float) -> str:
    """Return the report's heading: the machine, the versions, the date, and the kind of run."""
    kind = "quick: not exact" if quick else "full"
    return (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n"
        f"RabbitMQ {version.strip()}, {platform.python_implementation()} {platform.python_version()}\n"
        f"{time.strftime('%Y-%m-%d %H:%M')}, {kind}, {seconds / 60:.1f} minutes, load {os.getloadavg()[0]:.1f}"
    )


def processor() -> str:
    """Return the processor's name, as Linux reports it."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
