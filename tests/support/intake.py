"""An intake and its answers, with a channel, a runner and a sender that record their calls."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.deliveries import NotingChannel
from txmicro.protocol.job import Job
from txmicro.protocol.messages import RESULT
from txmicro.receiving.answers import Answers, Reply
from txmicro.receiving.intake import Intake
from txmicro.receiving.slots import Slots

ANSWER = Reply("WA:1", RESULT, b"42")


class IntakeCase(SynchronousTestCase):
    """Creates an intake, and records in ``events`` the calls that it and its answers make."""

    capacity = 2

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[tuple[Any, ...]] = []
        self.channel = NotingChannel(self.events, "settle")
        self.slots = Slots(self.capacity)
        self.intake = self.make()

    def make(self, **limits: Any) -> Intake:
        """Return an intake whose answers have *limits*."""
        self.answers = Answers(self.clock, self, **limits)
        return Intake(self.clock, self.slots, self, self, self.answers)

    # Called by the intake and the answers (Starter, Acker, AnswerSender)

    def start(self, job: Job) -> None:
        self.events.append(("start", job.key))

    def ack(self, job: Job) -> None:
        self.events.append(("ack", job.key, job.sender))

    def answer(self, key: str, reply: Reply) -> None:
        self.events.append(("answer", key, reply))

    def release(self, sender: str, key: str) -> None:
        self.events.append(("free", sender, key))

    def refuse(self, job: Job, unrun: bool) -> None:
        self.events.append(("refuse", job.key, unrun))

    # Used by the tests

    def arrive(
        self, *ids: str, deadline: float = 30.0, sender: str = "WA:1", hop: int = 0, **flags: Any
    ) -> None:
        for id in ids:
            at = self.clock.seconds() + deadline
            job = Job(id, None, ["WB:*"] * (hop + 1), hop, sender, "WA:1", at, **flags)
            self.intake.arrived(job, self.channel.deliver(job.key))

    def lose_channel(self) -> None:
        """Close the channel, and open another one."""
        self.channel.closed = True
        self.channel = NotingChannel(self.events, "settle")
        self.intake.reset()

    def resume(self) -> None:
        """Let jobs start again."""
        self.slots.paused = False
        self.intake.start_held()

    def heard(self) -> list[tuple[Any, ...]]:
        """Return what happened since the last call."""
        events, self.events[:] = list(self.events), []
        return events
