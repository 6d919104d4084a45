"""Keys of what happened lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator


class ExpiringKeys:
    """Remembers keys, each for equally long, so that the oldest goes first.

    :param seconds: for how long. :param most: how many; the oldest make room.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, key: str) -> bool:
        return key in self._until

    def __iter__(self) -> Iterator[str]:
        return iter(self._until)

    def add(self, key: str, now: float) -> None:
        """Remember *key* from *now* on."""
        self._until[key] = now + self._seconds
        self._until.move_to_end(key)
        if len(self._until) > self._most:
            self._until.popitem(last=False)

    def pop(self, key: str) -> bool:
        """Forget *key*; returns whether it was known."""
        return self._until.pop(key, None) is not None

    def forget(self, now: float) -> None:
        """Forget those whose time is over."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._until.clear()
