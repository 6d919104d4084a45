"""A job's hop, as it travels and as a handler gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from txmicro.errors import DecodeError, TooManyHops, show

from .address import parse
from .messages import LARGEST, check_address, check_worker_id, get, get_job_id, get_number
from .span import Span

LONGEST_TIMEOUT: Final = 10**9
"""Seconds of the longest timeout, as in the configuration. It travels in milliseconds, which must be below 2^53."""


def hop_key(job_id: str, index: int) -> str:
    """Return the key of a hop, by which duplicates are recognized and pending jobs are found."""
    return f"{job_id}/{index}"


def next_key(key: str) -> str:
    """Return the key of the hop after the one of *key*."""
    job_id, _, index = key.rpartition("/")
    return hop_key(job_id, int(index) + 1)


def outcome_body(key: str, worker: str, told: dict[str, Any]) -> dict[str, Any]:
    """Return the body that tells the origin how the hop of *key* ended at *worker*."""
    job_id, _, index = key.rpartition("/")
    return {"id": job_id, "workers_list_id": int(index), "worker": worker, **told}


def is_seconds(value: Any, longest: float) -> bool:
    """Return whether *value* is a number above 0 and at most *longest*; NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= longest


def remaining_ms(deadline: float, now: float) -> int:
    """Return the whole milliseconds from *now* to *deadline*, both in seconds; 0 if it has passed."""
    return max(0, round((deadline - now) * 1000))


@dataclass(slots=True, frozen=True)
class Forward:
    """A handler's answer that sends the job on to another worker, whose answer goes straight to the origin.

    :ivar address: where the next hop goes.
    :ivar data: what the next handler gets as ``job.data``.
    """

    address: str
    data: Any = None


@dataclass(slots=True)
class Job:
    """One hop of a job, which a handler gets.

    :ivar id: the job's id, unique across processes and restarts; the same for every hop.
    :ivar data: what was sent to this hop.
    :ivar workers_list: the routing slip: addresses in the order of visits.
    :ivar workers_list_id: the index of this hop's address in the routing slip.
    :ivar sender: id of the worker that sent this hop.
    :ivar origin: id of the worker that sent the first hop and waits for the result.
    :ivar deadline: when the origin stops waiting, in seconds of the local monotonic clock.
    :ivar tries: how often this hop was sent before; 0: this is the first copy.
    :ivar redelivered: whether the broker delivered this copy before.
    :ivar traceparent: W3C trace context that the job was sent with; with a tracer, that of the handler's span;
        None: there is none.
    :ivar tracestate: what belongs to *traceparent*, passed along with it; None: nothing.
    :ivar durable: whether the broker keeps the job until it is done; otherwise its sender does.
    :ivar redeliver: whether the job may run twice.
    :ivar earlier_run: the trace context of the attempt before, if that is known.
    :ivar span: the span of the handler; None: there is no tracer, or the handler has not started.
    :ivar past: how many hops came before the routing slip: a :class:`Forward` begins a new one.
    :ivar sent: when this hop was first sent, in milliseconds of Unix time; 0: unknown.
    :ivar address: the address of this hop.
    :ivar hop: the number of this hop; 0 is the first.
    :ivar key: the id and the number of the hop, by which duplicates are recognized.
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
    sent: float = 0.0
    tracestate: str | None = None
    earlier_run: str | None = field(default=None, compare=False)
    span: Span | None = field(default=None, compare=False, repr=False)
    address: str = field(init=False)
    hop: int = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.workers_list[self.workers_list_id]
        self.hop = self.past + self.workers_list_id
        self.key = f"{self.id}/{self.hop}"  # hop_key, without the call

    @property
    def last(self) -> bool:
        """True if the routing slip ends with this hop."""
        return self.workers_list_id + 1 >= len(self.workers_list)

    def next(self, address: str | None, data: Any, sender: str) -> Job:
        """Return the hop after this one: to *address*, or (None) to the next address of the routing slip.

        A new slip does not contain the addresses that were visited, so that a job which is forwarded again and again
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
            tracestate=self.tracestate,
        )

    def followed_by(self, result: Any, sender: str, max_hops: int) -> Job | None:
        """Return the hop that follows when the handler has returned *result*; None: there is none.

        Raises :class:`~txmicro.errors.AddressError` if *result* is a :class:`Forward` to an invalid address, and
        :class:`~txmicro.errors.TooManyHops` if the job has made *max_hops* hops.
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
        """Return the body that tells the origin how this hop ended at *worker*."""
        return {"id": self.id, "workers_list_id": self.hop, "worker": worker, **outcome}

    def body(self, now: float) -> dict[str, Any]:
        """Return the body of the hop's message; *now* is the local clock's time.

        The deadline travels as the milliseconds that remain of it, as clocks differ.
        """
        body: dict[str, Any] = {
            "id": self.id,
            "workers_list": self.workers_list,
            "workers_list_id": self.workers_list_id,
            "data": self.data,
            "sender": {"id": self.sender, "type": self.sender.partition(":")[0]},
            "origin": self.origin,
            "tries": self.tries,
            "deadline": max(0, round((self.deadline - now) * 1000)),  # remaining_ms, without the call
        }
        if self.past:
            body["past"] = self.past
        if not self.redeliver:
            body["redeliver"] = False
        if self.sent:
            body["sent"] = self.sent
        return body

    @classmethod
    def from_body(
        cls,
        body: Any,
        now: float,
        *,
        redelivered: bool = False,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Job:
        """Return the hop that a message's *body* describes; *now* is the local clock's time.

        Raises :class:`~txmicro.errors.DecodeError`.
        """
        slip = get(body, "workers_list", list)
        index = get(body, "workers_list_id", int)
        if not 0 <= index < len(slip):
            raise DecodeError(
                f"'workers_list_id' is {show(index)}: expected an index of a list of {len(slip)}"
            )
        for address in slip:
            check_address(address)
        sender = check_worker_id(get(get(body, "sender", dict), "id", str))
        deadline, tries, sent = body.get("deadline"), body.get("tries"), body.get("sent")
        if not (  # as they nearly always are
            type(deadline) is type(tries) is int
            and type(sent) is float
            and 0 <= deadline <= LARGEST
            and 0 <= tries <= LARGEST
            and 0 <= sent <= LARGEST
        ):
            deadline = get_number(body, "deadline", 30_000)
            tries, sent = int(get_number(body, "tries", 0)), get_number(body, "sent", 0)
        return cls(
            get_job_id(body),
            body.get("data"),
            slip,
            index,
            sender,
            check_worker_id(get(body, "origin", str, sender)),
            now + deadline / 1000,
            tries,
            redelivered,
            traceparent,
            redeliver=get(body, "redeliver", bool) if "redeliver" in body else True,
            past=int(get_number(body, "past", 0)) if "past" in body else 0,
            sent=sent,
            tracestate=tracestate,
        )
