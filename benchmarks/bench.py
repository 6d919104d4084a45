"""The base of all benchmarks: their context, and the samples that they record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.rabbitmq import Node, free_port

from .programs import Program, ProgramError, twistd
from .systems import System


class Sample(NamedTuple):
    """One measurement.

    :ivar case: distinguishes it from others of its benchmark and system, such as ``in_flight``.
    :ivar values: the measured values; each name ends with its unit.
    """

    bench: str
    system: str
    case: Mapping[str, Any]
    values: Mapping[str, float]


class Broker(Node):
    """Runs RabbitMQ with the default settings of the Erlang virtual machine."""

    erlang = ""


@dataclass
class Context:
    """The context of a benchmark: its broker, its systems, and the samples that it records.

    :ivar node: a RabbitMQ node of its own.
    :ivar systems: the systems to measure that can be run here.
    :ivar directory: for logs and data.
    :ivar quick: whether to be quick rather than exact.
    :ivar samples: the measurements so far.
    :ivar absent: the reason why a system cannot be measured, by its name.
    """

    node: Node
    systems: Sequence[System]
    directory: Path
    quick: bool
    samples: list[Sample] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.directory / f"{name}.log"

    def record(self, bench: str, system: str, case: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """Record a measurement, and print it."""
        self.samples.append(Sample(bench, system, case, values))
        shown = [f"{name}={value}" for name, value in case.items()]
        shown += [f"{name}={value:,.2f}" for name, value in values.items()]
        print(f"{bench:8} {system:16} {'  '.join(shown)}", flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Continue when *what* cannot be measured, and report that it failed."""
        try:
            yield
        except ProgramError as error:
            self.absent[what] = str(error)
            print(f"{what}: {error}", flush=True)

    @contextmanager
    def broker(self, system: System) -> Iterator[str]:
        """Yield the URL of the broker for *system*. An embedded broker is stopped when the context ends."""
        if not system.embedded:
            yield self.node.url.rstrip("/")  # a path of "/" would be a virtual host without a name
            return
        port = free_port()
        settings = {"TXMICRO_BROKER_LISTEN_PORT": str(port)}
        with Program(twistd("txmicro-broker"), self.log("embedded-broker"), settings) as broker:
            broker.says("listens on")
            yield f"amqp://guest:guest@127.0.0.1:{port}"

    @contextmanager
    def pair(self, system: System, *arguments: str) -> Iterator[tuple[Program, Program]]:
        """Yield a worker and a sender of *system*, both ready. *arguments* are added to their command lines."""
        with self.broker(system) as url:
            log = self.log(system.name)
            with Program([*system.command("work", url), *arguments], log) as worker:
                worker.says("ready")
                with Program([*system.command("send", url), *arguments], log) as sender:
                    sender.says("ready")
                    yield worker, sender
