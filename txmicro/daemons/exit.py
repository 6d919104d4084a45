"""How a daemon's process ends when it cannot start: one line on stderr, and an exit status."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import Final

from txmicro.log import clean

CANNOT_START: Final = 1
"""The exit status of a process in which something cannot start."""


class CannotStart(SystemExit, Exception):
    """Something cannot start, so the process ends with :data:`CANNOT_START`. The message says how to correct it.

    Raised while services are started. It is an ``Exception`` because twistd reports only those to the process that
    waits for a daemon in the background, which would otherwise wait forever.
    """

    def __init__(self, text: str) -> None:
        super().__init__(CANNOT_START)
        self._text = text

    def __str__(self) -> str:
        return self._text


def print_error(text: str) -> None:
    """Print *text*, without passwords, to the stderr of the process, which twistd replaces with a log."""
    print("\n".join(map(clean, text.split("\n"))), file=sys.__stderr__, flush=True)


def exit_with(status: int) -> None:
    """Have this process end with *status* when it ends.

    twistd cannot do that: its status is 0 or that of the signal that stopped it, and it prints what is raised in the
    reactor. So the status is replaced at the very end, after twistd's cleanup.
    """
    atexit.register(_exit, status)


def _exit(status: int) -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it, or it is closed or None
            stream.flush()  # type: ignore[union-attr]
    os._exit(status)
