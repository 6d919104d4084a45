"""A test case for the page: a system that tests share, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from playwright.sync_api import Locator, Page
from twisted.trial.unittest import SynchronousTestCase

from tests.programs.page.system import PageSystem
from tests.support.browser import open_browser, require_chromium

VIEWS = (
    "",
    "types/Bank",
    "workers",
    "flow",
    "failures",
    "dead",
    "dead/Bank",
    "jobs",
    "errors",
    "audit",
    "levels",
)
"""The routes of the views that need no id."""


@cache
def shared_system() -> PageSystem:
    """Return a running system. Tests only look at it."""
    system = PageSystem(page_data="")
    system.start()
    return system


class PageTestCase(SynchronousTestCase):
    """Looks at the shared system's page."""

    def setUp(self) -> None:
        require_chromium()
        self.system = self.make_system()

    def make_system(self) -> PageSystem:
        """Return the system whose page is tested."""
        return shared_system()

    def own_system(self, **options: Any) -> PageSystem:
        """Return a running system that the test may change."""
        system = PageSystem(page_data="", **options)
        self.addCleanup(system.stop)
        system.start()
        return system

    @contextmanager
    def open(self, view: str = "", **options: Any) -> Iterator[Page]:
        """Open a view in a browser; check at its end that nothing failed and nothing was loaded from elsewhere."""
        with open_browser(self.system.origin, **options) as page:
            page.goto(f"{self.system.origin}/#/{view}")
            page.locator("main h1").wait_for()
            yield page

    def until(self, page: Page, condition: Callable[[], Any]) -> None:
        """Wait until *condition* returns something true."""
        for _ in range(200):
            if condition():
                return
            page.wait_for_timeout(50)
        self.fail(f"this did not happen; the page has:\n{page.locator('body').inner_text()}")

    def until_text(self, place: Locator, pattern: str) -> None:
        """Wait until an element of *place* matches a text."""
        place.filter(has_text=pattern).first.wait_for()


def cells(page: Page, row: str, table: str = "table") -> dict[str, str]:
    """Return the texts of a table's row by their column titles; *row* is a text that only it contains."""
    titles = page.locator(f"{table} th").all_inner_texts()
    texts = page.locator(f"{table} tbody tr").filter(has_text=row).first.locator("td").all_inner_texts()
    found: dict[str, str] = {}
    for title, text in zip(titles, texts, strict=True):
        found.setdefault(title, text)
    return found
