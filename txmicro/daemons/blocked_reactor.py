"""Logs when the event loop is blocked, and by which handler.

While a function blocks the reactor, no heartbeat, ack or result is sent, and nothing in the reactor's thread can log
that. So another thread calls the reactor at intervals. When no answer comes, it looks at the stack of the reactor's
thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import FrameType
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from txmicro.protocol.job import Job
from txmicro.worker import Worker

EVERY: Final = 0.5
"""Seconds between an answer of the reactor and the next call."""

BLOCKED: Final = 1.0
"""Seconds without an answer after which the reactor counts as blocked."""

AGAIN: Final = 30.0
"""Seconds between log lines while the reactor stays blocked."""

_OURS: Final = "txmicro."
_HANDLERS: Final = ("txmicro.workers.", "txmicro.examples.")
_ADVICE: Final = (
    "no heartbeat, ack or result is sent. Run what blocks in a thread (threads = True, in_thread)"
)


class Blocking(NamedTuple):
    """The code that a thread is running.

    :ivar name: the handler, as ``module.Class.do_job (job …)``, or else the innermost function.
    :ivar place: its file and line.
    :ivar worker: the id of the handler's worker; empty: unknown.
    """

    name: str
    place: str
    worker: str


class ReactorMonitor:
    """Monitors the reactor of this thread. It costs two wake-ups per second, and nothing per job.

    :param observe: is called in the reactor's thread with the seconds that each of its answers took.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        observe: Callable[[float], None],
        *,
        every: float = EVERY,
        blocked: float = BLOCKED,
        again: float = AGAIN,
    ) -> None:
        self._reactor = reactor
        self._observe = observe
        self._every = every
        self._blocked = blocked
        self._again = again
        self._watched = 0
        self._answered = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start as soon as the reactor runs. Call this in the reactor's thread."""
        thread = threading.Thread(target=self._watch, name="txmicro reactor monitor", daemon=True)
        self._watched = threading.get_ident()
        self._reactor.callWhenRunning(thread.start)

    def stop(self) -> None:
        """Stop."""
        self._stopped.set()
        self._answered.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every):
            self._answered.clear()
            asked = monotonic()
            self._reactor.callFromThread(self._answer, asked)
            if not self._answered.wait(self._blocked):
                self._tell(asked)

    def _answer(self, asked: float) -> None:
        self._observe(monotonic() - asked)
        self._answered.set()

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
                "the event loop is running again; it was blocked for {seconds:.1f} s, by {name} when last checked",
                seconds=monotonic() - since,
                recurring=True,
                **blocking._asdict(),
            )


def find_blocking(frame: FrameType) -> Blocking:
    """Return what the thread with the innermost frame *frame* is doing."""
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
    """Return the job among the function's arguments; None: it has none."""
    code, values = frame.f_code, frame.f_locals
    arguments = (values.get(name) for name in code.co_varnames[: code.co_argcount])
    return next((value for value in arguments if isinstance(value, Job)), None)


def _name_of(frame: FrameType) -> str:
    code, owner = frame.f_code, frame.f_locals.get("self")
    if isinstance(owner, Worker):
        return f"{type(owner).__module__}.{type(owner).__qualname__}.{code.co_name}"
    return f"{frame.f_globals.get('__name__', '?')}.{code.co_qualname}"
