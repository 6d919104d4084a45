"""Messages that a broker may refuse for their size.

RabbitMQ closes the channel on which a message over its ``max_message_size`` is published, and drops what was
published after it. So large messages have a channel of their own, and those that are dropped are published again.
The broker's limit is unknown until it has refused a message; the refusal names it.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred, succeed

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import ChannelClosed, SizeRefused
from txmicro.errors import MessageTooLarge
from txmicro.util.once import Once

LARGE: Final = 1024 * 1024
"""Bytes of a body above which a message is large: few messages are, and hardly a broker has a lower limit."""


class SizeLimit:
    """The largest message: as configured, or the broker's limit if that is lower.

    :param configured: ``max_message``, in bytes.
    :ivar ordinary: bytes of the largest body that is published on the ordinary channel.
    """

    def __init__(self, configured: int) -> None:
        self._configured = self._largest = configured
        self.forget()

    def check(self, size: int) -> None:
        """Raise :class:`MessageTooLarge` for a body of *size* bytes that is too large."""
        if size > self._configured:
            raise MessageTooLarge(f"the message has {size} bytes, max_message allows {self._configured}")
        if size > self._largest:
            raise MessageTooLarge(
                f"the message has {size} bytes, the broker accepts {self._largest}: "
                "raise the broker's max_message_size, or send less"
            )

    def learn(self, reason: BaseException) -> bool:
        """Remember the broker's limit if *reason* names it; return whether it does."""
        if not isinstance(reason, SizeRefused):
            return False
        self._largest = min(self._largest, reason.limit)
        self.ordinary = min(LARGE, self._largest)
        return True

    def forget(self) -> None:
        """Forget the broker's limit: the next broker may have a higher one."""
        self._largest = self._configured
        self.ordinary = min(LARGE, self._largest)


class LargeMessages:
    """Publishes large messages, on a channel that is opened for the first one.

    :param client: the connection that publishes.
    """

    def __init__(self, client: Connection, limit: SizeLimit) -> None:
        self._client = client
        self._limit = limit
        self._opened: Once[Channel] | None = None

    def publish(
        self,
        exchange: str,
        key: str,
        properties: bytes,
        body: bytes,
        message_id: str,
        mandatory: bool = True,
    ) -> Deferred[None]:
        """Publish a message on an exchange that exists, in confirm mode.

        :param message_id: the one in *properties*.

        Fires with None when the broker has confirmed it. Fails with :class:`MessageTooLarge`, and otherwise as
        :meth:`~txmicro.amqp.connection.Channel.publish_confirmed` does. Canceling it stops the wait.
        """
        return Deferred.fromCoroutine(self._publish(exchange, key, mandatory, properties, body, message_id))

    def written(self) -> Deferred[None]:
        """Fires when all that was published until now is written to the connection; does not fail."""
        if self._opened is None:
            return succeed(None)
        return self._opened.wait().addBoth(lambda _: None)

    async def _publish(
        self, exchange: str, key: str, mandatory: bool, properties: bytes, body: bytes, message_id: str
    ) -> None:
        while True:
            self._limit.check(len(body))
            opened = self._opened or self._open()
            channel = await opened.wait()
            prefix = channel.publisher(exchange, key, mandatory)
            try:
                return await channel.publish_confirmed(prefix, properties, body, message_id)
            except ChannelClosed as error:
                self._forget(opened)
                if not self._limit.learn(error):
                    raise
            # This one was too large, or another one on the channel.

    def _open(self) -> Once[Channel]:
        opened = self._opened = Once()
        Deferred.fromCoroutine(self._open_one(opened)).addBoth(opened.happen)
        return opened

    async def _open_one(self, opened: Once[Channel]) -> Channel:
        try:
            channel = await self._client.channel_open()
            await channel.confirm_select()
        except BaseException:
            self._forget(opened)
            raise
        return channel

    def _forget(self, opened: Once[Channel]) -> None:
        if self._opened is opened:
            self._opened = None
