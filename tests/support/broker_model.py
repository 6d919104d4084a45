"""A broker's model and its clients, for tests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.properties import Properties
from txmicro.broker.errors import Refused
from txmicro.broker.messages import Message
from txmicro.broker.model import Model, Outcome
from txmicro.broker.queues import Queue
from txmicro.broker.sessions import ModelChannel, ModelSession

NOW = 1_795_449_588.5

FLAGS = 2
"""Size in bytes of properties that are all absent."""


class Party:
    """A client of the model: one session with one channel. It records its deliveries."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.session = ModelSession(model)
        self.delivered: list[tuple[str, int, Message]] = []
        self.cancelled: list[str] = []
        self.channel = self.open()

    def open(self) -> ModelChannel:
        def send(consumer: str, tag: int, message: Message) -> None:
            self.delivered.append((consumer, tag, message))

        return ModelChannel(self.model, self.session, send, self.cancelled.append)

    def consume(self, queue: str, tag: str = "", *, no_ack: bool = False, exclusive: bool = False) -> str:
        consumer = self.channel.consume(queue, tag, no_ack=no_ack, exclusive=exclusive)
        self.channel.start(consumer)
        return consumer.tag

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for _consumer, _tag, message in self.delivered]


class ModelTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        ids = count(1)
        self.model = Model(self.clock, now=lambda: NOW, new_id=lambda: str(next(ids)))
        self.party = Party(self.model)

    def tearDown(self) -> None:
        self.model.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def declare(self, name: str = "queue", **options: Any) -> Queue:
        arguments = options.pop("arguments", None)
        return self.model.declare_queue(self.party.session, name, arguments=arguments, **options)

    def publish(self, key: str, body: bytes = b"", exchange: str = "", **properties: Any) -> Outcome:
        return self.model.publish(exchange, key, Properties(**properties), body)

    def bodies(self, queue: Queue) -> list[bytes]:
        return [message.body for message in queue.ready]

    def refused(self, code: int, ask: Callable[..., object], *args: Any, **kwargs: Any) -> str:
        refusal = self.assertRaises(Refused, ask, *args, **kwargs)
        self.assertEqual(refusal.code, code)
        return str(refusal)
