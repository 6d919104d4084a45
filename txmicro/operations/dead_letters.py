"""The dead letters of a worker type, as an operator has them: to look at, to try again, to throw away.

One operator at a time: the exclusive queue :func:`~txmicro.protocol.topology.operator_queue` is the lock,
which the broker
takes away with the connection. A quorum queue does not keep others off by an exclusive consumer.

A letter is taken by ``basic.get`` and leaves its queue only by an acknowledgement, which follows the broker's
confirm that it has the job again. What is not acknowledged goes back, at the latest when the channel closes. So
nothing gets lost; what is cut off between confirm and acknowledgement is there twice. Copies of one letter are one to
an operator. The order is not kept: a quorum queue puts what comes back in front of what never left, but behind what
came back before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import ChannelClosed
from txmicro.amqp.methods import Content
from txmicro.amqp.properties import Properties
from txmicro.errors import DecodeError, TxmicroError
from txmicro.protocol import durable_headers, topology
from txmicro.protocol.codec import by_content_type
from txmicro.protocol.failures import from_header

BATCH: Final = 16
"""How many letters are under way at once. RabbitMQ holds back acknowledgements from 32 unanswered ones on."""

BROKER_TIMEOUT: Final = 30.0
"""Seconds that the broker has for an answer; one that is out of memory or disk space gives none."""

LONGEST: Final = 1000
"""Characters of a text that a summary has."""

COUNTED: Final = 10_000
"""Letters that are looked at to list them, so that copies are not counted; beyond, they count."""

LOOKS: Final = 100
LOOK_EVERY: Final = 0.01
"""How often, and how many seconds apart, it is looked whether returned letters are back."""

_NOT_FOUND: Final = 404
_LOCKED: Final = 405


class DeadLettersError(TxmicroError):
    """What an operator wants with dead letters cannot be done."""


class NoDeadLetters(DeadLettersError):
    """The type has no queue for dead letters."""


class DeadLettersLocked(DeadLettersError):
    """Another operator is at work on the type's dead letters."""


class NoSuchLetter(DeadLettersError):
    """There is no letter of that id."""


class LetterExpired(DeadLettersError):
    """The job's sender did not want it started any more by now."""


class Interrupted(DeadLettersError):
    """Whoever wanted it has thought better of it."""


class BrokerTimeout(DeadLettersError):
    """The broker has not answered in time."""


class DeadLetter:
    """A durable job that was given up. A stranger may have put anything into it: nothing here fails over that.

    :ivar id: the hop's key, or else one made of the body, for what was sent without.
    :ivar job: the id of the job whose hop it is.
    :ivar identity: what its copies have in common. The key alone says nothing of what cannot be read.
    """

    __slots__ = ("body", "headers", "id", "identity", "job", "properties", "tag")

    def __init__(self, tag: int, properties: Properties, body: bytes) -> None:
        self.tag = tag
        self.properties = properties
        self.headers = properties.headers or {}
        self.body = body
        digest = f"sha256:{sha256(body).hexdigest()[:16]}"
        self.id = properties.message_id or digest
        self.job = self.id.rpartition("/")[0] or self.id
        self.identity = f"{self.id} {digest}" if self.reason == durable_headers.UNREADABLE else self.id

    @property
    def stored(self) -> datetime | None:
        """When the job was sent first; None: it does not say."""
        return _moment(durable_headers.number(self.headers, durable_headers.STORED, 0) / 1000)

    @property
    def failed(self) -> datetime | None:
        """When it failed last, or else was given up."""
        failed = durable_headers.number(self.headers, durable_headers.FAILED, 0) / 1000
        return _moment(failed) or _moment(self._death.get("time")) or _moment(self.properties.timestamp)

    @property
    def attempt(self) -> int:
        """Which attempt was its last."""
        return max(1, durable_headers.number(self.headers, durable_headers.ATTEMPT, 1))

    @property
    def reason(self) -> str:
        """Why it was given up: a worker's word, or the broker's (``x-death``)."""
        said = self.headers.get(durable_headers.REASON, self._death.get("reason"))
        return said if isinstance(said, str) else "unknown"

    @property
    def _death(self) -> dict[str, Any]:
        deaths = self.headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return latest if isinstance(latest, dict) else {}

    def summary(self) -> dict[str, Any]:
        """What a listing says of it, as JSON has it, cut short; ``failure`` is None when no handler failed."""
        failure = None
        if durable_headers.FAILURE in self.headers:
            error = from_header(self.headers[durable_headers.FAILURE])
            failure = {
                "type": error.type[:LONGEST],
                "message": error.message[:LONGEST],
                "worker": error.worker and error.worker[:LONGEST],
            }
        return {
            "id": self.id,
            "stored": _written(self.stored),
            "failed": _written(self.failed),
            "attempt": self.attempt,
            "reason": self.reason,
            "failure": failure,
        }

    def contents(self) -> dict[str, Any]:
        """All of it: the summary, the headers, and the body, or (``hex``) what cannot be read as one."""
        content_type = self.properties.content_type
        whole = {**self.summary(), "headers": self.headers, "content_type": content_type}
        try:
            return {**whole, "body": by_content_type(content_type or "").decode(self.body)}
        except DecodeError as error:
            return {**whole, "unreadable": str(error), "hex": self.body.hex()}

    def expired(self, now_ms: int) -> bool:
        """Whether its sender does not want it started any more."""
        expires = durable_headers.number(self.headers, durable_headers.EXPIRES, 0)
        return 0 < expires <= now_ms

    def outdates(self, other: DeadLetter) -> bool:
        """Whether *other*, a copy, is the older one."""
        return (self.failed or _LONG_AGO) > (other.failed or _LONG_AGO)

    def again(self, now_ms: int, run_ms: int) -> bytes:
        """The properties with which it is tried again, as at first, by a command that began at *run_ms*: encoded.

        Only headers of ours go along: a stranger's ``CC`` would choose more queues for it.
        """
        kept = {name: value for name, value in self.headers.items() if _is_ours(name)}
        kept.pop(durable_headers.REASON, None)
        expires = durable_headers.number(kept, durable_headers.EXPIRES, 0)
        given = self.properties
        return Properties(
            content_type=given.content_type,
            headers={**kept, durable_headers.ATTEMPT: 1, durable_headers.REQUEUED: run_ms},
            delivery_mode=2,
            reply_to=given.reply_to,
            expiration=str(min(expires - now_ms, durable_headers.LONGEST_TTL)) if expires else None,
            message_id=given.message_id,
            timestamp=now_ms // 1000,
            message_type=given.message_type,
            app_id=given.app_id,
        ).encode()


