"""The operator's actions on the page happen on the bus: the jobs really run, and nothing else does."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.programs.page.case import PageTestCase, cells
from tests.programs.page.system import PageSystem
from tests.programs.page.workers import CLOSED, EXPIRED


def focused(page: Page) -> str:
    """Return the text of the row that has the focus, or of the element."""
    return str(
        page.evaluate("(document.activeElement.closest('tr') ?? document.activeElement).innerText ?? ''")
    )


class CancelTests(PageTestCase):
    def test_escape_changes_nothing(self) -> None:
        with self.open("dead/Bank") as page:
            page.locator("tbody tr").first.wait_for()
            page.get_by_role("button", name="Discard…").click()
            page.get_by_role("dialog").wait_for()
            page.keyboard.press("Escape")
            page.get_by_role("dialog").wait_for(state="hidden")
            self.until(page, lambda: "Discard" in focused(page))
            self.assertEqual(self.system.get("dead/Bank")["total"], len(EXPIRED) + len(CLOSED))


class ActionTests(PageTestCase):
    def make_system(self) -> PageSystem:
        return self.own_system()

    def press(self, page: Page, *keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    def press_until(self, page: Page, key: str, text: str) -> None:
        for _ in range(40):
            if text in focused(page):
                return
            page.keyboard.press(key)
        self.fail(f"{key} does not lead to {text}; the focus is at {focused(page)!r}")

    def test_one_group_among_others_is_requeued_with_the_keyboard_alone(self) -> None:
        self.system.repair()
        with self.open() as page:
            self.press(page, "g", "f")
            page.locator("td", has_text="CardExpired").wait_for()
            self.press_until(page, "j", "CardExpired")
            self.press(page, "Enter")
            page.get_by_role("button", name="Requeue all of this group").wait_for()
            self.press_until(page, "Tab", "Requeue all of this group")
            self.press(page, "Enter")
            dialog = page.get_by_role("dialog")
            dialog.get_by_text(f"Requeue {len(EXPIRED)} dead letters of Bank?").wait_for()
            self.assertEqual(self.system.charged, [])  # only counted
            self.press_until(page, "Tab", f"Requeue {len(EXPIRED)} dead letters")
            self.press(page, "Enter")
            page.get_by_text(f"{len(EXPIRED)} dead letters of Bank requeued").wait_for()
            self.system.until(lambda: self.system.charged == sorted(EXPIRED))
            page.get_by_role("button", name="Requeue all of this group").wait_for(state="detached")
            self.system.until(lambda: self.system.get("dead/Bank")["total"] == len(CLOSED))
            self.press(page, "g", "a")
            page.locator("td", has_text="requeue dead letters").first.wait_for()
            self.assertIn(f"done: {len(EXPIRED)}", cells(page, "requeue dead letters")["Outcome"])
        self.assertEqual(self.system.charged, sorted(EXPIRED))

    def test_selected_letters_are_requeued_and_others_discarded(self) -> None:
        self.system.repair()
        with self.open("dead/Bank") as page:
            page.locator("tbody tr").first.wait_for()
            for customer in ("Ada", "Bob"):
                page.locator("tr", has_text=customer).get_by_role("checkbox").check()
            page.get_by_text("for 2 selected").wait_for()
            page.get_by_role("button", name="Requeue…").click()
            page.get_by_role("button", name="Requeue 2 dead letters").click()
            self.system.until(lambda: self.system.charged == ["Ada", "Bob"])
            self.until(page, lambda: page.locator("tbody tr").count() == len(EXPIRED) - 2 + len(CLOSED))
            page.get_by_label("Error").fill("BankClosed")
            page.get_by_text(f"for all {len(CLOSED)} that match").wait_for()
            page.get_by_role("button", name="Discard…").click()
            page.get_by_text("This cannot be undone").wait_for()
            page.get_by_role("button", name=f"Discard {len(CLOSED)} dead letters").click()
            page.get_by_text("No dead letter matches").wait_for()
            self.assertEqual(self.system.get("dead/Bank")["total"], len(EXPIRED) - 2)

    def test_a_lost_manager_is_shown_and_found_again(self) -> None:
        with self.open(expected="ERR_") as page:
            page.locator("td", has_text="Stock").wait_for()
            self.system.kill()
            banner = page.locator("#connection")
            banner.get_by_text("Not connected to the manager").wait_for()
            self.system.restart()
            banner.wait_for(state="hidden")
            page.locator("td", has_text="Stock").wait_for()
