"""The dead letters of a worker type: list, show, requeue and discard them.

One command at a time works on a type: see :mod:`~txmicro.operations.operator_channel`.

A command reads letters with ``basic.get``. A letter leaves its queue only when it is acknowledged. A requeued letter is
acknowledged after the broker has confirmed the new message. All other letters return to the queue, at the latest when
the channel closes. So no letter is lost. A letter whose connection ends between confirm and acknowledgement exists
twice; copies of a letter count as one.

The order changes: a quorum queue puts returned messages before those that were never read, but after those that
were returned earlier.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import ChannelClosed
from txmicro.amqp.methods import IncomingMessage
from txmicro.protocol import durable_headers, topology

from .dead_letter import DeadLetter, LetterRow, group_copies, keep_newest
from .letter_filter import EVERY, LetterFilter
from .operator_channel import NOT_FOUND, OperationError, open_channel, with_timeout

BATCH: Final = 16
"""How many letters are read at once. RabbitMQ delays acknowledgements when 32 or more are outstanding."""

SCANNED: Final = 10_000
"""How many letters a listing reads at least, to find the copies among them. Copies beyond that are counted."""

RETURN_CHECKS: Final = 100
RETURN_INTERVAL: Final = 0.01
"""How many times, and how many seconds apart, the queue's length is checked after letters were returned to it."""


Chosen = Collection[str] | LetterFilter
"""The IDs of letters, of hops or of jobs; or what chooses letters."""


class NoDeadLetters(OperationError):
    """The worker type has no queue for dead letters: no worker of it with ``durable = True`` has ever been connected.

    Check the spelling of the type, and which broker the configuration names.
    """


class DeadLetterNotFound(OperationError):
    """No dead letter of the type has one of the IDs. Nothing was done for the other IDs either.

    ``txmicro dead list TYPE`` shows the IDs.
    """


class DeadLetterExpired(OperationError):
    """The job must not be started any more: its ``expires`` has passed. Nothing was done for the other IDs either.

    The letter can only be discarded.
    """


class Interrupted(OperationError):
    """The command was interrupted, and has ended after the letters that it was working on."""


async def open_dead_letter_queue(
    client: Connection, kind: str, clock: Any, time: Callable[[], float]
) -> DeadLetterQueue:
    """Lock the worker type *kind* until *client*'s connection ends, and return its dead letters.

    :param time: gives Unix time, in seconds.
    :raise TypeLocked: another command holds the lock.
    :raise NoDeadLetters: the type has none, and never had.
    :raise BrokerTimeout: the broker does not answer.
    """
    channel = await open_channel(client, kind, clock)
    await with_timeout(channel.confirm_select(), clock)
    try:
        dead = await with_timeout(channel.queue_declare(queue=topology.dead_queue(kind), passive=True), clock)
    except ChannelClosed as error:
        if error.reply_code == NOT_FOUND:
            raise NoDeadLetters(
                f"{kind} has no dead letters: no worker of this type that takes durable jobs has ever been connected; "
                "check the spelling of the type and the broker_url"
            ) from error
        raise
    return DeadLetterQueue(channel, kind, dead.message_count, clock, time)


