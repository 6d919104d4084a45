"""Routes are made once per session, and only those of exchanges that exist are kept."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.bus import route
from txmicro.bus.route import Route, Routes


class FakeSession:
    """Knows some exchanges, and encodes nothing."""

    def __init__(self, *known: str) -> None:
        self._known = known

    def knows(self, exchange: str) -> bool:
        return exchange in self._known

    def frame(self, exchange: str, key: str, *, mandatory: bool) -> bytes:
        return f"{exchange} {key} {mandatory}".encode()


def resolve(address: str) -> tuple[str, str]:
    kind, _, name = address.partition(":")
    return f"to.{kind}", name


class RoutesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes(resolve)
        self.session: Any = FakeSession("to.WB")

    def test_one_whose_exchange_exists_is_kept(self) -> None:
        made = self.routes.make(self.session, "WB:*")
        self.assertEqual(made, Route("to.WB", "*", b"to.WB * True"))
        self.assertEqual(self.routes.known, {"WB:*": made})

    def test_one_whose_exchange_is_unknown_is_not(self) -> None:
        self.assertEqual(self.routes.make(self.session, "WX:*").exchange, "to.WX")
        self.assertEqual(self.routes.known, {})

    def test_they_are_not_kept_without_end(self) -> None:
        self.patch(route, "_MOST", 3)
        for number in range(10):
            self.routes.make(self.session, f"WB:{number}")
        self.assertEqual(list(self.routes.known), ["WB:9"])
