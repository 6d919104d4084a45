"""The routes of the API."""

from __future__ import annotations

from time import time
from typing import Any

from twisted.web.server import Request

from txmicro import _version
from txmicro.page.site import Answer, PageRoute, json_answer

from .events import Events
from .source import Source

_HEADERS = {"cache-control": "no-store"}


class Api:
    """The API; see :doc:`/reference/page_api`.

    :param source: what it tells about. :param name: the id of the manager.
    """

    def __init__(self, source: Source, manager: Any, clock: Any) -> None:
        self._source = source
        self._manager = manager
        self._clock = clock
        self._events = Events(source, source.overview, clock)

    @property
    def routes(self) -> list[PageRoute]:
        """All routes."""
        return [
            PageRoute("GET", "/api/session", self._session),
            PageRoute("GET", "/api/overview", self._overview),
            PageRoute("GET", "/api/events", self._events.handle),
        ]

    def close(self) -> None:
        """End the answers that have no end."""
        self._events.close()

    def _session(self, _request: Request) -> Answer:
        content = {
            "name": "",
            "role": "operator",
            "manager": self._manager.id,
            "version": _version.__version__,
            "time": time(),
        }
        return json_answer(content, headers=_HEADERS)

    def _overview(self, _request: Request) -> Answer:
        return json_answer(self._source.overview(), headers=_HEADERS)
