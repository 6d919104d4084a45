"""Rows: the broker is killed, is blocked, or loses its queues and exchanges."""

from __future__ import annotations

import time

from tests.faults.context import Load, RowContext, pause, until
from tests.faults.row import TimedOut, row
from txmicro.errors import NotStored


@row(
    2,
    "kill -9 the single broker under load, ≥ 20 times",
    "Accepted jobs survive the broker; all consumers are back within 5 s after it listens.",
)
async def kill_broker(context: RowContext) -> None:
    """Kill the broker, and start it at once. All consumers must be back within 5 s after it listens."""
    context.timeout = 45
    kills = 3 if context.quick else 20
    await context.manager()
    await context.workers(3)
    load = Load(60, lambda n: context.send(durable=n % 2 == 0, ms=50))
    for _ in range(kills):
        await pause(3)
        context.node.kill()
        await context.node.start()
        context.recovered(await context.consumers_back(3))
        await pause(2)
    load.stop()
    slowest = max(context.result.recovery)
    context.require_within(5, slowest, "until all consumers were back it")


@row(
    11,
    "the type's queues, the inbox, an exchange deleted while in use",
    "What is deleted is declared again within 5 s; a job sent meanwhile is stored, or its sender is told.",
    may_fail=(NotStored,),
)
async def deletions(context: RowContext) -> None:
    """Delete each queue and exchange, one after the other. Jobs must be done again within 5 s.

    The durable jobs in a deleted queue are deleted, too. Those that are sent while there is no queue are not stored.
    """
    rounds = 1 if context.quick else 4
    context.timeout = 40
    await context.node.ctl("eval", MOVE_ON_EVERY)
    await context.manager()
    workers = await context.workers(2)
    load = Load(40, lambda n: context.send(durable=n % 3 == 0, ms=20, fails=int(n % 9 == 0)))
    queues = ["txmicro.jobs.WB", f"txmicro.inbox.{workers[0].id}", f"txmicro.inbox.{context.sender.id}"]
    durable_queues = [
        *("txmicro.jobs.WB.durable", "txmicro.quarantine.WB"),
        *("txmicro.retry.WB.500", "txmicro.dead.WB"),
    ]
    exchanges = [
        *("txmicro.to.WB", "txmicro.replies.WB", "txmicro.durable.WB"),
        *("txmicro.replies.SENDER", "txmicro.notifications", "txmicro.events"),
    ]
    for _ in range(rounds):
        for queue in queues:
            await pause(1)
            await context.node.delete_queue(queue)
            await _works_again(context)
        for queue in durable_queues:
            await pause(1)
            await context.delete_durable(queue)
            await _works_again(context)
        for exchange in exchanges[:: 2 if context.quick else 1]:
            await pause(1)
            await context.node.ctl("eval", DELETE_EXCHANGE.replace("NAME", exchange))
            await _works_again(context)
    load.stop()
    slowest = max(context.result.recovery)
    context.require_within(5, slowest, "until it worked again it")


# Milliseconds after which RabbitMQ tries again to dead-letter expired messages for which there was no route.
MOVE_ON_EVERY = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 5000)."

DELETE_EXCHANGE = 'rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"NAME">>), false, <<"test">>).'


async def _works_again(context: RowContext) -> None:
    """Wait for an interactive job, and a durable one that is stored. The longer time of the two counts."""
    began = time.monotonic()
    jobs = [context.send(ms=1), context.send(ms=1, durable=True)]
    while not all(job.ended for job in jobs) or jobs[1].has_failed:
        if time.monotonic() - began > 20:
            raise TimedOut("not within 20 s: jobs are done after a deletion")
        if jobs[1].has_failed:
            jobs[1] = context.send(ms=1, durable=True)
        await pause(0.05)
    context.recovered(time.monotonic() - began)


@row(
    7,
    "memory alarm (connection.blocked) for 60 s under load",
    "Jobs wait at their senders, whose resend timers are stopped, and no burst of copies follows.",
)
async def blocked(context: RowContext) -> None:
    """Block all publishing for a while. Afterwards all jobs are done, without a burst of copies."""
    seconds = 15 if context.quick else 60
    context.timeout = 180
    await context.manager()
    workers = await context.workers(2)
    load = Load(100, lambda n: context.send(durable=n % 4 == 0, ms=20))
    await pause(3)
    before = [child.memory() for child in workers]
    await context.node.set_memory_watermark(0)
    await pause(seconds)
    grown = max(child.memory() - was for child, was in zip(workers, before, strict=True))
    await context.node.set_memory_watermark(0.4)
    context.recovered(await _caught_up(context))
    load.stop()
    await context.settled()
    context.measured("a worker's growth (MiB)", round(grown / 2**20, 1))
    context.require(grown < 64 * 2**20, f"a worker grew by {grown >> 20} MiB while the broker was blocked")
    copies = context.duplicates()
    context.require(copies <= 0.01 * len(context.sent_jobs.entries), f"a burst of {copies} copies afterwards")


async def _caught_up(context: RowContext) -> float:
    """Wait until a job that is sent now is done at once."""
    began = time.monotonic()
    while time.monotonic() - began < 120:
        job = context.send(ms=1)
        await until(lambda: job.ended, 150, "jobs are done after the alarm")  # noqa: B023
        if (job.ended or 0) - job.sent < 1:
            break
    return time.monotonic() - began
