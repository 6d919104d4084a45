"""Things that wait to be done, and are done together with what came in the meantime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred

from txmicro.errors import JobError
from txmicro.util.clock import Clock

from .errors import StoreTimeout

MOST: Final = 500
"""The most things that are done together."""


class Waiting:
    """Something to be done before ``deadline``, in the clock's seconds; ``done`` fires with its outcome."""

    __slots__ = ("deadline", "done")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.done: Deferred[Any] = Deferred()

    def end(self, outcome: Any) -> None:
        """Fire with *outcome*, or fail with it if it is an error; nothing if nobody waits any more."""
        if self.done.called:
            return
        if isinstance(outcome, JobError):
            self.done.errback(outcome)
        else:
            self.done.callback(outcome)


Thing = TypeVar("Thing", bound=Waiting)


class Together(Generic[Thing]):
    """Does things, in up to *batches* batches at a time.

    :param do: does some; fires with the outcome of each, or fails. :param typed: what its failure is to who waits.
    """

    def __init__(
        self,
        clock: Clock,
        do: Callable[[Sequence[Thing]], Deferred[list[Any]]],
        typed: Callable[[Exception], JobError],
        batches: int = 1,
    ) -> None:
        self._clock = clock
        self._do = do
        self._typed = typed
        self._batches = batches
        self._waiting: list[Thing] = []
        self._doing: set[Deferred[None]] = set()

    def add(self, thing: Thing) -> None:
        """Do *thing*, now or together with others."""
        self._waiting.append(thing)
        if len(self._doing) < self._batches:
            doing = Deferred.fromCoroutine(self._work())
            self._doing.add(doing)
            doing.addCallback(lambda _: self._doing.discard(doing))

    async def idle(self) -> None:
        """Wait until all is done."""
        while self._doing:
            await next(iter(self._doing))

    async def _work(self) -> None:
        while things := self._take():
            try:
                outcomes = await self._do(things)
            except Exception as error:  # whatever it is, nobody may wait for ever
                outcomes = [self._typed(error) for _ in things]
            for thing, outcome in zip(things, outcomes, strict=True):
                thing.end(outcome)

    def _take(self) -> list[Thing]:
        """What is done next. What is late is not: nobody waits for it any more."""
        now = self._clock.seconds()
        while self._waiting:
            things, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            for thing in things:
                if thing.deadline <= now:
                    thing.end(StoreTimeout("there was no time left"))
            if things := [thing for thing in things if thing.deadline > now]:
                return things
        return []
