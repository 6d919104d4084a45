"""The SystemManager: knows who is on the bus, and tells senders when nobody can take their jobs."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from .amqp.errors import AccessRefused
from .bus.connections import Bus
from .bus.worker_channel import Settle, WorkerChannel
from .discovery.registry import Registry
from .errors import DecodeError, JobError, reason_of
from .protocol import messages
from .protocol.address import parse
from .protocol.job import Job
from .protocol.notifications import Announcement, Deletion, Inquiry
from .protocol.parcel import Forbidden
from .util.log_once import LogOnce
from .util.once import Once

TYPE = "SystemManager"

SECOND_LOOK = 1.8
"""Seconds between the two looks at a queue that must both find nobody. An inquiry may come a retry interval (2 s) after
the job: the answer shall come within another one."""

LOOK_TIMEOUT = 3.0
"""Seconds that a look may take: RabbitMQ 4.3 does not answer about a queue whose node is down."""

SETTLING = 5.0
"""Seconds after the bus was lost and is back in which nobody is missed: workers find it again one by one, after
pauses of up to 2.5 seconds (bus.py)."""

_GET_ALL = "worker.getAll"

MAX_INQUIRIES = 10_000
"""Addresses looked at at once; further inquiries are dropped, and their senders ask again."""


class SystemManager(Service):
    """See the module. Any number of them may be on a bus.

    :ivar id: its id. :ivar registry: who it thinks is there.
    """

    log = Logger()
    type = TYPE

    bus: Bus
    link: WorkerChannel
    registry: Registry

    def __init__(self, *, id: str | None = None) -> None:
        self.id = id or ""
        self._inquiries: dict[str, set[str]] = {}
        self._looking: dict[str, Deferred[None]] = {}
        self._said = LogOnce()
        self._lost = self._heard_itself = False
        self._settled = 0.0

    def startService(self) -> None:
        """Start; :meth:`when_ready` tells when it listens."""
        if not isinstance(self.parent, Bus):
            raise TypeError("a SystemManager has no bus: call setServiceParent(bus) before it is started")
        super().startService()  # type: ignore[no-untyped-call]
        bus = self.bus = self.parent
        self.id = self.id or bus.ids.worker(TYPE)
        self.metrics = bus.metrics.service(TYPE)
        self.registry = Registry(bus.clock)
        self._count()
        self.link = WorkerChannel(
            bus, self, ("worker.new.#", "worker.del.#", "worker.next", "worker.list", _GET_ALL), service=TYPE
        )
        self._post = self.link.post
        self._ready: Once[SystemManager] = Once()
        self.link.open().addCallbacks(lambda _: self._ready.happen(self), self._refused)
        self._keepalive = LoopingCall(self._round)
        self._keepalive.clock = bus.clock
        if bus.config.keepalive:
            self._keepalive.start(bus.config.keepalive / 1000, now=False)

    def _refused(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            text = "{manager} cannot start: {reason}"
            self.log.critical(text, manager=self.id, reason=reason_of(failure.value))
        self._ready.happen(failure)

    def stopService(self) -> Deferred[None]:
        """Leave the bus; the workers go on. Fires when it has left."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._keepalive.running:
            self._keepalive.stop()
        self._stop_looking()
        await self.link.close()

    # Its rounds

    def _round(self) -> None:
        """Ask who is there, and strike off who did not answer for too long. Must not raise: it would be the last."""
        try:
            if self.link.stands:
                for gone in self.registry.round(self.bus.config.keepalive / 1000, heard=self._heard_itself):
                    self._declare_gone(gone)
                self._ask_all()
        except Exception:
            self.log.failure("a keepalive round of {manager} failed", manager=self.id, recurring=True)

    def _ask_all(self) -> None:
        """Ask who is there. Whoever answers must have heard it, and then it has come back here, too."""
        self._heard_itself = False
        if self.bus.writable:
            self._post.notify(_GET_ALL, {})

    def _declare_gone(self, gone: Announcement) -> None:
        self.log.warn("{worker} does not answer, and is declared gone", worker=gone.id)
        self._post.notify(f"worker.del.{gone.type}", Deletion(gone.id, gone.type, "keepalive").body())
        self._count()

    def _count(self) -> None:
        self.metrics.set_connected_workers(len(self.registry))
        for kind, count in self.registry.counts().items():
            self.metrics.set_worker_count(kind, count)

    # What the link says (link.Occupant)

    def up(self) -> None:
        """Learn who is there: whoever announced itself before, or while nothing stood, was not heard."""
        if self._lost:
            self._settled = self.bus.clock.seconds() + SETTLING
        self.log.info("{manager} is ready", manager=self.id)
        self._ask_all()

    def down(self) -> None:
        """What was seen of queues counts no more; those who asked ask again."""
        self._lost = True
        self._stop_looking()

    def writable(self, writable: bool) -> None:
        """It sends no jobs."""

    @property
    def leads(self) -> bool:
        """It shares nothing."""
        return False

    def job_arrived(self, job: Job, settle: Settle) -> None:
        """It takes no jobs."""

    def returned(self, kind: str, key: str) -> None:
        """Who asked has gone."""

    def refused(self, key: str, error: JobError) -> None:
        """It sends no jobs."""

    def told(self, kind: str, body: Any) -> None:
        """Nobody tells it anything."""
        raise DecodeError(f"a SystemManager expects no {kind!r:.50}")

    def notified(self, topic: str, body: Any) -> None:
        """A notification."""
        if topic == _GET_ALL:
            self._heard_itself = True
        elif topic == "worker.next":
            self._asked(Inquiry.from_body(body))
        elif topic == "worker.list":
            self._listed(messages.get(messages.get(body, "sender", dict), "id", str))
        elif topic.startswith("worker.new"):
            self._met(Announcement.from_body(body, topic))
        else:
            self._parted(Deletion.from_body(body, topic))

    def _met(self, worker: Announcement) -> None:
        if self.registry.heard(worker):
            self.log.info("{worker} is on the bus", worker=worker.id)
            self._count()

    def _parted(self, deletion: Deletion) -> None:
        if self.registry.deleted(deletion.id) is not None:
            self.log.info("{worker} has left: {reason}", worker=deletion.id, reason=deletion.reason)
            self._count()

    def _listed(self, asker: str) -> None:
        parse(asker)
        body = self._post.encode({"workers": self.registry.listing()})
        self._post.reply(asker, messages.LIST, "", body)

    # Inquiries

    def _asked(self, inquiry: Inquiry) -> None:
        senders = self._inquiries.get(inquiry.address)
        if senders is not None:
            senders.add(inquiry.sender)
        elif len(self._inquiries) < MAX_INQUIRIES:
            self._inquiries[inquiry.address] = {inquiry.sender}
            self._looking[inquiry.address] = looking = Deferred.fromCoroutine(self._look(inquiry.address))
            if looking.called:
                self._looking.pop(inquiry.address, None)

    def _stop_looking(self) -> None:
        for looking in list(self._looking.values()):
            looking.cancel()

    async def _look(self, address: str) -> None:
        """Look twice: a type whose only worker restarts must not fail jobs."""
        settling = max(0.0, self._settled - self.bus.clock.seconds())
        try:
            for pause in (settling, SECOND_LOOK):
                await deferLater(self.bus.clock, pause)
                looking = Deferred.fromCoroutine(self._nobody_takes(address))
                if not await looking.addTimeout(LOOK_TIMEOUT, self.bus.clock):
                    return
            self._nobody(address)
        except CancelledError:
            pass
        except Exception as error:  # whatever kept it from looking, the senders ask again
            self._could_not_look(address, error)
        finally:
            del self._inquiries[address]
            self._looking.pop(address, None)

    async def _nobody_takes(self, address: str) -> bool:
        known = self.registry.known(address)
        return (known is not None and not known.capacity) or await self.link.nobody_takes(address)

    def _could_not_look(self, address: str, error: Exception) -> None:
        refused = isinstance(error, AccessRefused | Forbidden)
        if refused and self._said.first(str(error)):
            self.log.error(
                "{manager} may not see whether anybody takes jobs for {address}, so that their senders wait until they "
                "time out; give its user the right, see docs/howto/security.rst (this is said once): {error}",
                manager=self.id,
                address=address,
                error=error,
            )
        else:
            self.log.debug("no answer about {address}: {error}", address=address, error=error)

    def _nobody(self, address: str) -> None:
        for sender in self._inquiries[address]:
            body = {
                "target": {"id": sender, "type": sender.partition(":")[0]},
                "error": messages.NO_WORKER_TEXT,
                "address": address,
            }
            self._post.reply(sender, messages.ERROR, "", self._post.encode(body))
        self.metrics.record_error("NoWorkerAvailable")

    def when_ready(self) -> Deferred[SystemManager]:
        """Fires with the manager once it hears the bus; fails with DuplicateWorker. Cancelling stops the wait."""
        return self._ready.wait()
