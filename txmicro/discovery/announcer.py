"""Announces a worker to the others, keeps the list of its peers, and asks for the list of all workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txmicro.bus.publisher import Publisher
from txmicro.protocol import messages
from txmicro.protocol.notifications import LEVELS, Announcement, Deletion
from txmicro.util.clock import Clock

from .registry import Registry


class Announcer:
    """Announces one worker; see the module.

    :param me: returns the worker's announcement; called for each one that is sent.
    :param yields: disconnects this worker because another one has its id, or returns False.
    :ivar peers: the known workers of its type, itself included.
    """

    log = Logger()

    def __init__(
        self, clock: Clock, publisher: Publisher, me: Callable[[], Announcement], yields: Callable[[], bool]
    ) -> None:
        self._yields = yields
        self._publisher = publisher
        self._me = me
        self.id, self.type = me().id, me().type
        self._announced = False
        self._askers: list[Deferred[list[dict[str, Any]]]] = []
        self.peers = Registry(clock)
        self.peers.add(me())

    @staticmethod
    def topics(kind: str) -> tuple[str, ...]:
        """Return the topics of the notifications for a worker of type *kind*."""
        return ("worker.getAll", f"worker.new.{kind}", "worker.del", f"worker.del.{kind}", LEVELS)

    @property
    def leads(self) -> bool:
        """True if it is the oldest known worker of its type."""
        eldest = self.peers.eldest(self.type)
        return eldest is not None and eldest.id == self.id

    def enter(self) -> None:
        """Announce the worker, now and after each :meth:`remind`."""
        self._announced = True
        self.remind()

    def remind(self) -> None:
        """Announce the worker again, if it has been announced: others may have removed it from their lists."""
        if self._announced:
            self._announce(f"worker.new.{self.type}")

    def leave(self) -> None:
        """Announce that the worker stops, if it has been announced."""
        if not self._announced:
            return
        self._announced = False
        self._publisher.notify(f"worker.del.{self.type}", Deletion(self.id, self.type, "stopped").body())

    def _announce(self, topic: str) -> None:
        self._publisher.notify(topic, self._me().body())

    def list_workers(self) -> Deferred[list[dict[str, Any]]]:
        """Ask the SystemManagers for the list of workers.

        Fires with the first answer; never fails. Canceling it stops the wait.
        """
        asker: Deferred[list[dict[str, Any]]] = Deferred(self._askers.remove)
        self._askers.append(asker)
        self._publisher.notify("worker.list", {"sender": {"id": self.id, "type": self.type}})
        return asker

    # Messages

    def told_list(self, body: Any) -> None:
        """Handle a SystemManager's list of workers."""
        workers = messages.get(body, "workers", list)
        askers, self._askers = self._askers, []
        for asker in askers:
            asker.callback(workers)

    def told_peers(self, body: Any) -> None:
        """Handle the list of peers that the oldest peer sends to a new worker."""
        for peer in messages.get(body, "peers", list):
            self.peers.add(Announcement.from_body(peer))

    def notified(self, topic: str, body: Any) -> None:
        """Handle a notification."""
        if topic == "worker.getAll":
            if self._announced:
                self._announce(f"worker.new.resend.{self.type}")
        elif topic.startswith("worker.new."):
            self._joined(Announcement.from_body(body, topic))
        else:
            self._left(Deletion.from_body(body, topic))

    def _joined(self, peer: Announcement) -> None:
        if peer.id == self.id and peer.is_another_than(self._me()):
            self._met_duplicate()
            return
        led = self.leads
        if self.peers.add(peer) and led:
            peers = [known.body() for known in self.peers.of_type(self.type) if known.id != peer.id]
            self._publisher.reply(peer.id, messages.PEERS, "", self._publisher.encode({"peers": peers}))

    def _met_duplicate(self) -> None:
        """Handle another worker with this id: one of the two yields, when it hears the other's announcement."""
        if self._announced and not self._yields():
            self.remind()

    def _left(self, deletion: Deletion) -> None:
        if deletion.id != self.id:
            self.peers.remove(deletion.id)
        elif self._announced:
            self.log.warn(
                "{worker} was removed from the list of workers, but is running; it is announced again",
                worker=self.id,
            )
            self.remind()
