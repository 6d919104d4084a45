"""Pictures of the manager's page, of the system with which the page is tested."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.programs.page.system import PageSystem
from tests.support.browser import open_browser

SIZE = (1180, 720)
COLORS = 96
"""Colors of a picture: enough for its texts, and a third of the bytes."""

HISTORY = 30_000.0
"""Milliseconds in which the graphs get something to show."""

VIEWS = {
    "overview": "",
    "type": "types/Stock",
    "workers": "workers",
    "flow": "flow",
    "failures": "failures",
    "dead-letters": "dead/Bank",
}


def make(folder: Path) -> None:
    """Save a picture of each view, light and dark, in *folder*."""
    system = PageSystem(page_data="")
    system.start()
    try:
        job = system.get("jobs?error=BankClosed")["jobs"][0]["id"]
        for scheme in ("light", "dark"):
            with open_browser(system.origin, size=SIZE, dark=scheme == "dark") as page:
                page.goto(system.origin)
                page.wait_for_timeout(HISTORY if scheme == "light" else 3_000)
                for name, view in {**VIEWS, "job": f"jobs/{job}"}.items():
                    page.goto(f"{system.origin}/#/{view}")
                    page.wait_for_timeout(2_500)
                    save(page, folder / f"page-{name}-{scheme}.png")
    finally:
        system.stop()


def save(page: Page, path: Path) -> None:
    """Save what the browser shows, as a small file."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    small = picture.quantize(COLORS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} kB")
