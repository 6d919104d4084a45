"""The roles at the page: the login, the reader and the operator."""

from __future__ import annotations

from functools import cache

from playwright.sync_api import Page

from tests.programs.page.case import PageTestCase
from tests.programs.page.system import PageSystem

READER, OPERATOR = "only-to-look-1", "all-that-there-is-2"


@cache
def guarded_system() -> PageSystem:
    """Return a running system with accounts."""
    system = PageSystem(
        OPERATOR, page_data="", page_readers=[f"rob:{READER}"], page_operators=[f"ada:{OPERATOR}"]
    )
    system.start()
    return system


class AccessTests(PageTestCase):
    def make_system(self) -> PageSystem:
        return guarded_system()

    def log_in(self, page: Page, token: str) -> None:
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()

    def test_a_wrong_token_is_refused_and_a_reader_sees_no_actions(self) -> None:
        with self.open("dead/Bank", expected="401") as page:
            self.log_in(page, "wrong")
            page.get_by_text("does not know this token").wait_for()
            self.log_in(page, READER)
            page.locator("tbody tr").first.wait_for()
            page.get_by_text("rob, reader").wait_for()
            self.assertEqual(page.get_by_role("button", name="Requeue").count(), 0)
            self.assertEqual(page.get_by_role("checkbox").count(), 0)
            self.assertNotIn("Audit", page.locator("#nav").inner_text())
            page.goto(f"{self.system.origin}/#/audit")
            page.get_by_text("This view is for operators").wait_for()

    def test_a_log_level_that_an_operator_sets_and_a_line_that_follows_live(self) -> None:
        with self.open("levels", expected="401") as page:
            self.log_in(page, OPERATOR)
            page.get_by_label("Component").fill("Price")
            page.locator("select[name=level]").select_option("debug")
            page.get_by_role("button", name="Set the level").click()
            page.get_by_text("Price logs from level debug, in all processes.").wait_for()
            self.system.until(lambda: self.system.get("log-levels")["levels"].get("Price") == "debug")
            page.get_by_role("link", name="Errors").click()
            lines = page.locator("tr", has_text="cannot charge Ada")
            self.until(page, lambda: lines.count() == 1)
            self.system.post("dead/Bank/requeue", {"filter": {"search": "Ada"}, "dry_run": False})
            self.until(page, lambda: lines.count() == 2)  # without a reload

    def test_an_operator_has_actions_until_the_logout(self) -> None:
        with self.open("dead/Bank", expected="401") as page:
            self.log_in(page, OPERATOR)
            page.get_by_role("button", name="Requeue…").wait_for()
            page.reload()
            page.get_by_text("ada, operator").wait_for()  # kept in the tab
            page.get_by_role("button", name="Log out").click()
            page.get_by_label("Token").wait_for()
