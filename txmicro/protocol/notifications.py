"""Notifications of workers and SystemManagers to all others: announcements, deletions, inquiries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from txmicro.errors import DecodeError

from .messages import check_address, check_worker_id, get, get_number, get_short_text

LEVELS: Final = "monitor.levels"
"""The topic of a :class:`LevelChange`."""


def notification_kind(topic: str) -> str:
    """Return the first two words of *topic*, for metrics: there are as many topics as worker types."""
    return ".".join(topic.split(".", 2)[:2])


def _check_topic(topic: str, kind: str) -> None:
    """Raise DecodeError if *topic* ends with another worker type than *kind*.

    A user who may publish on a type's topics must not be able to speak for workers of another type.
    """
    if topic.count(".") > 1 and topic.rpartition(".")[2] != kind:
        raise DecodeError(f"a worker of type {kind!r:.100} on the topic {topic!r:.100}")


@dataclass(slots=True, frozen=True)
class Announcement:
    """A worker, as it announces itself.

    :ivar host: the name of its machine. :ivar pid: the id of its process.
    :ivar version: its version of txmicro.
    :ivar capacity: how many jobs it runs at once.
    :ivar metrics: the address of its metrics page, ``host:port``; empty: there is none.
    :ivar started: when it was started, in milliseconds of Unix time.
    """

    id: str
    type: str
    host: str = ""
    pid: int = 0
    version: str = ""
    capacity: int = 0
    metrics: str = ""
    started: int = 0

    def body(self) -> dict[str, Any]:
        """Return the message's body."""
        return {name: getattr(self, name) for name in self.__slots__}

    def is_another_than(self, other: Announcement) -> bool:
        """Return whether this one comes from another process than *other*, which has the same id.

        False if this one does not say when the worker was started, as of MicroServices.js.
        """
        mine, theirs = ((each.started, each.host, each.pid) for each in (self, other))
        return bool(self.started) and mine != theirs

    @classmethod
    def from_body(cls, body: Any, topic: str = "") -> Announcement:
        """Return the announcement in *body*, which came on *topic* if that is not empty.

        Only ``id`` and ``type`` are required: MicroServices.js sends no more. Raises
        :class:`~txmicro.errors.DecodeError`.
        """
        worker, kind = check_worker_id(get(body, "id", str)), get(body, "type", str)
        if worker.partition(":")[0] != kind:
            raise DecodeError(f"worker {worker!r} says that its type is {kind!r:.100}")
        _check_topic(topic, kind)
        return cls(
            worker,
            kind,
            get_short_text(body, "host"),
            int(get_number(body, "pid", 0)),
            get_short_text(body, "version"),
            int(get_number(body, "capacity", 0)),
            get_short_text(body, "metrics"),
            int(get_number(body, "started", 0)),
        )


@dataclass(slots=True, frozen=True)
class Deletion:
    """A worker has left the bus.

    :ivar reason: why a SystemManager says so; empty: the worker says so itself.
    """

    id: str
    type: str
    reason: str = ""

    def body(self) -> dict[str, Any]:
        """Return the message's body."""
        return {"id": self.id, "type": self.type, "reason": self.reason}

    @classmethod
    def from_body(cls, body: Any, topic: str = "") -> Deletion:
        """Return the deletion in *body*, which came on *topic* if that is not empty.

        Raises :class:`~txmicro.errors.DecodeError`.
        """
        worker = check_worker_id(get(body, "id", str))
        kind = worker.partition(":")[0]
        _check_topic(topic, kind)
        return cls(worker, kind, get_short_text(body, "reason"))


@dataclass(slots=True, frozen=True)
class LevelChange:
    """A SystemManager sets the level of a component of the log, in all processes or in those with a worker of a type.

    :ivar component: a worker type or a logger's name; ``*``: all lines. :ivar level: empty: the configured one again.
    :ivar type: empty: all processes.
    """

    component: str
    level: str
    type: str = ""

    def body(self) -> dict[str, Any]:
        """Return the message's body."""
        return {"component": self.component, "level": self.level, "type": self.type}

    @classmethod
    def from_body(cls, body: Any) -> LevelChange:
        """Return the change in *body*. Raises :class:`~txmicro.errors.DecodeError`."""
        component, level, kind = (get(body, name, str) for name in ("component", "level", "type"))
        return cls(component, level, kind)


@dataclass(slots=True, frozen=True)
class Inquiry:
    """A sender asks whether a worker runs jobs for ``address``."""

    address: str
    sender: str

    def body(self) -> dict[str, Any]:
        """Return the message's body."""
        return {"address": self.address, "sender": self.sender}

    @classmethod
    def from_body(cls, body: Any) -> Inquiry:
        """Return the inquiry in *body*. Raises :class:`~txmicro.errors.DecodeError`."""
        return cls(check_address(get(body, "address", str)), check_worker_id(get(body, "sender", str)))