_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


def _is_ours(header: str) -> bool:
    return header.startswith("txmicro-") or header == "traceparent"


def _moment(value: Any) -> datetime | None:
    """A moment that somebody wrote as Unix time or as AMQP's timestamp; None: it is none."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromtimestamp(value, UTC) if value else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class DeadLetters:
    """The dead letters of one type, on a channel of their own; :func:`open_letters` makes it.

    Each method can be used once, as what it takes stays with it until :meth:`close`.

    :param clock: the reactor, as far as time goes.
    :param time: Unix time, in seconds.
    :ivar total: how many there were at the beginning, copies included. What comes later is left alone.
    :ivar copies: how many of those that were looked at are copies of others.
    :ivar done: how many were requeued or discarded, of copies one.
    :ivar expired: how many were not requeued, as their senders do not want them any more; of copies one.
    :ivar stopping: set it to have the work end, as :class:`Interrupted`, after what is under way.
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
        self._late: set[str] = set()

    @property
    def done(self) -> int:
        """See the class."""
        return len(self._settled)

    @property
    def expired(self) -> int:
        """See the class."""
        return len(self._late)

    async def page(self, most: int) -> list[DeadLetter]:
        """The first *most* letters, of copies the latest."""
        known: set[str] = set()
        page: dict[str, DeadLetter] = {}
        async for batch in self._batches(max(most, COUNTED)):
            for letter in batch:
                self.copies += letter.identity in known
                known.add(letter.identity)
                if letter.identity in page or len(page) < most:
                    _keep_latest(page, letter)
        return list(page.values())

    async def show(self, ids: Collection[str]) -> list[DeadLetter]:
        """All letters that are called so, of copies the latest; raises :class:`NoSuchLetter`."""
        latest: dict[str, DeadLetter] = {}
        for letter in await self._find(ids):
            _keep_latest(latest, letter)
        return list(latest.values())

    async def _find(self, ids: Collection[str]) -> list[DeadLetter]:
        missing, found = set(ids), []
        async for batch in self._batches(self.total):
            for letter in batch:
                names = {letter.id, letter.job}
                if not names.isdisjoint(ids):
                    found.append(letter)
                    missing -= names
        if missing:
            raise NoSuchLetter(f"no dead letter of {self._kind} is called {', '.join(sorted(missing))}")
        return found

    async def requeue(self, ids: Collection[str] | None) -> None:
        """Have the jobs tried again; *ids* of them (None: of all).

        Fails with :class:`NoSuchLetter` or :class:`LetterExpired` before anything is done; with what the broker has
        against it amid the work: then the first ``done`` ones are requeued, and the others dead letters as before.
        """
        async for batch in self._chosen(ids):
            now = self._now()
            self._late |= {letter.identity for letter in batch if letter.expired(now)}
            chosen = [each for each in batch if not (each.identity in self._late or self._is_new(each))]
            await self._answers(
                Deferred.fromCoroutine(self._store(copies, now)) for copies in _by_identity(chosen)
            )

    def _is_new(self, letter: DeadLetter) -> bool:
        """Whether it is one that was requeued by this very command, and has failed again: no copy of it."""
        return durable_headers.number(letter.headers, durable_headers.REQUEUED, 0) == self._began

    async def discard(self, ids: Collection[str] | None) -> None:
        """Throw letters away; *ids* of them (None: all). Fails with :class:`NoSuchLetter` before it does."""
        async for batch in self._chosen(ids, expired=True):
            for letter in batch:
                self._settle(letter)

    async def close(self) -> None:
        """Give back what was not settled, and see it back: the next command is to find it. What was settled is gone.

        Nothing happens when the channel is gone: then the broker has it all back.
        """
        if self._channel.reason is not None:
            return
        if self._held:
            there = await self._count()
            self._channel.basic_nack(delivery_tag=0, multiple=True, requeue=True)
            await self._return(there + self._held)
        await self._answer(self._channel.channel_close())

    # How

    async def _chosen(
        self, ids: Collection[str] | None, *, expired: bool = False
    ) -> AsyncIterator[Sequence[DeadLetter]]:
        if ids is None:
            async for batch in self._batches(self.total):
                yield batch
            return
        found = await self._find(ids)
        late = {letter.id for letter in found if letter.expired(self._now())}
        if late and not expired:
            raise LetterExpired(f"expired, and to be discarded only: {', '.join(sorted(late))}")
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

    async def _return(self, there: int) -> None:
        """Wait until so many letters wait in the queue; somebody who keeps to no rules may have taken some."""
        for _ in range(LOOKS):
            if await self._count() >= there:
                return
            await deferLater(self._clock, LOOK_EVERY)

    async def _count(self) -> int:
        queue = topology.dead_queue(self._kind)
        declared = await self._answer(self._channel.queue_declare(queue=queue, passive=True))
        return int(declared.message_count)

    def _get(self) -> Deferred[DeadLetter | None]:
        getting: Deferred[Any] = self._channel.basic_get(queue=topology.dead_queue(self._kind))
        return getting.addCallback(self._got)

    def _got(self, reply: Any) -> DeadLetter | None:
        content: Content | None = reply.content
        if content is None:  # basic.get-empty
            return None
        self._held += 1
        return DeadLetter(reply.delivery_tag, content.properties, content.body)

    async def _store(self, copies: list[DeadLetter], now: int) -> None:
        """Have the broker keep one of *copies*, unless it has one already, and let go of all."""
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

    def _now(self) -> int:
        return int(self._time() * 1000)

    def _answer(self, waiting: Deferred[Any]) -> Deferred[Any]:
        return with_timeout(waiting, self._clock)

    async def _answers(self, waiting: Iterable[Deferred[Any]]) -> list[Any]:
        """All answers; if there are failures, the first one is raised once nothing is under way any more."""
        answers: list[Any] = await self._answer(DeferredList(list(waiting), consumeErrors=True))
        for succeeded, answer in answers:
            if not succeeded:
                answer.raiseException()
        return [answer for _, answer in answers]


