"""The base class of tests of the AMQP client."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.scripted_broker import ScriptedBroker


class ConnectionTestCase(SynchronousTestCase):
    broker: ScriptedBroker

    def begin(self, **options: Any) -> ScriptedBroker:
        """Return a broker whose client is not connected yet. The cleanup checks that no timer is left."""
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
        """Return the exception with which *deferred* has failed."""
        return self.failureResultOf(deferred).value
