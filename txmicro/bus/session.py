"""The two open connections of a bus: publishing, consuming, and asking the broker what exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.failure import Failure

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import ChannelClosed
from txmicro.amqp.properties import Properties
from txmicro.protocol.topology import Features
from txmicro.util.once import Once

from .large_messages import LargeMessages

_Destination = tuple[Channel, str, str, bool]  # exchange, routing key, mandatory

BACKLOG_MAX: Final = 64 * 1024 * 1024
"""Bytes that may wait for a broker that accepts nothing. More are dropped: their senders send or ask again."""


class Session:
    """Two connections to one broker, from when both are open until a part of them is lost.

    :ivar publishing: the connection that publishes. :ivar consuming: the connection that consumes.
    :ivar publisher: the channel for messages that are published without confirms.
    :ivar keeper: the channel in confirm mode, for messages that the broker must keep.
    :ivar large: publishes messages that the broker may refuse for their size.
    :ivar features: the broker's capabilities.
    :ivar is_lost: whether a part of it is lost.
    :param transient: False if the broker is known to forbid transient queues that are not exclusive.
    :param dial: opens one more connection to the same broker, for a purpose in words.
    """

    def __init__(
        self,
        publishing: Connection,
        consuming: Connection,
        publisher: Channel,
        keeper: Channel,
        large: LargeMessages,
        dial: Callable[[str], Deferred[Connection]],
        *,
        transient: bool = True,
    ) -> None:
        self._dial = dial
        self._keeping: Once[Connection] | None = None
        self.publishing = publishing
        self.consuming = consuming
        self.publisher = publisher
        self.keeper = keeper
        self.large = large
        features = Features.of(consuming.server_properties)
        self.features = replace(features, transient_queues=features.transient_queues and transient)
        self._prefixes: dict[_Destination, bytes] = {}
        self._known: set[str] = set()
        self._checks: dict[str, list[Deferred[bool]]] = {}
        self._backlog = 0
        self.is_lost = False
        self._lost: Once[BaseException] = Once()
        for part in (publishing, consuming, publisher):
            part.lost().addCallback(self._part_lost)
        self._renewing = False
        keeper.lost().addCallback(self._keeper_lost, keeper)

    def lost(self) -> Deferred[BaseException]:
        """Fires with the reason when the first part of the session is lost; does not fail. Canceling stops the wait."""
        return self._lost.wait()

    def _part_lost(self, reason: BaseException) -> None:
        self.is_lost = True
        self._lost.happen(reason)

    def _keeper_lost(self, reason: BaseException, keeper: Channel) -> None:
        if keeper is self.keeper:
            self._part_lost(reason)

    def renew_keeper(self) -> None:
        """Open another channel in confirm mode, and close the one that does not confirm its messages.

        Publications that the old channel has not confirmed fail then. They may be stored all the same.
        """
        if not self._renewing and not self.is_lost:
            self._renewing = True
            Deferred.fromCoroutine(self._renew_keeper()).addBoth(self._renewed)

    async def _renew_keeper(self) -> None:
        keeper = await self.publishing.channel_open()
        await keeper.confirm_select()
        keeper.lost().addCallback(self._keeper_lost, keeper)
        old, self.keeper = self.keeper, keeper
        self._prefixes.clear()
        await old.channel_close()

    def _renewed(self, _result: Any) -> None:
        """Allow the next renewal. A failure is left to those who miss their confirms, or the connection is lost."""
        self._renewing = False

    def close(self) -> Deferred[Any]:
        """Close both connections. Fires when they are closed, within a bounded time; does not fail."""
        parts = [self.publishing, self.consuming]
        if self._keeping is not None:
            self._keeping.wait().addCallbacks(lambda client: client.abort(), lambda _: None)
        return gatherResults([part.shutdown() for part in parts])

    def keeping(self) -> Deferred[Connection]:
        """Open the connection on which durable jobs are consumed, unless it is open already.

        Fires with it; fails as dialing does. Canceling stops the wait.
        """
        if self._keeping is None:
            self._keeping = Once()
            self._dial("keeps").addCallbacks(self._kept, self._not_kept)
        return self._keeping.wait()

    def _kept(self, client: Connection) -> None:
        keeping = self._keeping
        if keeping is not None:
            client.lost().addCallback(lambda _: self._forget_keeping())
            keeping.happen(client)

    def _not_kept(self, failure: Failure) -> None:
        keeping = self._forget_keeping()
        if keeping is not None:
            keeping.happen(failure)

    def _forget_keeping(self) -> Once[Connection] | None:
        keeping, self._keeping = self._keeping, None
        return keeping

    @property
    def writable(self) -> bool:
        """True while the publishing connection accepts messages."""
        return not (self.publishing.blocked or self.publishing.paused)

    def frame(self, exchange: str, key: str, *, mandatory: bool) -> bytes:
        """Return the frame that :meth:`publish` needs for one destination; it is encoded once."""
        destination = (self.publisher, exchange, key, mandatory)
        return self._prefixes.get(destination) or self._prefix(destination)

    def publish(self, frame: bytes, properties: bytes, body: bytes) -> None:
        """Publish a message with this turn's output; drop it when the session is lost, or too much waits.

        The exchange must exist: see :meth:`exists`.

        :param frame: made by :meth:`frame`.
        """
        publishing = self.publishing
        if self.is_lost:
            return
        if not (publishing.blocked or publishing.paused):
            self._backlog = 0
        elif self.overflows(len(properties) + len(body)):
            return
        self.publisher.publish(frame, properties, body)

    def overflows(self, size: int) -> bool:
        """Count a message of *size* bytes, and return whether too much waits for the broker to publish it."""
        self._backlog = 0 if self.writable else self._backlog + size
        return self._backlog > BACKLOG_MAX

    def store(
        self, exchange: str, key: str, properties: bytes, body: bytes, message_id: str
    ) -> Deferred[None]:
        """Publish a message in confirm mode; the exchange must exist.

        :param message_id: the one in *properties*.

        Fires with None when the broker has confirmed it. Fails with :class:`~txmicro.amqp.connection.Returned` when
        no queue is bound for it, and with another error when it is unknown whether the broker has it.
        """
        destination = (self.keeper, exchange, key, True)
        prefix = self._prefixes.get(destination) or self._prefix(destination)
        return self.keeper.publish_confirmed(prefix, properties, body, message_id)

    def _prefix(self, destination: _Destination) -> bytes:
        if len(self._prefixes) >= 10_000:  # addresses come and go: bound the memory
            self._prefixes.clear()
        channel, exchange, key, mandatory = destination
        prefix = self._prefixes[destination] = channel.publisher(exchange, key, mandatory)
        return prefix

    def knows(self, exchange: str) -> bool:
        """Return whether *exchange* is known to exist, so that publishing to it does not close the channel."""
        return exchange in self._known

    def declared(self, exchange: str) -> None:
        """Remember that *exchange* exists."""
        self._known.add(exchange)

    async def has(self, exchange: str) -> bool:
        """Return whether *exchange* exists. Raises the reason when the session is lost."""
        return await self._ask(self.consuming, _passive(exchange)) is not None

    def exists(self, exchange: str) -> Deferred[bool]:
        """Ask the broker whether *exchange* exists and this user may publish to it.

        Publishing to one that does not exist closes the channel, so a scratch channel is used. Simultaneous
        questions about one exchange share one answer. Fires with whether it exists. Fails with
        :class:`AccessRefused`, and with the reason when the session is lost.
        """
        answer: Deferred[bool] = Deferred()
        waiting = self._checks.setdefault(exchange, [])
        waiting.append(answer)
        if len(waiting) == 1:
            Deferred.fromCoroutine(self._check(exchange)).addBoth(self._answer, exchange)
        return answer

    def settled(self) -> Deferred[Any]:
        """Fires when all pending questions about exchanges are answered and acted on; does not fail.

        Large messages have been written by then, too.
        """
        asked = [self.exists(exchange).addErrback(lambda _: None) for exchange in self._checks]
        return gatherResults(asked).addCallback(lambda _: self.large.written())

    async def _check(self, exchange: str) -> bool:
        passive = _passive(exchange)

        def question(scratch: Channel) -> Any:
            # No queue is bound with an empty key, so this message reaches nobody. It is published on the publishing
            # connection, since the broker blocks a connection that publishes when it lacks memory.
            scratch.publish(scratch.publisher(exchange, "", False), _NOTHING, b"")
            return passive(scratch)

        found = await self._ask(self.publishing, question) is not None
        if found:
            self._known.add(exchange)
        return found

    def _answer(self, result: Any, exchange: str) -> None:
        for waiting in self._checks.pop(exchange):
            waiting.callback(result)

    async def consumers(self, queue: str) -> int:
        """Return how many consumers *queue* has; -1: there is no such queue."""
        counts = await self.counts(queue)
        return -1 if counts is None else counts[1]

    async def counts(self, queue: str) -> tuple[int, int] | None:
        """Return how many messages of *queue* wait, and how many consumers it has; None: there is no such queue.

        Raises :class:`AccessRefused` when a right is missing, and the reason when the session is lost.
        """
        reply = await self._ask(
            self.consuming, lambda scratch: scratch.queue_declare(queue=queue, passive=True)
        )
        return None if reply is None else (int(reply.message_count), int(reply.consumer_count))

    async def _ask(self, client: Connection, question: Callable[[Channel], Any]) -> Any:
        """Return the reply to a passive declaration, on a scratch channel, as a 404 closes it; None if not found."""
        scratch = await client.channel_open()
        try:
            reply = await question(scratch)
        except ChannelClosed as error:
            if error.reply_code == 404:
                return None
            raise
        except CancelledError:  # the broker does not answer, as when the queue's node is down
            scratch.channel_close().addErrback(lambda _: None)
            raise
        scratch.channel_close().addErrback(lambda _: None)
        return reply


_NOTHING: Final = Properties().encode()


def _passive(exchange: str) -> Callable[[Channel], Any]:
    return lambda scratch: scratch.exchange_declare(exchange=exchange, passive=True)
