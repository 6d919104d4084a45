"""txmicro with one mechanism taken out: the rows that rest on it must then fail, or they prove nothing.

``python -m tests.faults --row 2 --quick --without probes``; the sender in the suite's process and all its workers
then lack it. Only here: the product knows nothing of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from txmicro.bus.robust_channel import RobustChannel
from txmicro.protocol.durable_message import DurableMessage
from txmicro.protocol.job import Job
from txmicro.receiving.durable_intake import DurableIntake
from txmicro.receiving.intake import Intake
from txmicro.sending.confirmed import ConfirmedPublisher
from txmicro.sending.outbox import Outbox

WITHOUT = "FAULTS_WITHOUT"
"""The environment's variable that names what is taken out."""

Replace = Callable[[type, str, Callable[..., Any]], object]
"""``setattr``, or a test's ``patch``, which takes itself back."""


def _nothing(*_: Any) -> None:
    pass


def _memory(replace: Replace) -> None:
    """Nobody remembers which jobs it has done."""
    succeeded = DurableIntake.succeeded

    @wraps(succeeded)
    def forgotten(self: DurableIntake, job: Job) -> None:
        succeeded(self, job)
        self._succeeded.clear()

    replace(Intake, "remember", _nothing)
    replace(DurableIntake, "succeeded", forgotten)


def _probes(replace: Replace) -> None:
    """Who took a job is never asked about it."""
    replace(Outbox, "_probe_takers", _nothing)


def _republish(replace: Replace) -> None:
    """What was not confirmed is not published again."""
    replace(ConfirmedPublisher, "_failed", _nothing)
    replace(ConfirmedPublisher, "_sweep", _nothing)


def _quarantine(replace: Replace) -> None:
    """What was delivered before is tried again among the others."""
    arrived = DurableIntake.arrived

    @wraps(arrived)
    def among_the_others(self: DurableIntake, message: DurableMessage) -> None:
        message.quarantined = True
        arrived(self, message)

    replace(DurableIntake, "arrived", among_the_others)


def _redeclare(replace: Replace) -> None:
    """What stood once is taken to stand for ever."""
    declare, declare_exchange = RobustChannel.declare, RobustChannel.declare_exchange
    stood: set[tuple[RobustChannel, str]] = set()

    def once(declare: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(declare)
        async def declare_once(self: RobustChannel, *arguments: Any) -> None:
            what = self, arguments[-1].name  # a queue, or an exchange
            if what not in stood:
                stood.add(what)
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


def take_out(replace: Replace = setattr) -> None:
    """Take out what the environment says, if anything."""
    name = os.environ.get(WITHOUT)
    if name:
        MECHANISMS[name](replace)
