"""One dead letter: a durable job whose attempts have all failed, or that could not be run.

Any program may have put anything into the message: reading it never fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from txmicro.amqp.properties import Properties
from txmicro.errors import DecodeError
from txmicro.protocol import durable_headers
from txmicro.protocol.codec.formats import by_content_type
from txmicro.protocol.failures import from_header
from txmicro.protocol.job import Job
from txmicro.protocol.trace_headers import TRACEPARENT, TRACESTATE

SUMMARY_TEXT: Final = 1000
"""The most characters of a text in a summary."""

READ_MAX: Final = 1 << 20
"""Bytes of the largest body that is decoded for the address in it."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class Failed(NamedTuple):
    """The last failure of a dead letter's job.

    :ivar type: the error's type. :ivar worker: the worker's id; None: unknown.
    """

    type: str
    message: str
    worker: str | None


class LetterRow(NamedTuple):
    """A dead letter in a list. Its texts are cut.

    :ivar key: the hop's key. :ivar job: the job's id. :ivar address: the hop's address; empty: unknown.
    :ivar error: the type of the last failure; empty: there was none.
    :ivar attempts: the number of the last attempt.
    :ivar stored: when the job was sent first, in Unix seconds; None: unknown.
    :ivar died: when it failed last, or else became a dead letter, in Unix seconds; None: unknown.
    :ivar size: bytes of the body.
    """

    key: str
    job: str
    address: str
    reason: str
    error: str
    message: str
    attempts: int
    stored: float | None
    died: float | None
    size: int


