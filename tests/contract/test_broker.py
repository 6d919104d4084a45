"""Runs the broker's contract with the embedded broker and with RabbitMQ."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from tests.support.rabbitmq import Node, require_rabbitmq
from txmicro.broker.service import EmbeddedBroker

from .broker import BrokerContract

reactor: Any = _reactor


class EmbeddedBrokerTests(BrokerContract, TestCase):
    """Tests the embedded broker, over TCP."""

    async def start_broker(self) -> None:
        self.broker = EmbeddedBroker(reactor, port=0)
        self.broker.startService()
        self.addCleanup(self.broker.stopService)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.broker.port}/%2f"

    async def alarm(self, on: bool) -> None:
        memory = self.broker.factory.model.memory
        if on:
            memory.allocate(memory.limit)
        else:
            memory.free(memory.limit)


class RabbitMQTests(BrokerContract, TestCase):
    """Tests RabbitMQ, where it is installed."""

    async def start_broker(self) -> None:
        self.rabbit: Node = await require_rabbitmq()
        self.url = f"{self.rabbit.url}%2f"

    async def alarm(self, on: bool) -> None:
        await self.rabbit.set_memory_watermark(0 if on else 0.4)
