"""A channel for an operator's command, and the lock of a worker type.

The lock is the exclusive queue :func:`~txmicro.protocol.topology.operator_queue`, which the broker deletes when the
connection ends. An exclusive consumer would not do: quorum queues ignore it.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import ChannelClosed
from txmicro.errors import TxmicroError
from txmicro.protocol import topology

BROKER_TIMEOUT: Final = 30.0
"""Seconds that the broker has for an answer. A broker with a memory or disk alarm may give none."""

NOT_FOUND: Final = 404
"""AMQP's reply code for a queue or exchange that does not exist."""

_LOCKED: Final = 405


class OperationError(TxmicroError):
    """The base class of the errors of operators' commands."""


class TypeLocked(OperationError):
    """Another command holds the lock of the worker type.

    Wait until it has ended. The lock of a command that was killed ends with its connection, after at most two
    heartbeats.
    """


class BrokerTimeout(OperationError):
    """The broker did not answer within 30 seconds.

    It may have a memory or disk alarm, or a quorum queue without a leader: see its log.
    """


async def open_channel(client: Connection, kind: str, clock: Any) -> Channel:
    """Open a channel, and lock the worker type *kind* until the connection ends.

    :raise TypeLocked: another command holds the lock.
    :raise BrokerTimeout: the broker does not answer.
    """
    channel: Channel = await with_timeout(client.channel_open(), clock)
    try:
        await with_timeout(channel.queue_declare(queue=topology.operator_queue(kind), exclusive=True), clock)
    except ChannelClosed as error:
        if error.reply_code == _LOCKED:
            raise TypeLocked(
                f"{kind}: another txmicro command is working on the queues of this type; wait until it has ended"
            ) from error
        raise
    return channel


def with_timeout(waiting: Deferred[Any], clock: Any) -> Deferred[Any]:
    """Return *waiting*, which now fails with :class:`BrokerTimeout` after :data:`BROKER_TIMEOUT` seconds."""
    return waiting.addTimeout(BROKER_TIMEOUT, clock, _timed_out)


def _timed_out(_result: Any, timeout: float) -> Failure:
    return Failure(
        BrokerTimeout(
            f"the broker has not answered for {timeout:g} s; check whether it has a memory or disk alarm"
        )
    )
