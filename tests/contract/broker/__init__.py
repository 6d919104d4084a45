"""The contract of a broker for txmicro, tested with pika, an independent client.

A test case derives from :class:`BrokerContract` and trial's TestCase, and starts its broker. The tests do not wait
for real time: they wait for the dead letter of a message that expires.
"""

from __future__ import annotations

from .connections import ConnectionContract
from .dead_letters import DeadLetterContract
from .declarations import DeclarationContract
from .delivery import DeliveryContract
from .routing import RoutingContract


class BrokerContract(
    DeliveryContract, RoutingContract, DeadLetterContract, DeclarationContract, ConnectionContract
):
    """All tests of the contract."""
