"""The control messages that a worker sends: acks, answers, refusals, probes and cancellations."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred

from txmicro.bus.publisher import Publisher
from txmicro.errors import JobError
from txmicro.metrics import ServiceMetrics
from txmicro.protocol import messages
from txmicro.protocol.job import Job, hop_key
from txmicro.protocol.notifications import Inquiry
from txmicro.receiving.answers import Reply
from txmicro.receiving.batching import KeyBatch
from txmicro.util.clock import Clock

_FIRST_HOP: Final = hop_key("", 0)

_KEYS_MAX: Final = 1000
"""Keys in one control message."""


class ControlSender:
    """Sends the control messages of one worker.

    :param worker: its id.
    :ivar acks: jobs that this worker has taken, for their senders.
    :ivar heard: answers that have arrived here, for the workers that gave them.
    :ivar done: hops whose job has ended, for the workers that sent them.
    """

    def __init__(self, clock: Clock, worker: str, publisher: Publisher, metrics: ServiceMetrics) -> None:
        self._worker = worker
        self._publisher = publisher
        self._metrics = metrics
        self.acks = KeyBatch(clock, messages.ACK, self)
        self.heard = KeyBatch(clock, messages.HEARD, self)
        self.done = KeyBatch(clock, messages.DONE, self)

    # For jobs that were taken (receiving.intake.Acker, receiving.answers.AnswerSender)

    def ack(self, job: Job) -> None:
        """Tell the job's sender, shortly, that this worker has the job."""
        self.acks.add(job.key, job.sender)

    def tell_origin(self, job: Job, kind: str, outcome: dict[str, Any]) -> Reply:
        """Tell the job's origin how the job ended, and return the answer; raises EncodeError or MessageTooLarge."""
        reply = Reply(job.origin, kind, self._publisher.encode(job.outcome(self._worker, outcome)))
        self.answer(job.key, reply)
        return reply

    def answer(self, key: str, reply: Reply) -> None:
        """Publish an answer. It replaces the ack of a first hop, whose sender is the origin.

        The sender of a later hop is told when the origin has heard the answer.
        """
        if key.endswith(_FIRST_HOP):
            self.acks.forget(key)
        self._publisher.reply(reply.to, reply.type, key, reply.body)

    def release(self, sender: str, key: str) -> None:
        """Tell worker *sender*, shortly, that the job of its hop has ended."""
        self.done.add(key, sender)

    def refuse(self, job: Job, unrun: bool) -> None:
        """Tell the job's sender that a copy was not run here. *unrun*: nor anywhere else."""
        body = {"worker": self._worker, "keys": [job.key], "unrun": unrun}
        self._publisher.reply(job.sender, messages.REFUSED, job.sender, self._publisher.encode(body))

    # For jobs that were sent (sending.outbox.RequestSender)

    def inquire(self, address: str) -> None:
        """Ask the SystemManagers whether anybody takes jobs for *address*."""
        self._publisher.notify("worker.next", Inquiry(address, self._worker).body())

    def probe(self, worker: str, keys: list[str]) -> None:
        """Ask *worker* which of these jobs it has."""
        self._metrics.record_probe()
        self.send_keys(messages.PROBE, worker, keys)

    def cancel(self, worker: str, key: str) -> None:
        """Tell *worker* that nobody awaits the job of this key any more."""
        self.send_keys(messages.CANCEL, worker, [key])

    def record_failure(self, error: JobError) -> None:
        """Count a job that failed at this worker, which sent it."""
        self._metrics.record_error(error.type)

    # For both

    def send_keys(self, kind: str, worker: str, keys: list[str]) -> None:
        """Send *worker* control messages of *kind* with these keys."""
        for start in range(0, len(keys), _KEYS_MAX):
            body = {"worker": self._worker, "keys": keys[start : start + _KEYS_MAX]}
            self._publisher.reply(worker, kind, worker, self._publisher.encode(body))

    def flush(self) -> Deferred[Any]:
        """Publish the acks that wait.

        Fires when they, and all that was published before, are given to the transport; does not fail. Canceling it
        stops the wait.
        """
        self.acks.flush()
        return self._publisher.flush()

    def close(self) -> None:
        """Publish all that waits, and cancel the timers."""
        for batch in (self.acks, self.heard, self.done):
            batch.flush()
            batch.stop()
