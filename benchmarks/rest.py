"""Measures the REST chain with wrk: HTTP → REST → pilot → DB → REST, each in a process of its own.

``txmicro`` is the movies example with its manager. ``bare`` is :mod:`benchmarks.bare`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from tests.support.rabbitmq import HOST, free_port

from .bench import Context
from .movies import MOVIES, PATH
from .programs import PATIENCE, ROOT, Program, ProgramError, twistd

NAME = "rest"
TYPES = ("WA", "WB", "WD")


async def measure(context: Context) -> None:
    """Measure both chains in each round, with each number of connections."""
    rounds, seconds, levels = (1, 1, (1, 64)) if context.quick else (5, 4, (1, 16, 64, 256))
    for number in range(rounds):
        for name, chain in (("txmicro", txmicro), ("bare", bare)):
            with context.attempt(f"{name} (REST)"), chain(context, number) as port:
                check(port)
                wrk(context, port, levels[-1], 1)  # until caches are warm
                for connections in levels:
                    values = wrk(context, port, connections, seconds)
                    context.record(NAME, name, {"in_flight": connections}, values)


@contextmanager
def txmicro(context: Context, number: int) -> Iterator[int]:
    """Run the movies example, filled; yield the port."""
    port = free_port()
    settings = {
        "TXMICRO_BROKER_URL": context.node.url,
        "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
        "TXMICRO_KEEPALIVE": "1000",
        "TXMICRO_METRICS_PORT": str(free_port()),
        "TXMICRO_REST_PORT": str(port),
        "TXMICRO_STORE_URL": f"sqlite:///{context.directory}/txmicro-{number}.db",
    }
    lines = ["txmicro-manager", *(f"txmicro-worker --type {kind}" for kind in TYPES)]
    with running(context, "rest-txmicro", "is ready", *map(twistd, lines), environ=settings):
        for movie in MOVIES:
            fetch(port, "POST", "/movies/", json.dumps(movie))
        yield port


@contextmanager
def bare(context: Context, number: int) -> Iterator[int]:
    """Run the bare chain; yield the port."""
    port = free_port()
    roles = {"db": [f"{context.directory}/bare-{number}.db"], "pilot": [], "rest": [str(port)]}
    program = [sys.executable, "-m", "benchmarks.bare"]
    url = context.node.url.rstrip("/")
    commands = [[*program, role, url, *arguments] for role, arguments in roles.items()]
    with running(context, "rest-bare", "ready", *commands):
        yield port


@contextmanager
def running(
    context: Context, log: str, word: str, *commands: list[str], environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run the programs, and continue when all of them have printed *word*."""
    with ExitStack() as stack:
        for program in [stack.enter_context(Program(each, context.log(log), environ)) for each in commands]:
            program.says(word)
        yield


def fetch(port: int, method: str, path: str, body: str | None = None) -> bytes:
    """Return the body of an answer; raise :class:`ProgramError` if the status is an error."""
    connection = HTTPConnection(HOST, port, timeout=PATIENCE)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status >= 300:
        raise ProgramError(f"{method} {path}: {answer.status} {text!r:.200}")
    return text


def check(port: int) -> None:
    """Raise if a chain does not find the movie."""
    found = [(movie["title"], movie["year"]) for movie in json.loads(fetch(port, "GET", PATH))]
    if found != [("Movie 42", 1942)]:
        raise ProgramError(f"GET {PATH}: {found}")


def wrk(context: Context, port: int, connections: int, seconds: int) -> dict[str, float]:
    """Run wrk; return the values of a sample."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    script = str(ROOT / "benchmarks" / "wrk.lua")
    with Program([*command, "-s", script, f"http://{HOST}:{port}{PATH}"], context.log("wrk")) as program:
        answer = json.loads(program.says('"jobs"', seconds + PATIENCE))
    if answer["errors"]:
        raise ProgramError(f"wrk at {connections} connections: {answer['errors']} errors")
    return {
        "per_second": answer["jobs"] / answer["seconds"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
    }
