"""One life of a bus's two connections: what can be done while they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from txmicro.amqp.connection import Channel, ChannelClosed, Client
from txmicro.amqp.frames import Properties
from txmicro.protocol.topology import Features
from txmicro.util.once import Once

from .large_messages import LargeMessages

_Destination = tuple[Channel, str, str, bool]  # exchange, routing key, mandatory

BACKLOG_MAX: Final = 64 * 1024 * 1024
"""Bytes that wait for a broker that takes nothing. More are dropped: who needs a message asks for it again."""


class Session:
    """One life of the two connections.

    :ivar publishing: the connection that publishes. :ivar consuming: the one that consumes.
    :ivar publisher: the channel on which everything is published that the broker need not keep.
    :ivar keeper: the channel, in confirm mode, for what it must.
    :ivar large: publishes what the broker may refuse for its size.
    :ivar features: what the broker can do.
    :param transient: whether the broker is not known to forbid transient queues that are not exclusive.
    :param dial: makes one more connection to the same broker, for a purpose in words.
    """

    def __init__(
        self,
        publishing: Client,
        consuming: Client,
        publisher: Channel,
        keeper: Channel,
        large: LargeMessages,
        dial: Callable[[str], Deferred[Client]],
        *,
        transient: bool = True,
    ) -> None:
        self._dial = dial
        self._keeping: Once[Client] | None = None
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
        self._lost: Once[BaseException] = Once()
        for part in (publishing, consuming, publisher, keeper):
            part.lost().addCallback(self._lost.happen)

    def lost(self) -> Deferred[BaseException]:
        """Fires with the reason when the first part of the session is gone; cancelling it stops the wait."""
        return self._lost.wait()

    def close(self) -> Deferred[Any]:
        """Say good-bye on both connections. Fires when they are gone, which takes a bounded time; does not fail."""
        parts = [self.publishing, self.consuming]
        if self._keeping is not None:
            self._keeping.wait().addCallbacks(lambda client: client.abort(), lambda _: None)
        return gatherResults([part.shutdown() for part in parts])

    def keeping(self) -> Deferred[Client]:
        """The connection for those who consume durable jobs, made when it is first asked for, or was lost.

        Fires with it; fails as dialing does.
        """
        if self._keeping is None:
            self._keeping = Once()
            self._dial("keeps").addCallbacks(self._kept, self._not_kept)
        return self._keeping.wait()

    def _kept(self, client: Client) -> None:
        keeping = self._keeping
        if keeping is not None:
            client.lost().addCallback(lambda _: self._forget_keeping())
            keeping.happen(client)

    def _not_kept(self, failure: Failure) -> None:
        keeping = self._forget_keeping()
        if keeping is not None:
            keeping.happen(failure)

    def _forget_keeping(self) -> Once[Client] | None:
        keeping, self._keeping = self._keeping, None
        return keeping

    @property
    def writable(self) -> bool:
        """Whether what is published leaves now."""
        return not (self.publishing.blocked or self.publishing.paused)

    def publish(
        self, exchange: str, key: str, properties: bytes, body: bytes, mandatory: bool = False
    ) -> None:
        """Put a message into this turn's output; drop it once something is lost, or when too much waits.

        The exchange must exist: see :meth:`exists`.
        """
        if self._lost.happened or self.overflows(len(properties) + len(body)):
            return
        destination = (self.publisher, exchange, key, mandatory)
        prefix = self._prefixes.get(destination) or self._prefix(destination)
        self.publisher.publish(prefix, properties, body)

    def overflows(self, size: int) -> bool:
        """Whether too much waits for the broker already for a message of *size* bytes, which is counted."""
        self._backlog = 0 if self.writable else self._backlog + size
        return self._backlog > BACKLOG_MAX

    def store(
        self, exchange: str, key: str, properties: bytes, body: bytes, message_id: str
    ) -> Deferred[None]:
        """Publish a message for the broker to keep; the exchange must exist.

        :param message_id: the one in *properties*.

        Fires when it is confirmed; fails with :class:`~txmicro.amqp.connection.Returned` when it had no queue, and
        with anything else when nobody knows.
        """
        destination = (self.keeper, exchange, key, True)
        prefix = self._prefixes.get(destination) or self._prefix(destination)
        return self.keeper.publish_confirmed(prefix, properties, body, message_id)

    def _prefix(self, destination: _Destination) -> bytes:
        if len(self._prefixes) >= 10_000:  # addresses come and go; forget them all rather than grow for ever
            self._prefixes.clear()
        channel, exchange, key, mandatory = destination
        prefix = self._prefixes[destination] = channel.publisher(exchange, key, mandatory)
        return prefix

    def knows(self, exchange: str) -> bool:
        """Whether *exchange* was seen on this session, so that publishing to it is safe."""
        return exchange in self._known

    def declared(self, exchange: str) -> None:
        """Remember that *exchange* exists."""
        self._known.add(exchange)

    async def has(self, exchange: str) -> bool:
        """Whether there is an *exchange*; fails when the session is lost."""
        return await self._ask(self.consuming, _passive(exchange)) is not None

    def exists(self, exchange: str) -> Deferred[bool]:
        """Ask the broker whether *exchange* exists and we may publish to it: if not, that closes the channel.

        Questions about one exchange share one answer. Fires with whether it exists; fails with
        :class:`AccessRefused`, and when the session is lost.
        """
        answer: Deferred[bool] = Deferred()
        waiting = self._checks.setdefault(exchange, [])
        waiting.append(answer)
        if len(waiting) == 1:
            Deferred.fromCoroutine(self._knock(exchange)).addBoth(self._answer, exchange)
        return answer

    def settled(self) -> Deferred[Any]:
        """Fires when the questions of now are answered, and whoever asked has acted on that; does not fail.

        What is large has been written by then, too.
        """
        asked = [self.exists(exchange).addErrback(lambda _: None) for exchange in self._checks]
        return gatherResults(asked).addCallback(lambda _: self.large.written())

    async def _knock(self, exchange: str) -> bool:
        passive = _passive(exchange)

        def question(scratch: Channel) -> Any:
            # No queue is bound with an empty key. On the publishing connection: whoever publishes is blocked
            # when the broker lacks memory, and the consuming one must not be.
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
        reply = await self._ask(
            self.consuming, lambda scratch: scratch.queue_declare(queue=queue, passive=True)
        )
        return -1 if reply is None else int(reply.consumer_count)

    async def _ask(self, client: Client, question: Callable[[Channel], Any]) -> Any:
        """The reply to a passive declaration, on a channel of its own, as a no closes that; None: not found."""
        scratch = await client.channel_open()
        try:
            reply = await question(scratch)
        except ChannelClosed as error:
            if error.reply_code == 404:
                return None
            raise
        scratch.channel_close().addErrback(lambda _: None)
        return reply


_NOTHING: Final = Properties().encode()


def _passive(exchange: str) -> Callable[[Channel], Any]:
    return lambda scratch: scratch.exchange_declare(exchange=exchange, passive=True)
