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
    """What a returned message is recognized by; everything else of it a broker may have changed.

    :ivar destination: its exchange and routing key, as :meth:`Channel.publisher` encodes them.
    :ivar message_id: its property; empty: it has none.
    """

    destination: bytes
    message_id: str


class _Publication:
    __slots__ = ("confirmed", "identity", "number", "told")

    def __init__(self, number: int, identity: Identity) -> None:
        self.number = number
        self.identity = identity
        self.confirmed: Deferred[None] = Deferred()
        self.told = False

    def succeed(self) -> None:
        if not self.told:
            self.told = True
            self.confirmed.callback(None)

    def fail(self, reason: TxmicroError) -> None:
        if not self.told:
            self.told = True
            self.confirmed.errback(reason)


class Confirms:
    """The unconfirmed messages of one channel in confirm mode.

    A broker returns a message before it confirms it, without its number. So the message is looked for among the
    unconfirmed ones, by its :class:`Identity`. Where several may be meant, none of them counts as stored: which one
    was is not known, and to publish all again loses nothing.
    """

    def __init__(self) -> None:
        self._count = 0
        self._open: OrderedDict[int, _Publication] = OrderedDict()
        self._by_identity: dict[Identity, list[_Publication]] = {}  # without those that were returned

    def skip(self) -> None:
        """Count a message that nobody waits for: the broker numbers it all the same."""
        self._count += 1

    def published(self, identity: Identity) -> Deferred[None]:
        """Note a published message; see :meth:`Channel.publish_confirmed` for what the Deferred does."""
        self._count += 1
        publication = self._open[self._count] = _Publication(self._count, identity)
        self._by_identity.setdefault(identity, []).append(publication)
        return publication.confirmed

    def acked(self, number: int, multiple: bool) -> None:
        """Note that the broker has the message *number*; with *multiple*, and all before it."""
        for publication in self._settle(number, multiple):
            publication.succeed()

    def nacked(self, number: int, multiple: bool) -> None:
        """Note that the broker has refused the message *number*; with *multiple*, and all before it."""
        for publication in self._settle(number, multiple):
            publication.fail(NackError("the broker refused the message"))

    def returned(self, identity: Identity, error: TxmicroError) -> bool:
        """Note that the broker sent a message back; return False where nobody waits for any.

        Its confirm, which is still to come, counts for nothing then.
        """
        meant = self._meant(identity)
        if len(meant) == 1:
            self._forget(meant[0])
            meant[0].fail(error)
        for publication in meant:
            publication.fail(
                ReturnUnclear(f"{error}: one of {len(meant)} messages, all of which may be meant")
            )
        return bool(meant)

    def lost(self, reason: TxmicroError) -> None:
        """The channel is closed: what became of the messages that are still open is not known."""
        publications = list(self._open.values())
        self._open.clear()
        self._by_identity.clear()
        for publication in publications:
            publication.fail(reason)

    def _meant(self, identity: Identity) -> list[_Publication]:
        """The unconfirmed messages that may be the one of *identity*: the more alike, the likelier.

        Also those that have failed since they may have been another one: until the broker confirms them they may be
        returned themselves.
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
        alike = self._by_identity.get(publication.identity, [])
        if publication in alike:
            alike.remove(publication)
            if not alike:
                del self._by_identity[publication.identity]
