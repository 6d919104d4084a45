"""The task of a command line, and its context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from txmicro.amqp.connection import Connection
from txmicro.bus.targets import Target
from txmicro.config import Config, find, load
from txmicro.operations.connecting import connect


@dataclass(frozen=True, kw_only=True)
class Context:
    """The context of a task.

    :ivar reactor: a reactor, or a ``Clock``.
    :ivar out: the stream for the answer. :ivar err: the stream for errors and for progress.
    :ivar time: gives Unix time, in seconds.
    :ivar targets: returns the brokers of a configuration, or raises :class:`~txmicro.errors.ConfigError`.
    """

    reactor: Any
    environ: Mapping[str, str]
    out: TextIO
    err: TextIO
    time: Callable[[], float]
    targets: Callable[[Any, Config], Sequence[Target]]

    def find(self, path: str | None) -> str | None:
        """Return the configuration file: *path*, or the one that is used when *path* is empty; None: there is none."""
        return path or find(self.environ)

    def load(self, path: str | None) -> Config:
        """Return the configuration of :meth:`find`; raise :class:`~txmicro.errors.ConfigError` if it is wrong."""
        return load(self.find(path), self.environ)


class Task:
    """One use of a command: its options and arguments, and what it does."""

    async def run(self, context: Context) -> None:
        """Do it, and write the answer to ``context.out``.

        :raise TxmicroError: it is not done. :raise ConfigError: the configuration is wrong.
        """
        raise NotImplementedError

    def interrupt(self) -> bool:
        """End soon and in order, and return True; or return False if the task has to be canceled."""
        return False


@dataclass(kw_only=True)
class ConnectedTask(Task):
    """A task that works over one connection to a broker.

    :ivar config: the configuration file; None or empty: the one that the daemons use.
    """

    config: str | None = None

    async def run(self, context: Context) -> None:
        """Connect, do the task, and disconnect."""
        config = context.load(self.config)
        brokers = context.targets(context.reactor, config)
        client = await connect(brokers, context.reactor, config.heartbeat)
        try:
            await self.work(client, context)
        finally:
            await client.shutdown()

    async def work(self, client: Connection, context: Context) -> None:
        """Do the task over the connection *client*; as :meth:`run`."""
        raise NotImplementedError
