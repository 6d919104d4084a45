"""The actions of operators at the page: a log line for each, and the latest ones in a list."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from .access import Caller

LINES: Final = 1_000
"""How many lines are kept."""


class Audit:
    """The actions; see the module.

    :param time: gives Unix time, in seconds.
    """

    log = Logger()

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._lines: deque[dict[str, Any]] = deque(maxlen=LINES)

    def record(self, caller: Caller, action: str, detail: str, outcome: str) -> None:
        """Log an action, and keep it.

        :param detail: the action's target and its options, as one line.
        """
        line = {
            "time": self._time(),
            "name": caller.name,
            "role": caller.role,
            "address": caller.address,
            "action": action,
            "detail": detail,
            "outcome": outcome,
        }
        self._lines.append(line)
        who = f"{caller.name} ({caller.role}, from {caller.address})"
        self.log.info(
            "{who}, at the page: {action} {detail}: {outcome}",
            who=who,
            action=action,
            detail=detail,
            outcome=outcome,
        )

    def latest(self, most: int) -> list[dict[str, Any]]:
        """Return the latest *most* lines, the newest first."""
        return list(reversed(self._lines))[:most]
