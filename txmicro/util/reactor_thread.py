"""Checks for the reactor's thread: txmicro may be called only there."""

from __future__ import annotations

from threading import get_ident

from twisted.python import threadable

from txmicro.errors import WrongThread


def in_reactor_thread() -> bool:
    """Return whether this is the reactor's thread. Until a reactor runs, every thread counts as it."""
    return threadable.ioThread in (None, get_ident())


def check_thread(what: str) -> None:
    """Raise :class:`~txmicro.errors.WrongThread`, which names *what* was called, in any other thread."""
    if threadable.ioThread not in (None, get_ident()):
        raise WrongThread(
            f"{what} was called from a thread other than the reactor's; call it there with "
            "twisted.internet.threads.blockingCallFromThread(worker.reactor, function), for example with the function "
            "lambda: worker.send(…).when_done()"
        )
