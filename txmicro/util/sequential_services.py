"""Services that stop one after another."""

from __future__ import annotations

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger


class SequentialServices(MultiService):
    """A ``MultiService`` whose services stop one after another, the last one first. Twisted's stops all at once."""

    log = Logger()

    def stopService(self) -> Deferred[None]:
        """Stop all services. Fires when they have stopped; does not fail: a service that fails to stop is logged."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                self.log.failure("{service} failed to stop; the other services are stopped", service=service)
