"""The control messages in a worker's inbox, and the messages that come back: which machine each one is for.

:doc:`/reference/wire` lists them. A message that cannot be understood raises :class:`~txmicro.errors.DecodeError`, and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txmicro.bus.publisher import Publisher
from txmicro.discovery.announcer import Announcer
from txmicro.errors import DecodeError, JobCancelled, JobError
from txmicro.monitoring.report import WATCH
from txmicro.protocol import messages
from txmicro.protocol.failures import rebuild
from txmicro.protocol.job import hop_key, next_key
from txmicro.protocol.notifications import LEVELS
from txmicro.receiving.answers import Answers
from txmicro.receiving.batching import KeyBatch
from txmicro.receiving.intake import Intake
from txmicro.receiving.runner import Runner
from txmicro.sending.outbox import Outbox

from .log_levels import LevelChanges
from .reporter import Reporter


class ControlMessages:
    """Gives each control message to the machine that it is for.

    :param worker: the worker's id.
    :param heard: tells workers that their answers have arrived.
    :param reporter: reports to SystemManagers that watch.
    :param levels: changes the log's levels.
    """

    def __init__(
        self,
        worker: str,
        *,
        outbox: Outbox,
        intake: Intake,
        answers: Answers,
        runner: Runner,
        announcer: Announcer,
        publisher: Publisher,
        heard: KeyBatch,
        reporter: Reporter,
        levels: LevelChanges,
    ) -> None:
        self._worker = worker
        self._outbox = outbox
        self._intake = intake
        self._answers = answers
        self._runner = runner
        self._announcer = announcer
        self._publisher = publisher
        self._heard = heard
        self._reporter = reporter
        self._levels = levels
        self._handlers: dict[str, Callable[[Any], None]] = {
            messages.ACK: self._ack,
            messages.DONE: self._done,
            messages.HEARD: self._was_heard,
            messages.REFUSED: self._refused,
            messages.RESULT: self._result,
            messages.FAILURE: self._failure,
            messages.CANCEL: self._cancel,
            messages.PROBE: self._probe,
            messages.STATUS: self._status,
            messages.ERROR: self._error,
            messages.PEERS: announcer.told_peers,
            messages.LIST: announcer.told_list,
        }

    # From the inbox (bus.worker_channel.Inbox)

    def told(self, kind: str, body: Any) -> None:
        """Handle a control message."""
        handle = self._handlers.get(kind)
        if handle is None:
            raise DecodeError(f"a control message of unknown kind {kind!r:.50}")
        handle(body)

    def notified(self, topic: str, body: Any) -> None:
        """Handle a notification."""
        if topic == WATCH:
            self._reporter.watched(body)
        elif topic == LEVELS:
            self._levels.told(body)
        else:
            self._announcer.notified(topic, body)

    # From the publisher (bus.publisher.Returns)

    def returned(self, kind: str, key: str) -> None:
        """Handle a message that found no queue."""
        if kind == messages.JOB:
            self._outbox.returned(key)
        elif kind == messages.PROBE:
            self._outbox.taker_gone(key)
        elif kind in (messages.RESULT, messages.FAILURE):
            self._answers.unanswered(key)

    def refused(self, key: str, error: JobError) -> None:
        """Fail a job that the broker does not take."""
        self._outbox.failed(key, error)

    # About jobs that this worker sent

    def _ack(self, body: Any) -> None:
        self._outbox.acked(messages.get_worker(body), messages.get_keys(body))

    def _done(self, body: Any) -> None:
        self._outbox.done(messages.get_worker(body), messages.get_keys(body))

    def _result(self, body: Any) -> None:
        key, worker = self._hear(body)
        self._outbox.succeeded(key, worker, body.get("result"))

    def _failure(self, body: Any) -> None:
        key, _ = self._hear(body)
        self._outbox.failed(key, rebuild(body.get("failure")))

    def _hear(self, body: Any) -> tuple[str, str]:
        """Return the key of the job's first hop, and the worker that gave the answer.

        The sender of a later hop may stop watching it, also if nobody awaits the answer here.
        """
        job, worker = messages.get_job_id(body), messages.get_worker(body)
        index = messages.get(body, "workers_list_id", int, 0)
        if index:
            self._heard.add(hop_key(job, index), worker)
        return hop_key(job, 0), worker

    def _refused(self, body: Any) -> None:
        unrun = messages.get(body, "unrun", bool)
        self._outbox.refused(messages.get_worker(body), messages.get_keys(body), unrun=unrun)

    def _status(self, body: Any) -> None:
        self._outbox.status(
            messages.get_worker(body),
            messages.get_keys(body, "running"),
            messages.get(body, "forwarded", dict),
            messages.get_keys(body, "unknown"),
        )

    def _error(self, body: Any) -> None:
        if messages.get(messages.get(body, "target", dict), "id", str) == self._worker:
            self._outbox.no_worker(messages.get(body, "address", str))

    # About jobs that this worker took

    def _was_heard(self, body: Any) -> None:
        for key in messages.get_keys(body):
            self._answers.heard(key)

    def _cancel(self, body: Any) -> None:
        running, forwarded = self._intake.cancelled(messages.get_keys(body))
        for key in running:
            self._runner.cancel(key, JobCancelled("its sender gave the job up"))
        for key in forwarded:
            self._outbox.cancel(next_key(key))

    def _probe(self, body: Any) -> None:
        asker = messages.get_worker(body)
        running, forwarded, unknown = self._intake.probed(asker, messages.get_keys(body))
        status = {"worker": self._worker, "running": running, "forwarded": forwarded, "unknown": unknown}
        self._publisher.reply(asker, messages.STATUS, "", self._publisher.encode(status))
