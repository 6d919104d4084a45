"""A progress bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from twisted.internet.task import LoopingCall

_INTERVAL: Final = 0.1
"""Seconds between two pictures of the bar."""


@contextmanager
def progress_bar(total: int, done: Callable[[], int], err: TextIO, reactor: Any) -> Iterator[None]:
    """Show on *err* how many of *total* are *done()*, and remove the bar at the end; no terminal: show nothing."""
    if not err.isatty():
        yield
        return
    # rich's own refreshing would run in a thread.
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=err),
        auto_refresh=False,
        transient=True,
    )
    shown = bar.add_task("", total=total)
    refreshing = LoopingCall(lambda: bar.update(shown, completed=done(), refresh=True))
    refreshing.clock = reactor
    with bar:
        refreshing.start(_INTERVAL)
        try:
            yield
        finally:
            refreshing.stop()