def _keep_latest(letters: dict[str, DeadLetter], letter: DeadLetter) -> None:
    known = letters.get(letter.identity)
    if known is None or letter.outdates(known):
        letters[letter.identity] = letter


def _by_identity(letters: Iterable[DeadLetter]) -> Iterable[list[DeadLetter]]:
    groups: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault(letter.identity, []).append(letter)
    return groups.values()


async def open_letters(client: Connection, kind: str, clock: Any, time: Callable[[], float]) -> DeadLetters:
    """Be the operator of type *kind* until *client*'s connection ends.

    Raises :class:`DeadLettersLocked`, :class:`NoDeadLetters`, :class:`BrokerTimeout`, or the broker's error.
    """
    channel = await with_timeout(client.channel_open(), clock)
    await with_timeout(channel.confirm_select(), clock)
    await lock(channel, kind, clock)
    try:
        dead = await with_timeout(channel.queue_declare(queue=topology.dead_queue(kind), passive=True), clock)
    except ChannelClosed as error:
        if error.reply_code == _NOT_FOUND:
            raise NoDeadLetters(
                f"{kind} has no dead letters: no worker of that type that takes durable jobs was ever here"
            ) from error
        raise
    return DeadLetters(channel, kind, dead.message_count, clock, time)


async def lock(channel: Channel, kind: str, clock: Any) -> None:
    """Be the one operator of type *kind* until the connection of *channel* ends; raises :class:`DeadLettersLocked`."""
    try:
        await with_timeout(channel.queue_declare(queue=topology.operator_queue(kind), exclusive=True), clock)
    except ChannelClosed as error:
        if error.reply_code == _LOCKED:
            raise DeadLettersLocked(f"another operator is at work on the dead letters of {kind}") from error
        raise


def with_timeout(waiting: Deferred[Any], clock: Any) -> Deferred[Any]:
    """*waiting*, which fails with :class:`BrokerTimeout` when it takes too long."""
    return waiting.addTimeout(BROKER_TIMEOUT, clock, _silent)


def _silent(_result: Any, timeout: float) -> Failure:
    return Failure(
        BrokerTimeout(f"the broker has not answered for {timeout:g} s: is it out of memory or disk?")
    )