class DeadLetter:
    """A message of a dead-letter queue.

    :ivar id: the hop's key; for a message without one, a digest of its body.
    :ivar job: the id of the job that the hop belongs to.
    :ivar identity: equal for copies of one letter. An unreadable letter's key may be another letter's, so its identity
        includes a digest of the body.
    """

    __slots__ = ("body", "headers", "id", "identity", "job", "properties", "tag")

    def __init__(self, tag: int, properties: Properties, body: bytes) -> None:
        self.tag = tag
        self.properties = properties
        self.headers = properties.headers or {}
        self.body = body
        digest = f"sha256:{sha256(body).hexdigest()[:16]}"
        self.id = properties.message_id or digest
        self.job = self.id.rpartition("/")[0] or self.id
        self.identity = f"{self.id} {digest}" if self.reason == durable_headers.UNREADABLE else self.id

    @property
    def address(self) -> str:
        """The address of the hop; empty: the body is large, or cannot be read."""
        if len(self.body) > READ_MAX:
            return ""
        try:
            body = by_content_type(self.properties.content_type or "").decode(self.body)
            return Job.from_body(body, 0.0).address
        except DecodeError:
            return ""

    @property
    def failure(self) -> Failed | None:
        """The last failure of a handler; None: there was none, or it is unknown. Its texts are cut."""
        if durable_headers.FAILURE not in self.headers:
            return None
        error = from_header(self.headers[durable_headers.FAILURE])
        worker = error.worker and error.worker[:SUMMARY_TEXT]
        return Failed(error.type[:SUMMARY_TEXT], error.message[:SUMMARY_TEXT], worker)

    @property
    def stored(self) -> datetime | None:
        """When the job was sent for the first time; None: unknown."""
        return _moment(durable_headers.number(self.headers, durable_headers.STORED, 0) / 1000)

    @property
    def failed(self) -> datetime | None:
        """When the job failed last, or else became a dead letter; None: unknown."""
        failed = durable_headers.number(self.headers, durable_headers.FAILED, 0) / 1000
        return _moment(failed) or _moment(self._death.get("time")) or _moment(self.properties.timestamp)

    @property
    def attempt(self) -> int:
        """The number of the last attempt; the first is 1."""
        return max(1, durable_headers.number(self.headers, durable_headers.ATTEMPT, 1))

    @property
    def reason(self) -> str:
        """Why the job became a dead letter, as the worker or the broker (``x-death``) wrote it."""
        reason = self.headers.get(durable_headers.REASON, self._death.get("reason"))
        return reason if isinstance(reason, str) else "unknown"

    @property
    def _death(self) -> dict[str, Any]:
        deaths = self.headers.get("x-death")
        latest = deaths[0] if isinstance(deaths, list) and deaths else None
        return latest if isinstance(latest, dict) else {}

    def summary(self) -> dict[str, Any]:
        """Return what a listing shows, as JSON values.

        Long texts are cut. ``failure`` is None if no handler has failed.
        """
        failure = self.failure
        return {
            "id": self.id,
            "stored": _rfc3339(self.stored),
            "failed": _rfc3339(self.failed),
            "attempt": self.attempt,
            "reason": self.reason,
            "failure": failure and failure._asdict(),
        }

    def row(self) -> LetterRow:
        """Return the letter's row in a list."""
        failure = self.failure
        return LetterRow(
            key=self.id[:SUMMARY_TEXT],
            job=self.job[:SUMMARY_TEXT],
            address=self.address,
            reason=self.reason[:SUMMARY_TEXT],
            error=failure.type if failure else "",
            message=failure.message if failure else "",
            attempts=self.attempt,
            stored=_timestamp(self.stored),
            died=_timestamp(self.failed),
            size=len(self.body),
        )

    def contents(self) -> dict[str, Any]:
        """Return the summary, all headers and the decoded ``body``.

        A body that cannot be decoded is returned as ``hex``, with the error as ``unreadable``.
        """
        content_type = self.properties.content_type
        whole = {**self.summary(), "headers": self.headers, "content_type": content_type}
        try:
            return {**whole, "body": by_content_type(content_type or "").decode(self.body)}
        except DecodeError as error:
            return {**whole, "unreadable": str(error), "hex": self.body.hex()}

    def expired(self, now_ms: int) -> bool:
        """Return whether the job must not be started any more at *now_ms*, Unix time in milliseconds."""
        expires = durable_headers.number(self.headers, durable_headers.EXPIRES, 0)
        return 0 < expires <= now_ms

    def is_newer_than(self, copy: DeadLetter) -> bool:
        """Return whether this letter failed later than its *copy*."""
        return (self.failed or _EPOCH) > (copy.failed or _EPOCH)

    def again(self, now_ms: int, run_ms: int) -> bytes:
        """Return the encoded properties with which the job is published again, for its first attempt.

        The headers of other programs are left out: ``CC``, for example, would route the message to more queues.

        :param now_ms: Unix time in milliseconds. :param run_ms: the same, when the command began.
        """
        kept = {name: value for name, value in self.headers.items() if _is_own(name)}
        kept.pop(durable_headers.REASON, None)
        expires = durable_headers.number(kept, durable_headers.EXPIRES, 0)
        old = self.properties
        return Properties(
            content_type=old.content_type,
            headers={**kept, durable_headers.ATTEMPT: 1, durable_headers.REQUEUED: run_ms},
            delivery_mode=2,
            reply_to=old.reply_to,
            expiration=str(min(expires - now_ms, durable_headers.LONGEST_TTL)) if expires else None,
            message_id=old.message_id,
            timestamp=now_ms // 1000,
            message_type=old.message_type,
            app_id=old.app_id,
        ).encode()


def keep_newest(letters: dict[str, DeadLetter], letter: DeadLetter) -> None:
    """Put *letter* into *letters*, by identity, unless a newer copy of it is there."""
    known = letters.get(letter.identity)
    if known is None or letter.is_newer_than(known):
        letters[letter.identity] = letter


def group_copies(letters: Iterable[DeadLetter]) -> Iterable[list[DeadLetter]]:
    """Return *letters*, with the copies of one letter in one list."""
    groups: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault(letter.identity, []).append(letter)
    return groups.values()


def _is_own(header: str) -> bool:
    return header.startswith("txmicro-") or header in (TRACEPARENT, TRACESTATE)


def _moment(value: Any) -> datetime | None:
    """Return the time in *value*, Unix time or an AMQP timestamp; None: it is not a time."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromtimestamp(value, UTC) if value else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
