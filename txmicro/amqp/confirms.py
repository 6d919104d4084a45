"""Publisher confirms: which messages the broker has taken responsibility for. No I/O.

Protocol: https://www.rabbitmq.com/docs/confirms#publisher-confirms.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from txmicro.errors import TxmicroError

from .errors import NackError, ReturnUnclear


class Identity(NamedTuple):
    """The parts of a message by which it is recognized when the broker returns it.

    The broker may have changed everything else.

    :ivar destination: the exchange and routing key, as :meth:`Channel.publisher` encodes them.
    :ivar message_id: the property; empty: the message has none.
    """

    destination: bytes
    message_id: str


class _Publication:
    __slots__ = ("confirmed", "identity", "number", "settled")

    def __init__(self, number: int, identity: Identity) -> None:
        self.number = number
        self.identity = identity
        self.confirmed: Deferred[None] = Deferred()
        self.settled = False

    def succeed(self) -> None:
        if not self.settled:
            self.settled = True
            self.confirmed.callback(None)

    def fail(self, reason: TxmicroError) -> None:
        if not self.settled:
            self.settled = True
            self.confirmed.errback(reason)


class Confirms:
    """The unconfirmed messages of one channel in confirm mode.

    A broker returns a message before it confirms it, and without its number. So the returned message is looked up
    among the unconfirmed ones by its :class:`Identity`. When several match, it is not known which of them is stored.
    Then none of them counts as stored, because publishing all of them again loses nothing.
    """

    def __init__(self) -> None:
        self._count = 0
        self._open: OrderedDict[int, _Publication] = OrderedDict()
        self._by_identity: dict[
            Identity, list[_Publication]
        ] = {}  # without those that are known to be returned

    def skip(self) -> None:
        """Count a message whose confirm nobody waits for: the broker numbers it, too."""
        self._count += 1

    def published(self, identity: Identity) -> Deferred[None]:
        """Note a published message; :meth:`Channel.publish_confirmed` describes the Deferred."""
        self._count += 1
        publication = self._open[self._count] = _Publication(self._count, identity)
        self._by_identity.setdefault(identity, []).append(publication)
        return publication.confirmed

    def acked(self, number: int, multiple: bool) -> None:
        """Note that the broker has the message *number*, and with *multiple* all messages before it."""
        for publication in self._settle(number, multiple):
            publication.succeed()

    def nacked(self, number: int, multiple: bool) -> None:
        """Note that the broker refused the message *number*, and with *multiple* all messages before it."""
        for publication in self._settle(number, multiple):
            publication.fail(NackError("the broker refused to keep the message"))

    def returned(self, identity: Identity, error: TxmicroError) -> bool:
        """Note that the broker returned a message; return False when no message is unconfirmed.

        The confirm of the message, which follows, is ignored.
        """
        candidates = self._candidates(identity)
        if len(candidates) == 1:
            self._forget(candidates[0])
            candidates[0].fail(error)
        for publication in candidates:
            publication.fail(
                ReturnUnclear(
                    f"{error}: this is one of {len(candidates)} messages, and it is not known which"
                )
            )
        return bool(candidates)

    def lost(self, reason: TxmicroError) -> None:
        """Fail all unconfirmed messages: the channel is closed, so it is not known whether the broker has them."""
        publications = list(self._open.values())
        self._open.clear()
        self._by_identity.clear()
        for publication in publications:
            publication.fail(reason)

    def _candidates(self, identity: Identity) -> list[_Publication]:
        """Return the unconfirmed messages that match *identity* best: fully, by destination, or all.

        This includes messages that have failed with :class:`ReturnUnclear`. Until the broker confirms them, they may
        be returned themselves.
        """
        return (
            list(self._by_identity.get(identity, ()))
            or self._where(known for known in self._by_identity if known.destination == identity.destination)
            or self._where(self._by_identity)
        )

    def _where(self, identities: Iterable[Identity]) -> list[_Publication]:
        return [publication for identity in identities for publication in self._by_identity[identity]]

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
        same = self._by_identity.get(publication.identity, [])
        if publication in same:
            same.remove(publication)
            if not same:
                del self._by_identity[publication.identity]
