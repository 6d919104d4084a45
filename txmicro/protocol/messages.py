"""The shapes on the bus, as value objects: what they hold, and how they stand in a message's body.

Nothing here knows AMQP. ``body()`` gives the dict that a codec encodes; ``from_body()`` takes what a codec
decoded, which may be anything at all, and raises :class:`DecodeError` unless it has the right shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from txmicro.errors import AddressError, DecodeError, TooManyHops, show

from .address import parse, parse_id

JOB: Final = "job"
ACK: Final = "ack"
RESULT: Final = "result"
FAILURE: Final = "failure"
DONE: Final = "done"
CANCEL: Final = "cancel"
PROBE: Final = "probe"
STATUS: Final = "status"
HEARD: Final = "heard"
REFUSED: Final = "refused"
ERROR: Final = "error"
PEERS: Final = "peers"
LIST: Final = "list"
EVENT: Final = "event"

NO_WORKER_TEXT: Final = "No worker available for this job"

LONGEST_TIMEOUT: Final = 10**9
"""Seconds that a deadline may be away: as in the configuration. It travels in ms, which must be below 2^53."""

_MISSING: Final = object()
_JOB_ID: Final = re.compile(r"[!-~]{1,128}")
_LARGEST: Final = 2**53
_LONGEST: Final = 255


def get(body: Any, name: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
    """``body[name]`` if it is there and a *kind*; raises :class:`DecodeError` that says what was expected."""
    if type(body) is dict and type(value := body.get(name)) is kind:  # as it nearly always is
        return value
    if not isinstance(body, dict):
        raise DecodeError(f"expected an object, got {type(body).__name__}")
    value = body.get(name, default)
    if value is _MISSING:
        raise DecodeError(f"{name!r} is missing")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DecodeError(f"{name!r} is {show(value)}, of the wrong type {type(value).__name__}")
    return value


@lru_cache(10_000)  # the same few, with every message
def _worker_id(text: str) -> str:
    try:
        return str(parse_id(text))
    except AddressError as error:
        raise DecodeError(str(error)) from None


def _address(text: Any) -> str:
    try:
        parse(text)
    except AddressError as error:
        raise DecodeError(str(error)) from None
    return str(text)


def get_job_id(body: Any) -> str:
    """The id of the job that *body* is about: it becomes a ``message_id``, and part of keys that are remembered."""
    text: str = get(body, "id", str)
    if not _JOB_ID.fullmatch(text):
        raise DecodeError(f"{show(text)} is no job's id: expected 1 to 128 visible ASCII characters")
    return text


def _number(body: dict[str, Any], name: str, default: int) -> float:
    """A number that can be reckoned with: neither NaN nor beyond what anyone means."""
    value: float = body.get(name, default)
    if type(value) is not int:
        value = get(body, name, (int, float))
    if not 0 <= value <= _LARGEST:
        raise DecodeError(f"{name!r} is {show(value)}, expected a number from 0 to {_LARGEST}")
    return value


def _short(body: Any, name: str) -> str:
    """A text that is kept for as long as its worker is there."""
    text: str = get(body, name, str, "")
    if len(text) > _LONGEST:
        raise DecodeError(f"{name!r} is longer than {_LONGEST} characters")
    return text


def get_keys(body: Any, name: str = "keys") -> list[str]:
    """The list of hops' keys that an ack, done, cancel, probe or status has under *name*."""
    keys: list[Any] = get(body, name, list)
    if not all(isinstance(key, str) for key in keys):
        raise DecodeError(f"{name!r} holds something that is no key")
    return keys


def get_worker(body: Any) -> str:
    """The id of the worker that a control message comes from."""
    return _worker_id(get(body, "worker", str))


def notification_kind(topic: str) -> str:
    """The first two words of a topic: what is counted, as there are as many topics as worker types."""
    return ".".join(topic.split(".", 2)[:2])


def _check_topic(topic: str, kind: str) -> None:
    """Permissions go by topics: who may speak on *topic* may speak of workers of the type that is its last word."""
    if topic.count(".") > 1 and topic.rpartition(".")[2] != kind:
        raise DecodeError(f"a worker of type {kind!r:.100} on the topic {topic!r:.100}")


def hop_key(job_id: str, index: int) -> str:
    """What duplicates and stores go by: the job and its hop."""
    return f"{job_id}/{index}"


