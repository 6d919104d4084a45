"""Watches the queues of the worker types: how many jobs wait, how many consumers there are, and how old jobs are.

It asks the broker over AMQP, by passive declarations, so RabbitMQ's management plugin is not needed. No job is taken: a
job that is taken and returned counts as redelivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.logger import Logger

from txmicro.amqp.errors import AccessRefused
from txmicro.bus.connections import Bus
from txmicro.bus.session import Session
from txmicro.metrics import DURABLE, INTERACTIVE, ServiceMetrics
from txmicro.monitoring.fleet import Fleet
from txmicro.monitoring.queue_ages import QueueAge
from txmicro.protocol import topology
from txmicro.util.log_once import LogOnce

QUARANTINE: Final = topology.QUARANTINE
DEAD: Final = topology.DEAD

NAMES: Final[dict[str, Callable[[str], str]]] = {
    INTERACTIVE: topology.jobs_queue,
    DURABLE: topology.durable_queue,
    QUARANTINE: topology.quarantine_queue,
    DEAD: topology.dead_queue,
}
"""Return the name of a type's queue, by what the page calls the queue."""

TIMEOUT: Final = 3.0
"""Seconds that an answer may take: RabbitMQ 4.3 does not answer for a queue whose node is down."""

FIRST_PAUSE: Final = 30.0
PAUSE: Final = 300.0
"""Seconds for which a queue is not asked about that does not exist, or about which there was no answer: the first time,
then twice as long each time, and at most.

RabbitMQ writes a line to its log for each question about a queue that does not exist.
"""

AT_ONCE: Final = 8
"""How many questions are open at once."""

TYPES_MAX: Final = 500
"""The most types whose queues are watched."""

UNKNOWN: Final[dict[str, Any]] = {"jobs": None, "consumers": None, "oldest": None}


class _Pause(NamedTuple):
    """A queue is not asked about: until when, in the clock's seconds, and for how long."""

    until: float
    seconds: float


class QueueWatch:
    """Watches the queues; see the module.

    :param manager: the id of the SystemManager, for the log.
    :param fleet: tells which jobs have started.
    :param metrics: gets the gauges.
    :ivar queues: by type and queue, what is known: ``{jobs, consumers, oldest}``, each None if it is unknown.
    """

    log = Logger()

    def __init__(self, manager: str, bus: Bus, fleet: Fleet, metrics: ServiceMetrics) -> None:
        self.id = manager
        self.queues: dict[str, dict[str, dict[str, Any]]] = {}
        self._bus = bus
        self._fleet = fleet
        self._metrics = metrics
        self._ages: dict[tuple[str, str], QueueAge] = {}
        self._paused: dict[tuple[str, str], _Pause] = {}
        self._log_once = LogOnce()
        self._round: Deferred[Any] | None = None

    def look(self, types: Iterable[str]) -> None:
        """Ask about the queues of *types*, unless the answers of the last time are still awaited."""
        session = self._bus.session
        if self._round is not None or session is None:
            return
        kinds = dict.fromkeys(sorted(types)[:TYPES_MAX])
        self._forget_all_but(kinds)
        questions = ((kind, queue) for kind in kinds for queue in NAMES)
        askers = [Deferred.fromCoroutine(self._ask_all(session, questions)) for _ in range(AT_ONCE)]
        self._round = asking = gatherResults(askers, consumeErrors=True)
        asking.addBoth(self._looked)

    def joined(self, kind: str) -> None:
        """Ask about all queues of the type *kind* again: a worker has joined, which has declared them."""
        for queue in NAMES:
            self._paused.pop((kind, queue), None)

    def stop(self) -> None:
        """Ask nothing any more."""
        if self._round is not None:
            self._round.cancel()

    def _looked(self, _: object) -> None:
        self._round = None

    def _forget_all_but(self, kinds: dict[str, None]) -> None:
        self._metrics.keep_queues(kinds)
        for kind in [kind for kind in self.queues if kind not in kinds]:
            del self.queues[kind]
            for queue in NAMES:
                self._ages.pop((kind, queue), None)
                self._paused.pop((kind, queue), None)

    async def _ask_all(self, session: Session, questions: Iterator[tuple[str, str]]) -> None:
        for kind, queue in questions:
            pause = self._paused.get((kind, queue))
            if pause is None or pause.until <= self._bus.clock.seconds():
                await self._ask(session, kind, queue)

    async def _ask(self, session: Session, kind: str, queue: str) -> None:
        name = NAMES[queue](kind)
        try:
            asking = Deferred.fromCoroutine(session.counts(name))
            counts = await asking.addTimeout(TIMEOUT, self._bus.clock)
        except CancelledError:
            raise
        except Exception as error:
            self._not_answered(name, error)
            if isinstance(error, AccessRefused | TimeoutError):  # and not if the connection is lost
                self._pause(kind, queue)
            self._note(kind, queue, UNKNOWN)
            return
        if counts is None:
            self._pause(kind, queue)
            self._note(kind, queue, UNKNOWN)
            return
        self._paused.pop((kind, queue), None)
        jobs, consumers = counts
        age = self._ages.setdefault((kind, queue), QueueAge())
        oldest = age.oldest(jobs, self._bus.ids.time(), self._youngest(kind, queue))
        self._note(kind, queue, {"jobs": jobs, "consumers": consumers, "oldest": oldest})

    def _pause(self, kind: str, queue: str) -> None:
        before = self._paused.get((kind, queue))
        seconds = FIRST_PAUSE if before is None else min(PAUSE, 2 * before.seconds)
        self._paused[kind, queue] = _Pause(self._bus.clock.seconds() + seconds, seconds)

    def _youngest(self, kind: str, queue: str) -> float | None:
        numbers = self._fleet.types.get(kind)
        return None if numbers is None else numbers.youngest.get(queue)

    def _note(self, kind: str, queue: str, state: dict[str, Any]) -> None:
        self.queues.setdefault(kind, {})[queue] = state
        self._metrics.set_queue(kind, queue, **state)

    def _not_answered(self, name: str, error: Exception) -> None:
        if isinstance(error, AccessRefused) and self._log_once.first("refused"):
            self.log.error(
                "{manager} cannot look at {queue}: {error}; the page does not show how many jobs wait; grant its user "
                "the right, see docs/howto/security.rst (logged once)",
                manager=self.id,
                queue=name,
                error=error,
            )
        else:
            reason = "no answer" if isinstance(error, TimeoutError) else error
            self.log.debug("{queue} is not known: {reason}", queue=name, reason=reason)
