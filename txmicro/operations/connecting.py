"""Connects an operation to a broker of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError

from txmicro.amqp.connection import Connection
from txmicro.bus.targets import Target, dial
from txmicro.errors import TxmicroError


class NoBrokerReachable(TxmicroError):
    """No broker of the configuration accepted the connection; the message has one line for each.

    Start a broker, or correct ``broker_url``.
    """


async def connect(brokers: Sequence[Target], reactor: Any, heartbeat: int) -> Connection:
    """Connect to the first of *brokers* that accepts the connection; each is tried once.

    :param heartbeat: the AMQP heartbeat interval, in seconds.
    :raise NoBrokerReachable: none accepts it.
    """
    errors = []
    for broker in brokers:
        try:
            return await dial(broker, reactor, heartbeat, "txmicro")
        except CancelledError:
            raise
        except Exception as error:  # an endpoint may fail with any exception
            errors.append(f"no connection to {broker.broker}: {error or type(error).__name__}")
    raise NoBrokerReachable("\n".join(errors))
