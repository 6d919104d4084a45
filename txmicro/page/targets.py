"""The page ``GET /sd`` of a process with a SystemManager: what Prometheus' ``http_sd_config`` reads.

It lists the metrics addresses of all workers that the manager knows, and the manager's own. Each address is listed
once, because the workers of a process share it.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from twisted.logger import Logger
from twisted.web.server import Request

from txmicro.manager import TYPE, SystemManager
from txmicro.protocol.notifications import Announcement
from txmicro.util.log_once import LogOnce

from .site import Answer, PageRoute, json_answer

LABEL: Final = "worker_type"
"""The label of the targets: a worker type, or several of them with commas. Ids would make new series at each start."""

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+):[0-9]{1,5}", re.ASCII)


class Targets:
    """The page; see the module.

    :param own: returns the address of this process's own metrics page; empty: there is none.
    :param host: the name of this machine; empty: ask the system.
    """

    log = Logger()

    def __init__(self, manager: SystemManager, own: Callable[[], str], host: str = "") -> None:
        self._manager = manager
        self._own = own
        self._host = host or socket.gethostname()
        self._logged = LogOnce()

    @property
    def route(self) -> PageRoute:
        """The route of the page."""
        return PageRoute("GET", "/sd", self._page)

    def _page(self, _request: Request) -> Answer:
        """Return the target groups as JSON."""
        return json_answer(self.groups())

    def groups(self) -> list[dict[str, Any]]:
        """Return the target groups: addresses with the same labels."""
        groups: dict[str, list[str]] = defaultdict(list)
        for address, types in sorted(self._types().items()):
            groups[",".join(sorted(types))].append(address)
        return [{"targets": targets, "labels": {LABEL: types}} for types, targets in sorted(groups.items())]

    def _types(self) -> dict[str, set[str]]:
        """Return the types of the workers behind each address."""
        found: dict[str, set[str]] = defaultdict(set)
        if own := self._own():
            found[own].add(TYPE)
        if self._manager.running:
            registry = self._manager.registry
            for worker in (worker for kind in registry.counts() for worker in registry.of_type(kind)):
                if self._is_reachable(worker):
                    found[worker.metrics].add(worker.type)
        return found

    def _is_reachable(self, worker: Announcement) -> bool:
        """Return whether the worker's address is valid, and not a loopback address of another machine."""
        if not _ADDRESS.fullmatch(worker.metrics):
            return False
        if worker.host == self._host or not _is_loopback(worker.metrics):
            return True
        if self._logged.first(worker.host):
            self.log.warn(
                "{worker} is not a target at /sd: only its own host, {host}, reaches its metrics at {address}; "
                "set metrics_interface there (logged once for each host)",
                worker=worker.id,
                host=worker.host,
                address=worker.metrics,
            )
        return False


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
