"""The page in both color schemes, with the keyboard, and for screen readers."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.programs.page.case import VIEWS, PageTestCase
from tests.support.browser import PHONE

FOLDER = Path(__file__).parent
NAMES = (FOLDER / "names.js").read_text("utf-8")
CONTRAST = (FOLDER / "contrast.js").read_text("utf-8")


class AccessibilityTests(PageTestCase):
    def visit_all(self, page: Page, check: str) -> None:
        for view in VIEWS:
            page.goto(f"{self.system.origin}/#/{view}")
            page.locator("main .card").first.wait_for()
            page.wait_for_timeout(150)
            self.assertEqual(page.evaluate(check), [], view or "overview")

    def test_everything_has_a_name(self) -> None:
        with self.open() as page:
            self.visit_all(page, NAMES)

    def test_texts_can_be_read_in_light_and_dark(self) -> None:
        for dark in (False, True):
            with self.open(dark=dark) as page:
                self.visit_all(page, CONTRAST)

    def test_the_check_of_contrast_finds_gray_on_gray(self) -> None:
        with self.open() as page:
            page.locator("h1").evaluate(
                "title => { title.style.color = '#999'; title.style.background = '#888'; }"
            )
            self.assertEqual(len(page.evaluate(CONTRAST)), 1)

    def test_dark_mode_by_the_system_and_by_the_switch(self) -> None:
        with self.open(dark=True) as page:
            self.assertEqual(background(page), "rgb(16, 19, 26)")
            page.get_by_role("button", name="Colors: system").click()
            page.get_by_role("button", name="Colors: light").wait_for()
            self.assertEqual(background(page), "rgb(245, 246, 248)")
            page.reload()
            self.assertEqual(background(page), "rgb(245, 246, 248)")  # it is remembered

    def test_the_first_tab_skips_to_the_content(self) -> None:
        with self.open() as page:
            page.locator("td").first.wait_for()
            page.evaluate("document.activeElement.blur()")
            page.keyboard.press("Tab")
            self.assertEqual(page.evaluate("document.activeElement.className"), "skip")
            page.keyboard.press("Enter")
            self.assertEqual(page.evaluate("document.activeElement.id"), "main")
            self.assertIn("#/", page.url)

    def test_shortcuts_are_listed_and_work(self) -> None:
        with self.open() as page:
            page.keyboard.press("?")
            page.get_by_role("dialog").get_by_text("Go to the next row").wait_for()
            page.keyboard.press("Escape")
            page.keyboard.press("g")
            page.keyboard.press("w")
            page.locator("h1", has_text="Workers").wait_for()
            page.keyboard.press("/")
            self.assertEqual(page.evaluate("document.activeElement.name"), "type")

    def test_the_menu_of_a_phone(self) -> None:
        with self.open(size=PHONE) as page:
            self.assertFalse(page.get_by_role("link", name="Failures").is_visible())
            page.get_by_role("button", name="Menu").click()
            page.get_by_role("link", name="Failures").click()
            page.locator("h1", has_text="Failures").wait_for()
            self.assertFalse(page.get_by_role("link", name="Failures").is_visible())


def background(page: Page) -> str:
    """Return the background color of the page."""
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