class DeadLetterQueue:
    """The dead letters of one type, on a channel of their own; :func:`open_dead_letter_queue` returns it.

    Call one method, once, and then :meth:`close`: the letters that were read stay with this object until then.

    :param clock: a reactor, or a ``Clock``.
    :param time: gives Unix time, in seconds.
    :ivar total: how many letters there were at the beginning, with copies. Letters that arrive later are not read.
    :ivar copies: how many of the letters that were read are copies of others.
    :ivar done: how many letters were requeued or discarded, without copies.
    :ivar expired: how many letters were not requeued because they have expired, without copies.
    :ivar stopping: set it to True, and the running method raises :class:`Interrupted` after the current batch.
    """

    def __init__(
        self, channel: Channel, kind: str, total: int, clock: Any, time: Callable[[], float]
    ) -> None:
        self.total = total
        self.copies = 0
        self.stopping = False
        self._channel = channel
        self._kind = kind
        self._clock = clock
        self._time = time
        self._began = self._now()
        self._held = 0
        self._settled: set[str] = set()  # identities
        self._expired: set[str] = set()  # identities

    @property
    def done(self) -> int:
        """How many letters were requeued or discarded, without copies."""
        return len(self._settled)

    @property
    def settled(self) -> frozenset[str]:
        """The identities of the letters that were requeued or discarded."""
        return frozenset(self._settled)

    @property
    def expired(self) -> int:
        """How many letters were not requeued because they have expired, without copies."""
        return len(self._expired)

    async def page(self, most: int) -> list[DeadLetter]:
        """Return the first *most* letters; of copies, the newest."""
        known: set[str] = set()
        page: dict[str, DeadLetter] = {}
        async for batch in self._batches(max(most, SCANNED)):
            for letter in batch:
                self.copies += letter.identity in known
                known.add(letter.identity)
                if letter.identity in page or len(page) < most:
                    keep_newest(page, letter)
        return list(page.values())

    async def show(self, ids: Collection[str]) -> list[DeadLetter]:
        """Return the letters with *ids*, of hops or of jobs; of copies, the newest.

        :raise DeadLetterNotFound: one of *ids* has no letter.
        """
        newest: dict[str, DeadLetter] = {}
        for letter in await self._find(ids):
            keep_newest(newest, letter)
        return list(newest.values())

    async def rows(self) -> list[LetterRow]:
        """Return the rows of the first :data:`SCANNED` letters; of copies, that of the newest."""
        newest: dict[str, LetterRow] = {}
        async for batch in self._batches(SCANNED):
            for letter in batch:
                row, known = letter.row(), newest.get(letter.identity)
                self.copies += known is not None
                if known is None or (row.died or 0.0) > (known.died or 0.0):
                    newest[letter.identity] = row
        return list(newest.values())

    async def count(self, chosen: Chosen) -> int:
        """Return how many letters *chosen* are there, without copies.

        :raise DeadLetterNotFound: one of *chosen* has no letter.
        """
        found: set[str] = set()
        async for batch in self._chosen(chosen, expired=True):
            found |= {letter.identity for letter in batch}
        return len(found)

    async def requeue(self, chosen: Chosen) -> None:
        """Publish the jobs again, for their first attempt: those of *chosen*.

        After an error of the broker, the first :attr:`done` letters are requeued; the others are still dead letters.

        :raise DeadLetterNotFound: one of *chosen* has no letter; nothing was done.
        :raise DeadLetterExpired: one of the IDs *chosen* has expired; nothing was done.
        """
        async for batch in self._chosen(chosen):
            now = self._now()
            self._expired |= {letter.identity for letter in batch if letter.expired(now)}
            again = [
                each for each in batch if not (each.identity in self._expired or self._failed_again(each))
            ]
            await self._answers(
                Deferred.fromCoroutine(self._store(copies, now)) for copies in group_copies(again)
            )

    async def discard(self, chosen: Chosen) -> None:
        """Delete letters: those of *chosen*.

        :raise DeadLetterNotFound: one of *chosen* has no letter; nothing was done.
        """
        async for batch in self._chosen(chosen, expired=True):
            for letter in batch:
                self._settle(letter)

    async def close(self) -> None:
        """Return the other letters to their queue, and wait until they are there, so that the next command finds them.

        Do nothing when the channel has been closed: the broker has returned the letters then.
        """
        if self._channel.reason is not None:
            return
        if self._held:
            ready = await self._count()
            self._channel.basic_nack(delivery_tag=0, multiple=True, requeue=True)
            await self._wait_for_return(ready + self._held)
        await self._answer(self._channel.channel_close())

    # Reading

    async def _find(self, ids: Collection[str]) -> list[DeadLetter]:
        missing, found = set(ids), []
        async for batch in self._batches(self.total):
            for letter in batch:
                names = {letter.id, letter.job}
                if not names.isdisjoint(ids):
                    found.append(letter)
                    missing -= names
        if missing:
            raise DeadLetterNotFound(
                f"{self._kind} has no dead letter with the ID {', '.join(sorted(missing))}; nothing was done; "
                f"txmicro dead list {self._kind} shows the IDs"
            )
        return found

    async def _chosen(self, chosen: Chosen, *, expired: bool = False) -> AsyncIterator[Sequence[DeadLetter]]:
        if isinstance(chosen, LetterFilter):
            async for batch in self._batches(self.total):
                yield [letter for letter in batch if chosen == EVERY or chosen.matches(letter.row())]
            return
        found = await self._find(chosen)
        late = {letter.id for letter in found if letter.expired(self._now())}
        if late and not expired:
            raise DeadLetterExpired(
                f"{', '.join(sorted(late))}: expired, so its job must not be started any more; nothing was done; "
                "txmicro dead discard deletes the letter"
            )
        for start in range(0, len(found), BATCH):
            yield found[start : start + BATCH]

    async def _batches(self, most: int) -> AsyncIterator[list[DeadLetter]]:
        left = min(most, self.total)
        while left:
            if self.stopping:
                raise Interrupted("interrupted")
            wanted = min(left, BATCH)
            got = [letter for letter in await self._answers(self._get() for _ in range(wanted)) if letter]
            yield got
            left = left - wanted if len(got) == wanted else 0

    def _get(self) -> Deferred[DeadLetter | None]:
        getting: Deferred[Any] = self._channel.basic_get(queue=topology.dead_queue(self._kind))
        return getting.addCallback(self._got)

    def _got(self, reply: Any) -> DeadLetter | None:
        content: IncomingMessage | None = reply.content
        if content is None:  # basic.get-empty
            return None
        self._held += 1
        return DeadLetter(reply.delivery_tag, content.properties, content.body)

    # Settling

    def _failed_again(self, letter: DeadLetter) -> bool:
        """Return whether this command has requeued the letter's job, which has failed again: it is not a copy."""
        return durable_headers.number(letter.headers, durable_headers.REQUEUED, 0) == self._began

    async def _store(self, copies: list[DeadLetter], now: int) -> None:
        """Publish one of *copies*, unless that was done before, and acknowledge all when the broker has confirmed."""
        letter = copies[0]
        if letter.identity not in self._settled:
            prefix = self._channel.publisher(
                topology.durable_exchange(self._kind), topology.DURABLE_KEY, True
            )
            again, message_id = letter.again(now, self._began), letter.properties.message_id or ""
            await self._channel.publish_confirmed(prefix, again, letter.body, message_id)
        for copy in copies:
            self._settle(copy)

    def _settle(self, letter: DeadLetter) -> None:
        self._channel.ack(letter.tag)
        self._held -= 1
        self._settled.add(letter.identity)

    async def _wait_for_return(self, ready: int) -> None:
        """Wait until the queue has *ready* letters, but not forever: another program may have taken some."""
        for _ in range(RETURN_CHECKS):
            if await self._count() >= ready:
                return
            await deferLater(self._clock, RETURN_INTERVAL)

    async def _count(self) -> int:
        queue = topology.dead_queue(self._kind)
        declared = await self._answer(self._channel.queue_declare(queue=queue, passive=True))
        return int(declared.message_count)

    # Answers of the broker

    def _now(self) -> int:
        return int(self._time() * 1000)

    def _answer(self, waiting: Deferred[Any]) -> Deferred[Any]:
        return with_timeout(waiting, self._clock)

    async def _answers(self, waiting: Iterable[Deferred[Any]]) -> list[Any]:
        """Return all answers. When some have failed, raise the first failure after the last answer."""
        answers: list[Any] = await self._answer(DeferredList(list(waiting), consumeErrors=True))
        for succeeded, answer in answers:
            if not succeeded:
                answer.raiseException()
        return [answer for _, answer in answers]
