"""A worker among the others on the bus: it announces itself, knows its peers, and asks who is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txmicro.bus.publisher import Publisher
from txmicro.protocol import messages
from txmicro.protocol.notifications import Announcement, Deletion
from txmicro.util.clock import Clock

from .registry import Registry


class Membership:
    """See the module.

    :param me: what the worker says of itself; asked anew for every announcement.
    :param yields: leaves the bus to another worker of this id, or returns that it does not.
    :ivar peers: the workers of its type, as far as they are known here, it included.
    """

    log = Logger()

    def __init__(
        self, clock: Clock, post: Publisher, me: Callable[[], Announcement], yields: Callable[[], bool]
    ) -> None:
        self._yields = yields
        self._post = post
        self._me = me
        self.id, self.type = me().id, me().type
        self._announced = False
        self._askers: list[Deferred[list[dict[str, Any]]]] = []
        self.peers = Registry(clock)
        self.peers.heard(me())

    @staticmethod
    def topics(kind: str) -> tuple[str, ...]:
        """The notifications that a worker of type *kind* hears."""
        return ("worker.getAll", f"worker.new.{kind}", "worker.del", f"worker.del.{kind}")

    @property
    def leads(self) -> bool:
        """Whether it is the eldest of its type, as far as is known here."""
        eldest = self.peers.eldest(self.type)
        return eldest is not None and eldest.id == self.id

    def enter(self) -> None:
        """Say that it is there, now and whenever it may have been forgotten."""
        self._announced = True
        self.remind()

    def remind(self) -> None:
        """Its place on the bus was built again: say once more that it is there."""
        if self._announced:
            self._say(f"worker.new.{self.type}")

    def leave(self) -> None:
        """Say that it goes, if it has said that it is there."""
        if not self._announced:
            return
        self._announced = False
        self._post.notify(f"worker.del.{self.type}", Deletion(self.id, self.type, "stopped").body())

    def _say(self, topic: str) -> None:
        self._post.notify(topic, self._me().body())

    def list_workers(self) -> Deferred[list[dict[str, Any]]]:
        """Ask the SystemManagers who is on the bus; the first answer counts. Cancelling it stops the wait."""
        asker: Deferred[list[dict[str, Any]]] = Deferred(self._askers.remove)
        self._askers.append(asker)
        self._post.notify("worker.list", {"sender": {"id": self.id, "type": self.type}})
        return asker

    # What it hears

    def told_list(self, body: Any) -> None:
        """A SystemManager's answer."""
        workers = messages.get(body, "workers", list)
        askers, self._askers = self._askers, []
        for asker in askers:
            asker.callback(workers)

    def told_peers(self, body: Any) -> None:
        """The eldest peer's word to a newcomer."""
        for peer in messages.get(body, "peers", list):
            self.peers.heard(Announcement.from_body(peer))

    def notified(self, topic: str, body: Any) -> None:
        """A notification."""
        if topic == "worker.getAll":
            if self._announced:
                self._say(f"worker.new.resend.{self.type}")
        elif topic.startswith("worker.new."):
            self._met(Announcement.from_body(body, topic))
        else:
            self._parted(Deletion.from_body(body, topic))

    def _met(self, peer: Announcement) -> None:
        if peer.id == self.id and peer.is_another_than(self._me()):
            self._met_rival()
            return
        led = self.leads
        if self.peers.heard(peer) and led:
            peers = [known.body() for known in self.peers.of_type(self.type) if known.id != peer.id]
            self._post.reply(peer.id, messages.PEERS, "", self._post.encode({"peers": peers}))

    def _met_rival(self) -> None:
        """Another worker has this id: one yields, and the other says that it is there, so that the one does."""
        if self._announced and not self._yields():
            self.remind()

    def _parted(self, deletion: Deletion) -> None:
        if deletion.id != self.id:
            self.peers.deleted(deletion.id)
        elif self._announced:
            self.log.warn("{worker} was declared gone, and says that it is not", worker=self.id)
            self.remind()
