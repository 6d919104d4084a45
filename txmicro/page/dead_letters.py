"""The dead letters of all worker types, for the page.

Each use opens a connection of its own, because the lock of a worker type ends with the connection. So operators at
the page and at the command line exclude each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import DeferredLock, DeferredSemaphore

from txmicro.bus.targets import Target
from txmicro.operations.connecting import connect
from txmicro.operations.dead_letter import LetterRow
from txmicro.operations.dead_letter_queue import Chosen, DeadLetterQueue, open_dead_letter_queue
from txmicro.util.waiters import Waiters

from .site import Refusal

T = TypeVar("T")

CONNECTIONS: Final = 4
"""The most connections to the broker at once. Each worker type that is used needs one."""

WAITING: Final = 20
"""The most requests that wait for one of them."""

FRESH: Final = 5.0
"""Seconds for which a list that was read is used again, for its next pages and other filters."""


class Settled(NamedTuple):
    """An action's result.

    :ivar matched: how many letters were chosen. :ivar done: how many of them were requeued or discarded.
    :ivar expired: how many were not requeued, because they have expired.
    :ivar keys: the keys of those that were requeued or discarded.
    """

    matched: int
    done: int
    expired: int
    keys: frozenset[str]


class Interruption(Exception):
    """The action has failed after some letters.

    :ivar settled: the letters before. :ivar reason: the error.
    """

    def __init__(self, settled: Settled, reason: Exception) -> None:
        super().__init__(str(reason))
        self.settled = settled
        self.reason = reason


class _Kind:
    """A worker type that is used.

    :ivar operator: the name of the operator whose action runs; empty: none.
    :ivar users: how many requests use or want it.
    """

    def __init__(self) -> None:
        self.lock = DeferredLock()
        self.operator = ""
        self.users = 0


class DeadLetterOperations:
    """The dead letters; see the module.

    :param clock: a reactor, or a ``Clock``. :param time: gives Unix time, in seconds.
    """

    def __init__(
        self, brokers: Sequence[Target], heartbeat: int, clock: Any, time: Callable[[], float]
    ) -> None:
        self._brokers = brokers
        self._heartbeat = heartbeat
        self._clock = clock
        self._time = time
        self._kinds: dict[str, _Kind] = {}
        self._connections = DeferredSemaphore(CONNECTIONS)
        self._open: set[DeadLetterQueue] = set()
        self._idle = Waiters()
        self._stopping = False
        self._read: tuple[str, float, list[LetterRow], int] | None = None

    async def rows(self, kind: str) -> tuple[list[LetterRow], int]:
        """Return the rows of the dead letters of type *kind*, the latest first, and how many letters there are.

        Only the first 10,000 are read. A list that was read is used for :data:`FRESH` seconds.

        :raise TxmicroError: they cannot be read.
        """
        if self._read is None or self._read[0] != kind or self._read[1] < self._clock.seconds():
            self._read = await self._use(kind, self._read_rows)
        return self._read[2:]

    async def _read_rows(
        self, letters: DeadLetterQueue, kind: str
    ) -> tuple[str, float, list[LetterRow], int]:
        rows = await letters.rows()
        rows.sort(key=lambda row: (row.died or 0.0, row.key), reverse=True)
        return kind, self._clock.seconds() + FRESH, rows, letters.total - letters.copies

    async def count(self, kind: str, chosen: Chosen) -> int:
        """Return how many letters of type *kind* are *chosen*; raise as :meth:`requeue`."""

        async def count(letters: DeadLetterQueue, _kind: str) -> int:
            return await letters.count(chosen)

        return await self._use(kind, count)

    async def requeue(self, operator: str, kind: str, chosen: Chosen) -> Settled:
        """Publish the jobs of the *chosen* letters of type *kind* again.

        :param operator: the name of the operator, for others who want to do something meanwhile.
        :raise Refusal: another operator of this page is at work.
        :raise TxmicroError: nothing was done.
        :raise Interruption: some letters were done, and then an error happened.
        """
        return await self._act(operator, kind, lambda letters: letters.requeue(chosen))

    async def discard(self, operator: str, kind: str, chosen: Chosen) -> Settled:
        """Delete the *chosen* letters of type *kind*; as :meth:`requeue`."""
        return await self._act(operator, kind, lambda letters: letters.discard(chosen))

    async def stop(self) -> None:
        """Let the actions end after the letters that they are working on, and wait until they have ended."""
        self._stopping = True
        for letters in self._open:
            letters.stopping = True
        while self._kinds:
            await self._idle.wait()

    async def _act(
        self, operator: str, kind: str, act: Callable[[DeadLetterQueue], Awaitable[None]]
    ) -> Settled:
        state = self._kinds.get(kind)
        if state is not None and state.operator:
            text = f"{state.operator} is working on the dead letters of {kind} at this page; try again later"
            raise Refusal(409, "Conflict", text, retry_after="5")

        async def settle(letters: DeadLetterQueue, _kind: str) -> Settled:
            try:
                await act(letters)
            except Exception as error:
                if not letters.done:
                    raise
                raise Interruption(_settled(letters), error) from error
            finally:
                self._read = None
            return _settled(letters)

        return await self._use(kind, settle, operator)

    async def _use(
        self, kind: str, work: Callable[[DeadLetterQueue, str], Awaitable[T]], operator: str = ""
    ) -> T:
        """Return what *work* returns for the dead letters of type *kind*, when nobody else uses them here."""
        if self._stopping or sum(state.users for state in self._kinds.values()) >= CONNECTIONS + WAITING:
            reason = (
                "the process is stopping" if self._stopping else "too many requests wait for dead letters"
            )
            raise Refusal(503, "Unavailable", f"{reason}; try again later", retry_after="5")
        state = self._kinds.setdefault(kind, _Kind())
        state.users += 1
        state.operator = operator or state.operator
        try:
            await state.lock.acquire()
            try:
                return await self._connected(kind, work)
            finally:
                state.lock.release()
        finally:
            state.users -= 1
            if operator:
                state.operator = ""
            if not state.users:
                del self._kinds[kind]
                self._idle.fire()

    async def _connected(self, kind: str, work: Callable[[DeadLetterQueue, str], Awaitable[T]]) -> T:
        await self._connections.acquire()
        try:
            client = await connect(self._brokers, self._clock, self._heartbeat)
            try:
                letters = await open_dead_letter_queue(client, kind, self._clock, self._time)
                letters.stopping = self._stopping
                self._open.add(letters)
                try:
                    return await work(letters, kind)
                finally:
                    self._open.discard(letters)
                    await letters.close()
            finally:
                await client.shutdown()
        finally:
            self._connections.release()


def _settled(letters: DeadLetterQueue) -> Settled:
    return Settled(letters.done + letters.expired, letters.done, letters.expired, letters.settled)
