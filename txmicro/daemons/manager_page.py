"""The page of a SystemManager: its parts, and their start and stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txmicro.bus.connections import Bus
from txmicro.bus.targets import Target
from txmicro.config import Config
from txmicro.manager import SystemManager
from txmicro.page.access import Access
from txmicro.page.api.api import Api
from txmicro.page.dead_letters import DeadLetterOperations
from txmicro.page.files import file_routes
from txmicro.page.memory.memory import JobMemory
from txmicro.page.monitor import Monitor
from txmicro.page.site import PageRoute


class ManagerPage(Service):
    """The page of *manager*, whose bus is *bus*. The monitor becomes a child of *bus*.

    :param brokers: the brokers of the bus. They are asked about dead letters.
    :ivar routes: what the server of the process's pages serves.
    """

    log = Logger()

    def __init__(
        self, manager: SystemManager, bus: Bus, brokers: Sequence[Target], config: Config, reactor: Any
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._monitor = Monitor(manager)
        self._monitor.setServiceParent(bus)
        self._access = Access(
            config.page_readers, config.page_operators, interface=config.metrics_interface, clock=reactor
        )
        self._api = Api(
            manager,
            self._monitor,
            DeadLetterOperations(brokers, config.heartbeat, reactor, bus.ids.time),
            self._access,
            clock=reactor,
            time=bus.ids.time,
        )

    @property
    def routes(self) -> Iterable[PageRoute]:
        """The routes of the API and of the static files."""
        return [*self._api.routes, *map(self._api.guard, file_routes())]

    def startService(self) -> None:
        """Start to remember jobs."""
        super().startService()
        memory = JobMemory(self._reactor, self._config.page_data, self._config.page_jobs)
        self._api.memory = memory
        self._monitor.memory = memory

    def log_address(self, address: str) -> None:
        """Log where the page is; empty: its port is in use, which has been logged."""
        if self._access.closed:
            self.log.warn(
                "the page for operators answers nobody: it has no accounts, and other machines reach it; "
                "set page_operators, or metrics_interface to 127.0.0.1"
            )
        elif address:
            self.log.info("the page for operators is http://{address}/", address=address)

    def stopService(self) -> Deferred[None]:
        """End the answers that have no end, and what operators do. Fires when the memory is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._api.close()
        memory, self._api.memory, self._monitor.memory = self._api.memory, None, None
        if memory is not None:
            await memory.close()
