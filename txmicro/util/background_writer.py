"""Writes in a thread, so that a slow or blocked output never blocks the program."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LARGEST: Final = 8 << 20
"""Bytes that wait to be written. More are lost, because an output that is blocked would take all memory."""

PATIENCE: Final = 2.0
"""Seconds that :meth:`BackgroundWriter.stop` waits for an output."""

BLOCKED: Final = "the output is blocked"


class BackgroundWriter(Generic[T]):
    """Gives items to *write*, in their order, in a thread between :meth:`start` and :meth:`stop`.

    Before and after that, items are written at once. Any thread may call it, and threads do not survive a ``fork``, so
    daemons start it when they run. Items that cannot be written are lost. The next ones that can be come after a note.

    :param write: writes items, or raises OSError.
    :param note: returns an item that says how many were lost before it, and why.
    :param lost: called with a number of items and the reason why they are lost, in any thread. It may call :meth:`put`.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], None],
        note: Callable[[int, str], T],
        lost: Callable[[int, str], None],
    ) -> None:
        self._output = write
        self._note = note
        self._tell = lost
        self._waiting: list[T] = []
        self._size = 0
        self._lost, self._reason = 0, ""
        self._lock = threading.Lock()  # for the items and the losses; never held while something is written
        self._writing = threading.RLock()  # for the output
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = self._abandoned = False

    def put(self, item: T, size: int) -> None:
        """Write *item* of *size* bytes soon, or at once if there is no thread. Does not fail."""
        if self._thread is None and not self._abandoned:
            self._write([item])
            return
        with self._lock:
            full = self._abandoned or self._size + size > LARGEST
            if not full:
                self._waiting.append(item)
                self._size += size
        if full:
            self._lose(1, BLOCKED)
        elif not self._wake.is_set():
            self._wake.set()

    def start(self) -> None:
        """Write in a thread from now on."""
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="txmicro log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for up to ``PATIENCE`` seconds. If that is not enough, all else is lost."""
        thread = self._thread
        if thread is None:
            return
        self._stopping = True
        self._wake.set()
        thread.join(PATIENCE)
        self._abandoned = thread.is_alive()
        self._thread = None
        if not self._abandoned and (rest := self._take()):
            self._write(rest)

    def _work(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while items := self._take():
                self._write(items)

    def _take(self) -> list[T]:
        with self._lock:
            items, self._waiting, self._size = self._waiting, [], 0
            return items

    def _write(self, items: list[T]) -> None:
        with self._lock:
            lost, reason = self._lost, self._reason
        try:
            with self._writing:
                self._output([self._note(lost, reason), *items] if lost else items)
        except (OSError, ValueError) as error:  # a closed stream raises ValueError
            self._lose(len(items), getattr(error, "strerror", None) or str(error))
        else:
            with self._lock:
                self._lost -= lost

    def _lose(self, number: int, reason: str) -> None:
        with self._lock:
            self._lost += number
            self._reason = reason
        self._tell(number, reason)
