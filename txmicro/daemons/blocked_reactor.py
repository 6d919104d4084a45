"""Says when the event loop is blocked, and by which handler.

While a function blocks the reactor, no heartbeat, ack or answer leaves, and nobody in the reactor's thread can say so.
So a thread asks it for an answer now and then; when none comes, it looks at what the reactor's thread is doing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from time import monotonic
from types import FrameType
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from txmicro.protocol.job import Job
from txmicro.worker import Worker

EVERY: Final = 0.5
"""Seconds between an answer and the next question."""

BLOCKED: Final = 1.0
"""Seconds without an answer after which the reactor counts as blocked."""

AGAIN: Final = 30.0
"""Seconds after which it is said again, while nothing changes."""

_OURS: Final = "txmicro."
_HANDLERS: Final = ("txmicro.workers.", "txmicro.examples.")
_ADVICE: Final = (
    "no heartbeat, ack or answer leaves. What blocks belongs in a thread (threads = True, in_thread)"
)


class Blocking(NamedTuple):
    """What the reactor's thread is doing.

    :ivar name: the handler, as ``module.Class.do_job (job …)``, or the innermost function if there is none.
    :ivar place: its file and line.
    :ivar worker: the id of the handler's worker; empty: unknown.
    """

    name: str
    place: str
    worker: str


class ReactorMonitor:
    """Watches the reactor of this thread; costs two wake-ups a second, and nothing per job."""

    log = Logger()

    def __init__(
        self, reactor: Any, *, every: float = EVERY, blocked: float = BLOCKED, again: float = AGAIN
    ) -> None:
        self._reactor = reactor
        self._every = every
        self._blocked = blocked
        self._again = again
        self._watched = 0
        self._answered = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, when the reactor runs; to be called in its thread."""
        thread = threading.Thread(target=self._watch, name="txmicro watch", daemon=True)
        self._watched = threading.get_ident()
        self._reactor.callWhenRunning(thread.start)

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        self._answered.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every):
            self._answered.clear()
            asked = monotonic()
            self._reactor.callFromThread(self._answered.set)
            if not self._answered.wait(self._blocked):
                self._tell(asked)

    def _tell(self, since: float) -> None:
        while True:
            frame = sys._current_frames().get(self._watched)
            blocking = find_blocking(frame) if frame is not None else Blocking("unknown", "unknown", "")
            self.log.warn(
                "the event loop has been blocked for {seconds:.1f} s by {name}, at {place}: {advice}",
                seconds=monotonic() - since,
                advice=_ADVICE,
                recurring=True,
                **blocking._asdict(),
            )
            del frame
            if self._answered.wait(self._again):
                break
        if not self._stopped.is_set():
            self.log.warn(
                "the event loop goes on; it was blocked for {seconds:.1f} s, by {name} when last seen",
                seconds=monotonic() - since,
                recurring=True,
                **blocking._asdict(),
            )


def find_blocking(frame: FrameType) -> Blocking:
    """Return what a thread is doing whose innermost frame is *frame*."""
    handlers = [each for each in _stack(frame) if _is_handler(each)]
    handler = handlers[-1] if handlers else frame
    job = _job_of(handler)
    name = _name_of(handler) + (f" (job {job.id})" if job is not None else "")
    worker = handler.f_locals.get("self")
    place = f"{handler.f_code.co_filename}:{handler.f_lineno}"
    return Blocking(name, place, worker.id if isinstance(worker, Worker) else "")


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_handler(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return (not module.startswith(_OURS) or module.startswith(_HANDLERS)) and _job_of(frame) is not None


def _job_of(frame: FrameType) -> Job | None:
    """The job that is an argument of the function; what a coroutine awaits is on the stack, and so is the coroutine."""
    code, values = frame.f_code, frame.f_locals
    arguments = (values.get(name) for name in code.co_varnames[: code.co_argcount])
    return next((value for value in arguments if isinstance(value, Job)), None)


def _name_of(frame: FrameType) -> str:
    code, owner = frame.f_code, frame.f_locals.get("self")
    if isinstance(owner, Worker):
        return f"{type(owner).__module__}.{type(owner).__qualname__}.{code.co_name}"
    return f"{frame.f_globals.get('__name__', '?')}.{code.co_qualname}"
