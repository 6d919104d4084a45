"""The page stays fast with 50 types and 1,000 workers. They exist only in the browser: no test can run so many."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.programs.page.case import PageTestCase

FLEET = Path(__file__).with_name("fleet.js")

MOST = 60.0
"""Milliseconds of the main thread for an update, of which there is one each second. An idle machine needs 5 to 20."""

UPDATES = 20


class SpeedTests(PageTestCase):
    def main_thread(self, page: Page) -> float:
        """Return the milliseconds of the main thread for an update."""
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the CPU: others use it, too

        def measured() -> tuple[float, int]:
            metrics = {
                each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]
            }
            return metrics["TaskDuration"] * 1000, page.evaluate("globalThis.updates ?? 0")

        self.until(page, lambda: measured()[1] > 3)
        before, first = measured()
        self.until(page, lambda: measured()[1] >= first + UPDATES)
        after, last = measured()
        return (after - before) / (last - first)

    def test_updates_cost_little(self) -> None:
        with self.open() as page:
            page.add_init_script(path=FLEET)
            for view, rows in (("", 50), ("types/Type3", 20), ("workers", 100), ("flow", 90)):
                page.goto(f"{self.system.origin}/#/{view}")
                page.reload()
                self.until(page, lambda: page.locator("tbody tr").count() >= rows)  # noqa: B023 - at once
                cost = self.main_thread(page)
                print(f"{view or 'overview'}: {cost:.1f} ms of the main thread for an update")  # noqa: T201
                self.assertLess(cost, MOST, view or "overview")
            self.assertEqual(page.locator(".node").count(), 50)

    def test_all_workers_are_reached_page_by_page(self) -> None:
        with self.open() as page:
            page.add_init_script(path=FLEET)
            page.goto(f"{self.system.origin}/#/workers")
            page.reload()
            for number in range(1, 10):
                page.get_by_text(f"Page {number} · 1,000 workers").wait_for()
                page.get_by_role("button", name="Next page").click()
            page.get_by_text("Page 10 · 1,000 workers").wait_for()
            self.assertTrue(page.get_by_role("button", name="Next page").is_disabled())
            self.assertEqual(page.locator("tbody tr").count(), 100)
