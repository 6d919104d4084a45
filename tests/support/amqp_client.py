"""The base class of tests of the AMQP client."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.scripted_broker import ScriptedBroker


class ConnectionTestCase(SynchronousTestCase):
    broker: ScriptedBroker

    def begin(self, **options: Any) -> ScriptedBroker:
        """A connection before its handshake; whatever happened to it, no timer outlives it."""
        self.broker = ScriptedBroker(**options)
        self.addCleanup(self.end)
        return self.broker

    def end(self) -> None:
        if self.broker.client.transport is not None:
            self.broker.hang_up()
        self.assertEqual(self.broker.clock.getDelayedCalls(), [])

    def opened(self, **options: Any) -> ScriptedBroker:
        self.begin(**options).open()
        return self.broker

    def reason(self, deferred: Deferred[Any]) -> Any:
        """The exception that *deferred* failed with."""
        return self.failureResultOf(deferred).value
