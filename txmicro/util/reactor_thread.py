"""Which thread is the reactor's: only there may txmicro be called."""

from __future__ import annotations

from threading import get_ident

from twisted.python import threadable

from txmicro.errors import WrongThread


def in_reactor_thread() -> bool:
    """Return whether this is the reactor's thread, or no reactor has run yet."""
    return threadable.ioThread in (None, get_ident())


def check_thread(what: str) -> None:
    """Raise :class:`~txmicro.errors.WrongThread` if *what* is called in another thread."""
    if threadable.ioThread not in (None, get_ident()):
        raise WrongThread(
            f"{what} was called from a thread, and only the reactor's may: call "
            "twisted.internet.threads.blockingCallFromThread(worker.reactor, function) there, with a function that "
            "calls it (for the result of a job: lambda: worker.send(…).when_done())"
        )
