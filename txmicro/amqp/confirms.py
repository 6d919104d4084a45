"""Publisher confirms: which messages the broker has taken responsibility for. No I/O.

Protocol: https://www.rabbitmq.com/docs/confirms#publisher-confirms.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from twisted.internet.defer import Deferred

from txmicro.errors import TxmicroError

from .errors import NackError


class _Publication:
    __slots__ = ("confirmed", "key", "number")

    def __init__(self, number: int, key: tuple[bytes, bytes]) -> None:
        self.number = number
        self.key = key
        self.confirmed: Deferred[None] = Deferred()


class Confirms:
    """The unconfirmed messages of one channel in confirm mode.

    A returned message carries no number, so it is known by its key: its method and its encoded properties.
    Among those of the same key the oldest is meant: a broker returns messages in the order of publishing.
    """

    def __init__(self) -> None:
        self._count = 0
        self._open: OrderedDict[int, _Publication] = OrderedDict()
        self._by_key: dict[tuple[bytes, bytes], deque[_Publication]] = {}

    def skip(self) -> None:
        """A message that nobody waits for was published: the broker numbers it all the same."""
        self._count += 1

    def published(self, key: tuple[bytes, bytes]) -> Deferred[None]:
        """A message was published; see :meth:`Channel.publish_confirmed` for what the Deferred does."""
        self._count += 1
        publication = self._open[self._count] = _Publication(self._count, key)
        self._by_key.setdefault(key, deque()).append(publication)
        return publication.confirmed

    def acked(self, number: int, multiple: bool) -> None:
        """The broker has the message *number*; with *multiple*, and all before it."""
        for publication in self._settle(number, multiple):
            publication.confirmed.callback(None)

    def nacked(self, number: int, multiple: bool) -> None:
        """The broker has refused the message *number*; with *multiple*, and all before it."""
        for publication in self._settle(number, multiple):
            publication.confirmed.errback(NackError("the broker refused the message"))

    def returned(self, key: tuple[bytes, bytes], error: TxmicroError) -> bool:
        """The broker sent a message back; False: nobody waits for it. Its confirm, still to come, is moot."""
        if key not in self._by_key:
            return False
        publication = self._by_key[key][0]
        del self._open[publication.number]
        self._forget(publication)
        publication.confirmed.errback(error)
        return True

    def lost(self, reason: TxmicroError) -> None:
        """The channel is gone: nobody will know about the messages that are still open."""
        publications = list(self._open.values())
        self._open.clear()
        self._by_key.clear()
        for publication in publications:
            publication.confirmed.errback(reason)

    def _settle(self, number: int, multiple: bool) -> list[_Publication]:
        settled = []
        if multiple:
            while self._open and next(iter(self._open)) <= number:
                settled.append(self._open.popitem(last=False)[1])
        elif number in self._open:
            settled.append(self._open.pop(number))
        for publication in settled:
            self._forget(publication)
        return settled

    def _forget(self, publication: _Publication) -> None:
        alike = self._by_key[publication.key]
        alike.remove(publication)
        if not alike:
            del self._by_key[publication.key]
