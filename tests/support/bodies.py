"""Invalid values for the fields of messages' bodies."""

from __future__ import annotations

import math
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import DecodeError

ME = "WA:1795449588399-3fa9"
YOU = "WB:1795449588400-0001"

DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]

NO_TEXT: list[Any] = [None, 5, 1.5, True, [], {}, b"x", DEEP]
NO_NUMBER: list[Any] = [None, "5", True, [], {}, math.nan, math.inf, -1, 10**400, DEEP]
NO_OBJECT: list[Any] = [None, 5, "x", True, [], b"x", DEEP]


class BodyCase(SynchronousTestCase):
    def refused(self, read: Any, wrong: Any) -> None:
        """Check that *read* raises a short error for *wrong*."""
        error = self.assertRaises(DecodeError, read, wrong)
        self.assertLess(len(str(error)), 400)
