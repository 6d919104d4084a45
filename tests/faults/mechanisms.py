"""Disables one mechanism of txmicro. The rows that test the mechanism must then fail, or they prove nothing.

``python -m tests.faults --row 2 --quick --without probes`` disables it in the sender of the suite's process and in
all its workers. txmicro itself has no such switch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from txmicro.bus.robust_channel import RobustChannel
from txmicro.protocol.durable_message import DurableMessage
from txmicro.protocol.job import Job
from txmicro.receiving.answers import Answers
from txmicro.receiving.durable_intake import DurableIntake
from txmicro.sending.confirmed import ConfirmedPublisher
from txmicro.sending.outbox import Outbox

WITHOUT = "FAULTS_WITHOUT"
"""The environment variable with the name of the mechanism to disable."""

Replace = Callable[[type, str, Callable[..., Any]], object]
"""``setattr``, or ``patch`` of a test case, which restores the attribute."""


def _nothing(*_: Any) -> None:
    pass


def _memory(replace: Replace) -> None:
    """Do not remember which jobs are done."""
    succeeded = DurableIntake.succeeded

    @wraps(succeeded)
    def forgotten(self: DurableIntake, job: Job) -> None:
        succeeded(self, job)
        self._succeeded.clear()

    replace(Answers, "remember", _nothing)
    replace(DurableIntake, "succeeded", forgotten)


def _probes(replace: Replace) -> None:
    """Do not probe the worker that took a job."""
    replace(Outbox, "_probe_takers", _nothing)


def _republish(replace: Replace) -> None:
    """Do not publish again what was not confirmed."""
    replace(ConfirmedPublisher, "_failed", _nothing)
    replace(ConfirmedPublisher, "_sweep", _nothing)


def _quarantine(replace: Replace) -> None:
    """Do not quarantine a job that was delivered before."""
    arrived = DurableIntake.arrived

    @wraps(arrived)
    def among_the_others(self: DurableIntake, message: DurableMessage) -> None:
        message.quarantined = True
        arrived(self, message)

    replace(DurableIntake, "arrived", among_the_others)


def _redeclare(replace: Replace) -> None:
    """Do not declare again what was declared before."""
    declare, declare_exchange = RobustChannel.declare, RobustChannel.declare_exchange
    declared: set[tuple[RobustChannel, str]] = set()

    def once(declare: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(declare)
        async def declare_once(self: RobustChannel, *arguments: Any) -> None:
            what = self, arguments[-1].name  # a queue, or an exchange
            if what not in declared:
                declared.add(what)
                await declare(self, *arguments)

        return declare_once

    replace(RobustChannel, "declare", once(declare))
    replace(RobustChannel, "declare_exchange", once(declare_exchange))


MECHANISMS: Final[dict[str, Callable[[Replace], None]]] = {
    "memory": _memory,
    "probes": _probes,
    "republish": _republish,
    "quarantine": _quarantine,
    "redeclare": _redeclare,
}


def disable(replace: Replace = setattr) -> None:
    """Disable the mechanism that the environment names, if any."""
    name = os.environ.get(WITHOUT)
    if name:
        MECHANISMS[name](replace)
