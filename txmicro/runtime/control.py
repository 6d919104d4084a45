"""What stands in a worker's inbox: control messages, and which of its machines they are for.

:doc:`/reference/wire` has them all. What is not understood raises :class:`~txmicro.errors.DecodeError`, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txmicro.bus.publisher import Publisher
from txmicro.discovery.membership import Membership
from txmicro.errors import DecodeError, JobCancelled
from txmicro.protocol import messages
from txmicro.protocol.failures import rebuild
from txmicro.protocol.job import hop_key, next_key
from txmicro.receiving.ack_batch import AckBatch
from txmicro.receiving.intake import Intake
from txmicro.receiving.runner import Runner
from txmicro.sending.outbox import Outbox


class ControlMessages:
    """See the module.

    :param worker: id of the worker whose it is.
    :param heard: tells who has answered that the answer has arrived.
    """

    def __init__(
        self,
        worker: str,
        *,
        outbox: Outbox,
        intake: Intake,
        runner: Runner,
        membership: Membership,
        post: Publisher,
        heard: AckBatch,
    ) -> None:
        self._worker = worker
        self._outbox = outbox
        self._intake = intake
        self._runner = runner
        self._post = post
        self._heard = heard
        self._hearers: dict[str, Callable[[Any], None]] = {
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
            messages.PEERS: membership.told_peers,
            messages.LIST: membership.told_list,
        }

    def told(self, kind: str, body: Any) -> None:
        """A control message of *kind* has come."""
        hear = self._hearers.get(kind)
        if hear is None:
            raise DecodeError(f"a control message of unknown kind {kind!r:.50}")
        hear(body)

    # Of jobs that were sent

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
        """A job's answer has arrived. Whoever watches over its last hop may stop, also if nobody awaits it here."""
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
            self._outbox.nobody(messages.get(body, "address", str))

    # Of jobs that were taken

    def _was_heard(self, body: Any) -> None:
        for key in messages.get_keys(body):
            self._intake.heard(key)

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
        self._post.reply(asker, messages.STATUS, "", self._post.encode(status))