def outcome(key: str, worker: str, told: dict[str, Any]) -> dict[str, Any]:
    """What the origin is told of the end, at *worker*, of the hop of *key*."""
    job_id, _, index = key.rpartition("/")
    return {"id": job_id, "workers_list_id": int(index), "worker": worker, **told}


def next_key(key: str) -> str:
    """The key of the hop after the one of *key*."""
    job_id, _, index = key.rpartition("/")
    return hop_key(job_id, int(index) + 1)


@dataclass(slots=True)
class Job:
    """One hop of a job: what a handler gets.

    :ivar id: unique across processes and restarts; the same on every hop.
    :ivar data: what was sent to this hop.
    :ivar workers_list: the routing slip, addresses in the order of visits.
    :ivar workers_list_id: index of the current hop in it.
    :ivar sender: id of the worker that sent this hop.
    :ivar origin: id of the worker that sent the first hop and awaits the result.
    :ivar tries: how often this hop was sent before (0: the first copy).
    :ivar deadline: the instant, in the local monotonic clock's seconds, after which nobody awaits the result.
    :ivar redelivered: the broker says that it delivered this copy before.
    :ivar traceparent: W3C trace context, passed along unchanged; None: there is none.
    :ivar redeliver: whether it may run twice.
    :ivar durable: the broker owns it, not its sender.
    :ivar past: how many hops came before the slip: a :class:`Forward` begins a new one.
    :ivar hop: the number of this hop; 0 is the first.
    :ivar key: what duplicates and stores go by: the id and the number of the hop.
    """

    id: str
    data: Any
    workers_list: list[str]
    workers_list_id: int
    sender: str
    origin: str
    deadline: float
    tries: int = 0
    redelivered: bool = False
    traceparent: str | None = None
    durable: bool = False
    redeliver: bool = True
    past: int = 0
    hop: int = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.hop = self.past + self.workers_list_id
        self.key = hop_key(self.id, self.hop)

    @property
    def address(self) -> str:
        """The address of the current hop."""
        return self.workers_list[self.workers_list_id]

    @property
    def last(self) -> bool:
        """Whether no hop follows this one."""
        return self.workers_list_id + 1 >= len(self.workers_list)

    def next(self, address: str | None, data: Any, sender: str) -> Job:
        """Return the hop after this one: to *address*, or (None) to the next stop of the routing slip.

        What was visited does not travel on when a new slip begins, so a job that is forwarded again and again
        does not grow.
        """
        if address is None:
            slip, index, past = self.workers_list, self.workers_list_id + 1, self.past
        else:
            slip, index, past = [address], 0, self.hop + 1
        return Job(
            self.id,
            data,
            slip,
            index,
            sender,
            self.origin,
            self.deadline,
            traceparent=self.traceparent,
            durable=self.durable,
            redeliver=self.redeliver,
            past=past,
        )

    def followed_by(self, result: Any, sender: str, max_hops: int) -> Job | None:
        """Return the hop that follows when the handler has returned *result*; None: this was the last.

        Raises :class:`AddressError` when it was forwarded to something that is not an address, and
        :class:`TooManyHops` when it has made *max_hops* hops.
        """
        forwarded = isinstance(result, Forward)
        if self.last and not forwarded:
            return None
        if self.hop + 1 >= max_hops:
            raise TooManyHops(
                f"the job has made {self.hop + 1} hops, as many as max_hops allows: its workers may be passing "
                f"it on in a circle, the last one to {result.address if forwarded else 'the next of its slip'}"
            )
        if forwarded:
            return self.next(str(parse(result.address)), result.data, sender)
        return self.next(None, result, sender)

    def outcome(self, worker: str, outcome: dict[str, Any]) -> dict[str, Any]:
        """What the origin is told of this hop's end at *worker*."""
        return {"id": self.id, "workers_list_id": self.hop, "worker": worker, **outcome}

    def body(self, now: float) -> dict[str, Any]:
        """What travels; *now* is the local clock, so that the deadline travels as what remains of it."""
        body: dict[str, Any] = {
            "id": self.id,
            "workers_list": self.workers_list,
            "workers_list_id": self.workers_list_id,
            "data": self.data,
            "sender": {"id": self.sender, "type": self.sender.partition(":")[0]},
            "origin": self.origin,
            "tries": self.tries,
            "deadline": remaining_ms(self.deadline, now),
        }
        if self.past:
            body["past"] = self.past
        if not self.redeliver:
            body["redeliver"] = False
        return body

    @classmethod
    def from_body(
        cls, body: Any, now: float, *, redelivered: bool = False, traceparent: str | None = None
    ) -> Job:
        """Read a job; *now* is the local clock. Raises :class:`DecodeError`."""
        slip = get(body, "workers_list", list)
        index = get(body, "workers_list_id", int)
        if not 0 <= index < len(slip):
            raise DecodeError(f"'workers_list_id' is {show(index)}, outside of a list of {len(slip)}")
        for stop in slip:
            _address(stop)
        sender = _worker_id(get(get(body, "sender", dict), "id", str))
        return cls(
            get_job_id(body),
            body.get("data"),
            slip,
            index,
            sender,
            _worker_id(get(body, "origin", str, sender)),
            now + _number(body, "deadline", 30_000) / 1000,
            int(_number(body, "tries", 0)),
            redelivered,
            traceparent,
            redeliver=get(body, "redeliver", bool) if "redeliver" in body else True,
            past=int(_number(body, "past", 0)) if "past" in body else 0,
        )


