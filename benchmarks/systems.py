"""The systems that are compared: their preparation, their command lines, and their settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .programs import ROOT

BUILD = ROOT / "build" / "bench"
PEERS = ROOT / "benchmarks" / "peers"
VENV = BUILD / "venv"
NODE = BUILD / "node"
PINNED = PEERS / "requirements.txt"
LIMIT = BUILD / "librabbitmq_rpc"


class Absent(Exception):
    """A system cannot be run on this machine. The message says why."""


class System(NamedTuple):
    """A system that is measured.

    :ivar name: its name in the table.
    :ivar settings: its description in the table.
    :ivar program: its command, see ``peers/protocol.py``.
    :ivar arguments: follow the role and the broker's URL.
    :ivar embedded: whether the broker is the embedded one.
    :ivar prepare: makes it ready, or raises :class:`Absent`.
    """

    name: str
    settings: str
    program: Sequence[str]
    arguments: Sequence[str] = ()
    embedded: bool = False
    prepare: Callable[[], None] = lambda: None

    def command(self, role: str, url: str) -> list[str]:
        """Return the command line for the *role* ``work`` or ``send``."""
        return [*self.program, role, url, *self.arguments]


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command to its end; raise :class:`Absent`, with the last line it wrote, if it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Absent(f"{command[0]} is not installed") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise Absent(f"{Path(command[0]).name} failed: {last}")


def _is_new(made: Path, *sources: Path) -> bool:
    return made.exists() and all(made.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _python(*packages: str) -> Callable[[], None]:
    """Return a function that installs pinned packages into the peers' environment."""

    def prepare() -> None:
        mark = VENV / f".{packages[0]}"
        if _is_new(mark, PINNED):
            return
        if not (VENV / "bin" / "python").exists():
            run(sys.executable, "-m", "venv", VENV)
        run(VENV / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "-c", PINNED, *packages)
        mark.touch()

    return prepare


def _compile() -> None:
    source = PEERS / "librabbitmq_rpc.c"
    BUILD.mkdir(parents=True, exist_ok=True)
    if not _is_new(LIMIT, source):
        run("gcc", "-O2", "-o", LIMIT, source, "-lrabbitmq")


def _install_node() -> None:
    if not shutil.which("node"):
        raise Absent("node is not installed")
    NODE.mkdir(parents=True, exist_ok=True)
    for name in (
        "package.json",
        "package-lock.json",
        "amqplib_rpc.js",
    ):  # node searches for packages beside the script
        shutil.copy(PEERS / name, NODE)
    if not _is_new(NODE / "node_modules", PEERS / "package-lock.json"):
        run("npm", "ci", "--no-audit", "--no-fund", cwd=NODE)


def _peer(name: str) -> list[str]:
    return [str(VENV / "bin" / "python"), str(PEERS / f"{name}_rpc.py")]


TXMICRO = [sys.executable, str(PEERS / "txmicro_rpc.py")]

SYSTEMS: Final = (
    System("txmicro", "acks, TTL copies, duplicate memory, metrics; capacity 100", TXMICRO),
    System("txmicro-durable", "quorum queue, confirms, late acks; capacity 100", TXMICRO, ["--durable"]),
    System("txmicro-embedded", "as txmicro, on the embedded broker", TXMICRO, embedded=True),
    System("c-librabbitmq", "raw RPC, no acks: the broker's own limit", [str(LIMIT)], prepare=_compile),
    System(
        "node-amqplib",
        "raw RPC, no acks, noDelay, msgpack5",
        ["node", str(NODE / "amqplib_rpc.js")],
        prepare=_install_node,
    ),
    System(
        "aio-pika",
        "raw RPC, no acks, no confirms",
        _peer("aio_pika"),
        prepare=_python("aio-pika", "msgpack"),
    ),
    System(
        "celery",
        "rpc:// results, solo pool, transient, prefetch 100, no gossip, mingle or heartbeat",
        _peer("celery"),
        prepare=_python("celery", "msgpack"),
    ),
    System(
        "nameko",
        "standalone proxy, call_async, 100 green threads",
        _peer("nameko"),
        prepare=_python("nameko", "msgpack"),
    ),
    System(
        "faststream",
        "broker.request, ack first, no confirms, prefetch 500",
        _peer("faststream"),
        prepare=_python("faststream[rabbit]", "msgpack"),
    ),
    System(
        "dramatiq",
        "answers by on_success callbacks, 8 threads",
        _peer("dramatiq"),
        prepare=_python("dramatiq[rabbitmq]", "msgpack"),
    ),
)

SETTINGS: Final = {system.name: system.settings for system in SYSTEMS} | {
    "bare": "Klein, txmicro's AMQP client and adbapi, without acks, futures, deadlines, metrics and limits"
}


def plot() -> None:
    """Draw ``results.json``, or print why that is not possible."""
    try:
        _python("matplotlib")()
        run(VENV / "bin" / "python", ROOT / "benchmarks" / "plot.py", BUILD)
    except Absent as error:
        print(f"no plots: {error}", flush=True)
