"""A real browser for tests: Debian's Chromium without a window, through playwright. One for a test run.

Playwright's blocking interface is used, in tests without a reactor: the pages are of other processes.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from twisted.trial.unittest import SkipTest

from tests.support.rabbitmq import REQUIRED

PATIENCE = 15_000.0
"""Milliseconds in which a page has to show what a test waits for. It usually takes less than one second."""

DESKTOP = (1280, 900)
PHONE = (360, 740)


class BrowserError(Exception):
    """There is no browser, or a page has complained."""


def require_chromium() -> None:
    """Raise SkipTest if it is not installed, BrowserError if it is required (``TXMICRO_REQUIRE_SERVICES=1``)."""
    if shutil.which("chromium") is None:
        if os.environ.get(REQUIRED) == "1":
            raise BrowserError(f"Chromium is not installed, but {REQUIRED}=1: run make services")
        raise SkipTest("Chromium is not installed: make services installs it")


@contextmanager
def _running_loop() -> Iterator[None]:
    """Let playwright's event loop count as running only in here, or asyncio refuses to run one in other tests."""
    asyncio._set_running_loop(_loops[-1] if _loops else None)
    try:
        yield
    finally:
        _loops[:] = [asyncio._get_running_loop()]
        asyncio._set_running_loop(None)


_loops: list[Any] = []


@cache
def _browser() -> Browser:
    playwright = sync_playwright().start()
    atexit.register(_running_loop()(playwright.stop))
    # No sandbox: the tests run as root in containers, where Chromium has none, and open only pages of their own.
    # Not /dev/shm, which is small in containers.
    return playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
    )


@contextmanager
def open_browser(
    origin: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, expected: str = "", **options: Any
) -> Iterator[Page]:
    """Open an empty page of a browser that has no cookies and no storage, and close it at the end.

    Raise :class:`BrowserError` at the end if a script has failed, the console has an error, or something was loaded
    from elsewhere than *origin*.

    :param expected: a text of console errors that the test expects; empty: it expects none.
    """
    require_chromium()
    with _running_loop(), _open(origin, size, dark, expected, options) as page:
        yield page


@contextmanager
def _open(
    origin: str, size: tuple[int, int], dark: bool, expected: str, options: dict[str, Any]
) -> Iterator[Page]:
    context = _browser().new_context(
        color_scheme="dark" if dark else "light",
        viewport={"width": size[0], "height": size[1]},
        **options,
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    problems: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (expected and expected in message.text):
            problems.append(f"console: {message.text}")

    def requested(request: Request) -> None:
        if not request.url.startswith(f"{origin}/"):
            problems.append(f"request: {request.url}")

    page.on("console", said)
    page.on("request", requested)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    try:
        yield page
    finally:
        context.close()
    if problems:
        raise BrowserError("\n".join(problems))
