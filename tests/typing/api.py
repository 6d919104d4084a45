"""Uses the public API like a program. ``mypy --strict`` checks it in ``make lint``; it is not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_type

from twisted.internet.defer import Deferred

from txmicro import (
    Bus,
    Forward,
    Job,
    JobError,
    JobFuture,
    RetryPolicy,
    SystemManager,
    TxmicroError,
    Worker,
)
from txmicro.config import Config
from txmicro.errors import JobTimeout, NoWorkerAvailable, RemoteError
from txmicro.stores import Store, StoreError, open_store
from txmicro.testing import running


class OutOfStock(JobError):
    """An error with a field of its own."""

    http_status = 409
    retryable = False

    def __init__(self, message: str = "", *, item: str = "", worker: str | None = None) -> None:
        super().__init__(message, worker=worker)
        self.item = item


class Shop(Worker):
    """A worker with a coroutine as its handler, the hooks, and every setting of a class."""

    type = "Shop"
    capacity = 10
    max_runtime = 2.5
    durable = True
    retry = RetryPolicy(attempts=3, steps=(1.0, 10.0), retryable=lambda error: isinstance(error, OSError))

    async def opened(self) -> None:
        await self.subscribe("stock.#", self.stocked, group=True)

    async def closed(self) -> None:
        self.log.info("{worker} closes", worker=self.id)

    async def do_job(self, job: Job) -> dict[str, Any] | Forward:
        assert_type(job.id, str)
        assert_type(job.data, Any)
        assert_type(job.deadline, float)
        assert_type(job.redelivered, bool)
        assert_type(job.traceparent, str | None)
        assert_type(job.workers_list, list[str])
        if job.last:
            return Forward("Bank:*", {"amount": 3})
        if job.durable:
            raise OutOfStock("sold", item=job.key)
        return {"sold": await self.in_thread(len, job.data)}

    async def stocked(self, topic: str, data: Any) -> None:
        self.publish(f"seen.{topic}", data)

    def treat_error(self, error: JobError, job: JobFuture) -> None:
        assert_type(job.address, str)
        assert_type(error.message, str)
        assert_type(error.worker, str | None)
        assert_type(error.type, str)
        self.metrics.record_error(error.type)


class Reports(Worker):
    """A worker with a handler that runs in a thread."""

    type = "Reports"
    threads = True

    def do_job(self, job: Job) -> str:
        return str(job.data)


class Later(Worker):
    """A worker with a handler that returns a Deferred."""

    type = "Later"

    def do_job(self, job: Job) -> Deferred[int]:
        return Deferred()


def twice(job: Job) -> int:
    return 2 * int(job.data)


async def bank(job: Job) -> None:
    """Do nothing (a coroutine function as a handler)."""


FUNCTIONS: list[Worker] = [Worker("Twice", twice), Worker("Bank", do_job=bank, id="Bank:1"), Worker("Sender")]


async def send(worker: Worker) -> None:
    job = worker.send("Shop:*", {"item": "pen"}, timeout=1.5, redeliver=False, traceparent=None)
    assert_type(job, JobFuture)
    assert_type(await job, Any)
    durable = worker.send(["Shop:*", "Bank:*"], durable=True, expires=60, attempts=2)
    await durable.when_stored()
    try:
        await durable
    except OutOfStock as error:
        assert_type(error.item, str)
    except JobTimeout as error:
        assert_type(error.still_queued, bool)
    except RemoteError as error:
        assert_type(error.fields, dict[str, Any])
    except (NoWorkerAvailable, TxmicroError):
        raise


def futures(job: JobFuture) -> None:
    assert_type(job.id, str)
    assert_type(job.address, str)
    assert_type(job.done(), bool)
    assert_type(job.cancelled(), bool)
    assert_type(job.stored(), bool)
    assert_type(job.result(), Any)
    assert_type(job.exception(), JobError | None)
    assert_type(job.when_done(), Deferred[Any])
    assert_type(job.when_accepted(), Deferred[str])
    assert_type(job.when_stored(), Deferred[None])
    assert_type(job.cancel(), bool)


def on_a_bus(bus: Bus, worker: Worker, manager: SystemManager) -> None:
    assert_type(bus.config, Config)
    worker.setServiceParent(bus)
    assert_type(worker.when_ready(), Deferred[Worker])
    assert_type(manager.when_ready(), Deferred[SystemManager])
    assert_type(worker.stopService(), Deferred[None])
    assert_type(worker.list_workers(timeout=2), Deferred[list[dict[str, Any]]])
    assert_type([peer.id for peer in worker.peers], list[str])
    assert_type((worker.pending_jobs, worker.running_jobs), tuple[int, int])
    assert_type((worker.held_jobs, worker.passed_on_jobs), tuple[int, int])
    assert_type(worker.reactor, Any)


def events(worker: Worker, heard: Callable[[str, Any], None]) -> None:
    worker.publish("stock.new", {"item": "pen"})
    worker.publish("stock.empty")
    assert_type(worker.subscribe("stock.*", heard), Deferred[None])
    worker.subscribe("stock.*", lambda topic, data: worker.publish(topic, data))


async def documents(reactor: Any) -> None:
    opened = open_store("sqlite://", reactor, indexes=["year"], texts=("plot",), capacity=4)
    assert_type(opened, Deferred[Store[Any]])
    store = await opened
    assert_type(await store.insert("key", {"year": 1979}, timeout=5), dict[str, Any])
    found = store.find(
        {"year": [1979, 1986]},
        10,
        None,
        ranges={"year": (1970, None)},
        words={"plot": "ship"},
        sort=["-year"],
    )
    assert_type(found, Deferred[list[dict[str, Any]]])
    try:
        await found
    except StoreError as error:
        assert_type(error.retryable, bool)
    await store.close()


async def in_memory(workers: Sequence[Worker]) -> None:
    async with running(*workers, config=Config(timeout=1), manager=False) as client:
        assert_type(client, Worker)
        assert_type(await client.send("Shop:*"), Any)
