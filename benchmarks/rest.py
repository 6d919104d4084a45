"""The REST chain: HTTP → REST → pilot → DB → REST, each in a process of its own, asked by wrk.

``txmicro`` is the movies as they are run, manager included; ``bare`` is :mod:`benchmarks.bare`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from tests.support.rabbitmq import HOST, free_port

from .bench import Stage
from .movies import MOVIES, PATH
from .programs import PATIENCE, ROOT, Program, ProgramError, twistd

NAME = "rest"
TYPES = ("WA", "WB", "WD")


async def measure(stage: Stage) -> None:
    """Measure both chains in each round, at each number of connections."""
    rounds, seconds, levels = (1, 1, (1, 64)) if stage.quick else (5, 4, (1, 16, 64, 256))
    for number in range(rounds):
        for name, chain in (("txmicro", txmicro), ("bare", bare)):
            with stage.attempt(f"{name} (REST)"), chain(stage, number) as port:
                check(port)
                wrk(stage, port, levels[-1], 1)  # until caches are warm
                for connections in levels:
                    values = wrk(stage, port, connections, seconds)
                    stage.record(NAME, name, {"in_flight": connections}, values)


@contextmanager
def txmicro(stage: Stage, number: int) -> Iterator[int]:
    """The movies, filled; gives the port."""
    port = free_port()
    settings = {
        "TXMICRO_BROKER_URL": stage.node.url,
        "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
        "TXMICRO_KEEPALIVE": "1000",
        "TXMICRO_METRICS_PORT": str(free_port()),
        "TXMICRO_REST_PORT": str(port),
        "TXMICRO_STORE_URL": f"sqlite:///{stage.directory}/txmicro-{number}.db",
    }
    lines = ["txmicro-manager", *(f"txmicro-worker --type {kind}" for kind in TYPES)]
    with running(stage, "rest-txmicro", "is ready", *map(twistd, lines), environ=settings):
        for movie in MOVIES:
            fetch(port, "POST", "/movies/", json.dumps(movie))
        yield port


@contextmanager
def bare(stage: Stage, number: int) -> Iterator[int]:
    """The bare chain; gives the port."""
    port = free_port()
    roles = {"db": [f"{stage.directory}/bare-{number}.db"], "pilot": [], "rest": [str(port)]}
    program = [sys.executable, "-m", "benchmarks.bare"]
    url = stage.node.url.rstrip("/")
    commands = [[*program, role, url, *arguments] for role, arguments in roles.items()]
    with running(stage, "rest-bare", "ready", *commands):
        yield port


@contextmanager
def running(
    stage: Stage, log: str, word: str, *commands: list[str], environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Programs, all of which have said *word*."""
    with ExitStack() as stack:
        for program in [stack.enter_context(Program(each, stage.log(log), environ)) for each in commands]:
            program.says(word)
        yield


def fetch(port: int, method: str, path: str, body: str | None = None) -> bytes:
    """The body of an answer; raises :class:`ProgramError` when it is an error."""
    connection = HTTPConnection(HOST, port, timeout=PATIENCE)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status >= 300:
        raise ProgramError(f"{method} {path}: {answer.status} {text!r:.200}")
    return text


def check(port: int) -> None:
    """Refuse a chain that does not find the movie."""
    found = [(movie["title"], movie["year"]) for movie in json.loads(fetch(port, "GET", PATH))]
    if found != [("Movie 42", 1942)]:
        raise ProgramError(f"GET {PATH}: {found}")


def wrk(stage: Stage, port: int, connections: int, seconds: int) -> dict[str, float]:
    """Have wrk ask for a movie; gives the values of a sample."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    script = str(ROOT / "benchmarks" / "wrk.lua")
    with Program([*command, "-s", script, f"http://{HOST}:{port}{PATH}"], stage.log("wrk")) as program:
        answer = json.loads(program.says('"jobs"', seconds + PATIENCE))
    if answer["errors"]:
        raise ProgramError(f"wrk at {connections} connections: {answer['errors']} errors")
    return {
        "per_second": answer["jobs"] / answer["seconds"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
    }
