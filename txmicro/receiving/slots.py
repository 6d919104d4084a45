"""The slots of a worker: one for each job that may run at once."""

from __future__ import annotations


class Slots:
    """Counts the jobs that one worker runs in both lanes, and says whether one more may start.

    :param capacity: how many jobs may run at once.
    :ivar running: how many jobs run. Each lane adds the jobs that it starts, and subtracts those that end.
    :ivar paused: whether no job may start, because its answer could not be published.
    """

    __slots__ = ("capacity", "paused", "running")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.running = 0
        self.paused = False

    @property
    def free(self) -> bool:
        """True while one more job may start."""
        return self.running < self.capacity and not self.paused
