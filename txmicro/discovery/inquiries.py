"""A SystemManager's answers to inquiries: whether any worker takes jobs for an address.

A sender inquires when no worker has taken its job. The manager checks the queue of the address twice, because jobs must
not fail while the only worker of a type restarts. If both checks find no consumer, it tells all senders that inquired.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txmicro.amqp.errors import AccessRefused
from txmicro.bus.worker_channel import WorkerChannel
from txmicro.metrics import ServiceMetrics
from txmicro.protocol import messages
from txmicro.protocol.notifications import Inquiry
from txmicro.protocol.parcel import Forbidden
from txmicro.util.log_once import LogOnce

from .registry import Registry

SECOND_CHECK = 1.8
"""Seconds between the two checks of a queue, both of which have to find no consumer. An inquiry comes at most one retry
interval (2 s) after the job was sent, and is to be answered within another one."""

CHECK_TIMEOUT = 3.0
"""Seconds that a check may take: RabbitMQ 4.3 does not answer for a queue whose node is down."""

MAX_INQUIRIES = 10_000
"""The most addresses that are checked at once. Further inquiries are dropped, and their senders repeat them."""


class Inquiries:
    """The inquiries that a SystemManager is answering.

    :param id: the manager's id.
    :param clock: a reactor, or a ``Clock``.
    """

    log = Logger()

    def __init__(
        self, id: str, clock: Any, channel: WorkerChannel, registry: Registry, metrics: ServiceMetrics
    ) -> None:
        self.id = id
        self._clock = clock
        self._channel = channel
        self._registry = registry
        self._metrics = metrics
        self._senders: dict[str, set[str]] = {}  # by address
        self._checks: dict[str, Deferred[None]] = {}
        self._log_once = LogOnce()
        self._not_before = 0.0

    def add(self, inquiry: Inquiry) -> None:
        """Check the address of *inquiry*, and answer its sender if there is no consumer."""
        address = inquiry.address
        if address in self._senders:
            self._senders[address].add(inquiry.sender)
        elif len(self._senders) < MAX_INQUIRIES:
            self._senders[address] = {inquiry.sender}
            self._checks[address] = check = Deferred.fromCoroutine(self._check(address))
            if check.called:
                self._checks.pop(address, None)

    def delay(self, seconds: float) -> None:
        """Start no check within the next *seconds*."""
        self._not_before = self._clock.seconds() + seconds

    def cancel(self) -> None:
        """Cancel all checks. Their senders ask again."""
        for check in list(self._checks.values()):
            check.cancel()

    async def _check(self, address: str) -> None:
        delay = max(0.0, self._not_before - self._clock.seconds())
        try:
            for pause in (delay, SECOND_CHECK):
                await deferLater(self._clock, pause)
                check = Deferred.fromCoroutine(self._nobody_takes(address))
                if not await check.addTimeout(CHECK_TIMEOUT, self._clock):
                    return
            self._answer(address)
        except CancelledError:
            pass
        except Exception as error:  # the senders ask again
            self._could_not_check(address, error)
        finally:
            del self._senders[address]
            self._checks.pop(address, None)

    async def _nobody_takes(self, address: str) -> bool:
        known = self._registry.get(address)
        return (known is not None and not known.capacity) or await self._channel.nobody_takes(address)

    def _could_not_check(self, address: str, error: Exception) -> None:
        refused = isinstance(error, AccessRefused | Forbidden)
        if refused and self._log_once.first(str(error)):
            self.log.error(
                "{manager} cannot check for consumers of {address}: {error}; senders of such jobs wait until they time "
                "out; grant its broker user the right, see docs/howto/security.rst (logged once)",
                manager=self.id,
                address=address,
                error=error,
            )
        else:
            self.log.debug(
                "no answer for {address}: {error}; its senders ask again", address=address, error=error
            )

    def _answer(self, address: str) -> None:
        publisher = self._channel.publisher
        for sender in self._senders[address]:
            body = {
                "target": {"id": sender, "type": sender.partition(":")[0]},
                "error": messages.NO_WORKER_TEXT,
                "address": address,
            }
            publisher.reply(sender, messages.ERROR, "", publisher.encode(body))
        self._metrics.record_error("NoWorkerAvailable")
