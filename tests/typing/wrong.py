"""Wrong uses of the public API, each of which ``mypy --strict`` must reject.

A comment that ignores no error is itself an error (``warn_unused_ignores``), so each line here pins one rejection.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from txmicro import Forward, Job, JobFuture, RetryPolicy, Worker
from txmicro.config import Config
from txmicro.stores import open_store
from txmicro.testing import running


class WrongHandler(Worker):
    def do_job(self) -> str:  # type: ignore[override]
        return ""


class WrongSettings(Worker):
    type = 1  # type: ignore[assignment]
    threads = "yes"  # type: ignore[assignment]
    capacity = 1.5  # type: ignore[assignment]
    retry = 3  # type: ignore[assignment]


class WrongHook(Worker):
    def treat_error(self, error: str, job: JobFuture) -> None:  # type: ignore[override]
        pass


def no_job() -> None: ...


def wrong_functions() -> None:
    Worker("TYPE", no_job)  # type: ignore[arg-type]
    Worker("TYPE", None, "TYPE:1")  # type: ignore[call-arg]
    Worker(type=1)  # type: ignore[arg-type]


def wrong_jobs(worker: Worker) -> None:
    worker.send(1)  # type: ignore[arg-type]
    worker.send("TYPE:*", timeout="1")  # type: ignore[arg-type]
    worker.send("TYPE:*", None, 1.5)  # type: ignore[call-arg]
    worker.send("TYPE:*", durable=1.5)  # type: ignore[arg-type]
    worker.send("TYPE:*", attempts=1.5)  # type: ignore[arg-type]
    worker.transmit("TYPE:*")  # type: ignore[attr-defined]


def wrong_futures(job: JobFuture) -> None:
    _taken: Deferred[int] = job.when_accepted()  # type: ignore[assignment]
    _stored: bool = job.stored  # type: ignore[assignment]
    if job.done:  # type: ignore[truthy-function]
        job.set_result(1)  # type: ignore[attr-defined]
    job.cancel("reason")  # type: ignore[call-arg]


def wrong_events(worker: Worker) -> None:
    worker.publish(b"topic")  # type: ignore[arg-type]
    worker.subscribe("topic.#", "handler")  # type: ignore[arg-type]
    worker.subscribe("topic.#", lambda data: None)  # type: ignore[arg-type, misc]
    worker.subscribe("topic.#", print, True)  # type: ignore[call-arg]


def wrong_values(job: Job) -> None:
    Forward()  # type: ignore[call-arg]
    Forward("TYPE:*").address = ""  # type: ignore[misc]
    RetryPolicy(attempts="3")  # type: ignore[arg-type]
    RetryPolicy(steps=[1.0])  # type: ignore[arg-type]
    Config(timeout="30")  # type: ignore[arg-type]
    job.workers  # type: ignore[attr-defined] # noqa: B018


async def wrong_documents(reactor: object) -> None:
    store = await open_store("sqlite://")  # type: ignore[call-arg]
    await store.insert({"year": 1979})  # type: ignore[call-arg, arg-type]
    await store.find(limit="10")  # type: ignore[arg-type]


async def wrong_tests(worker: Worker) -> None:
    with running(worker):  # type: ignore[attr-defined]
        pass
    async with running("TYPE"):  # type: ignore[arg-type]
        pass
