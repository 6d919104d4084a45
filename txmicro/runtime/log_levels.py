"""Applies the changes of log levels that a SystemManager publishes."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from txmicro.errors import DecodeError
from txmicro.protocol.notifications import LevelChange
from txmicro.util.log_levels import LogLevels


class LevelChanges:
    """Changes the levels of this process.

    :param worker: the id of the worker or SystemManager that hears of the changes.
    """

    log = Logger()

    def __init__(self, levels: LogLevels, worker: str) -> None:
        self._levels = levels
        self.id = worker

    def told(self, body: Any) -> None:
        """Make the change *body*, if it is for this process; raise DecodeError if it is not valid."""
        change = LevelChange.from_body(body)
        if change.type not in ("", self.id.partition(":")[0]):
            return
        before = self._levels.all
        try:
            self._levels.set(change.component, change.level)
        except ValueError as error:
            raise DecodeError(str(error)) from error
        if self._levels.all != before:  # several workers of a process hear of it
            self.log.info(
                "{worker}: a SystemManager has set the log level of {component} to {chosen}, until this process ends",
                worker=self.id,
                component=change.component,
                chosen=change.level or "the configured one",
            )