def is_seconds(value: Any, longest: float) -> bool:
    """Return whether *value* is a number above 0 and at most *longest*; NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= longest


def remaining_ms(deadline: float, now: float) -> int:
    """What is left of *deadline*, in whole milliseconds, never negative."""
    return max(0, round((deadline - now) * 1000))


JobHandler = Callable[[Job], Any]
"""The type of ``do_job``."""

EventHandler = Callable[[str, Any], Any]
"""The type of an event's handler: it is called with the topic and the data."""


@dataclass(slots=True, frozen=True)
class Forward:
    """A handler's answer: another worker goes on with the job, and its answer goes straight to the origin."""

    address: str
    data: Any = None


@dataclass(slots=True, frozen=True)
class Announcement:
    """A worker's description of itself.

    :ivar started: Unix time of its creation, in milliseconds.
    :ivar capacity: how many jobs it runs at once.
    :ivar metrics: address of its metrics page, ``host:port``; empty: none.
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
        """What travels."""
        return {name: getattr(self, name) for name in self.__slots__}

    def is_another_than(self, other: Announcement) -> bool:
        """Return whether this one of the same id is of another process; one that says nothing of itself is not."""
        mine, theirs = ((each.started, each.host, each.pid) for each in (self, other))
        return bool(self.started) and mine != theirs

    @classmethod
    def from_body(cls, body: Any, topic: str = "") -> Announcement:
        """Read an announcement, which came on *topic* if it came on any.

        Only ``id`` and ``type`` are needed, as MicroServices.js sends no more. Raises :class:`DecodeError`.
        """
        name, kind = _worker_id(get(body, "id", str)), get(body, "type", str)
        if name.partition(":")[0] != kind:
            raise DecodeError(f"worker {name!r} says that its type is {kind!r:.100}")
        _check_topic(topic, kind)
        return cls(
            name,
            kind,
            _short(body, "host"),
            int(_number(body, "pid", 0)),
            _short(body, "version"),
            int(_number(body, "capacity", 0)),
            _short(body, "metrics"),
            int(_number(body, "started", 0)),
        )


@dataclass(slots=True, frozen=True)
class Deletion:
    """A worker has gone, by its own word or (``reason``) by a SystemManager's."""

    id: str
    type: str
    reason: str = ""

    def body(self) -> dict[str, Any]:
        """What travels."""
        return {"id": self.id, "type": self.type, "reason": self.reason}

    @classmethod
    def from_body(cls, body: Any, topic: str = "") -> Deletion:
        """Read a deletion, which came on *topic* if it came on any; raises :class:`DecodeError`."""
        name = _worker_id(get(body, "id", str))
        kind = name.partition(":")[0]
        _check_topic(topic, kind)
        return cls(name, kind, _short(body, "reason"))


@dataclass(slots=True, frozen=True)
class Inquiry:
    """A sender asks whether anyone can take jobs for ``address``."""

    address: str
    sender: str

    def body(self) -> dict[str, Any]:
        """What travels."""
        return {"address": self.address, "sender": self.sender}

    @classmethod
    def from_body(cls, body: Any) -> Inquiry:
        """Read an inquiry; raises :class:`DecodeError`."""
        return cls(_address(get(body, "address", str)), _worker_id(get(body, "sender", str)))
