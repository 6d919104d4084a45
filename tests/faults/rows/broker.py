"""The broker dies, is blocked, or loses what stands on it."""

from __future__ import annotations

import time

from tests.faults.row import Unmet, row
from tests.faults.stage import Load, Stage, pause, until
from txmicro.errors import NotStored


@row(
    2,
    "kill -9 the single broker under load, ≥ 20 times",
    "Accepted jobs survive the broker; all consumers are back within 5 s after it listens.",
)
async def kill_broker(stage: Stage) -> None:
    """It comes back at once; all consumers shall be back within 5 s after it listens."""
    stage.timeout = 45
    kills = 3 if stage.quick else 20
    await stage.manager()
    await stage.workers(3)
    load = Load(60, lambda n: stage.send(durable=n % 2 == 0, ms=50))
    for _ in range(kills):
        await pause(3)
        stage.node.kill()
        await stage.node.start()
        stage.recovered(await stage.consumers_back(3))
        await pause(2)
    load.stop()
    slowest = max(stage.result.recovery)
    stage.require_within(5, slowest, "until all consumers were back it")


@row(
    11,
    "the type's queues, the inbox, an exchange deleted while in use",
    "What is deleted is declared again within 5 s; a job sent meanwhile is stored, or its sender is told.",
    may_fail=(NotStored,),
)
async def deletions(stage: Stage) -> None:
    """An operator deletes what stands, one thing after the other; jobs shall be done again within 5 s.

    The durable jobs that are in a queue go with it. Those that are sent while there is none are not stored.
    """
    rounds = 1 if stage.quick else 4
    stage.timeout = 40
    await stage.node.ctl("eval", MOVE_ON_EVERY)
    await stage.manager()
    team = await stage.workers(2)
    load = Load(40, lambda n: stage.send(durable=n % 3 == 0, ms=20, fails=int(n % 9 == 0)))
    queues = ["txmicro.jobs.WB", f"txmicro.inbox.{team[0].id}", f"txmicro.inbox.{stage.sender.id}"]
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
            await stage.node.delete_queue(queue)
            await _works_again(stage)
        for queue in durable_queues:
            await pause(1)
            await stage.delete_durable(queue)
            await _works_again(stage)
        for exchange in exchanges[:: 2 if stage.quick else 1]:
            await pause(1)
            await stage.node.ctl("eval", DELETE_EXCHANGE.replace("NAME", exchange))
            await _works_again(stage)
    load.stop()
    slowest = max(stage.result.recovery)
    stage.require_within(5, slowest, "until it worked again it")


# Milliseconds after which RabbitMQ tries again to move on what expired while there was nowhere to move it to.
MOVE_ON_EVERY = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 5000)."

DELETE_EXCHANGE = 'rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"NAME">>), false, <<"test">>).'


async def _works_again(stage: Stage) -> None:
    """Wait for an interactive job, and a durable one that is stored; the longer of the two counts."""
    began = time.monotonic()
    jobs = [stage.send(ms=1), stage.send(ms=1, durable=True)]
    while not all(job.ended for job in jobs) or jobs[1].has_failed:
        if time.monotonic() - began > 20:
            raise Unmet("waited 20 s in vain: jobs are done after a deletion")
        if jobs[1].has_failed:
            jobs[1] = stage.send(ms=1, durable=True)
        await pause(0.05)
    stage.recovered(time.monotonic() - began)


@row(
    7,
    "memory alarm (connection.blocked) for 60 s under load",
    "Jobs wait at their senders, whose resend timers are stopped, and no burst of copies follows.",
)
async def blocked(stage: Stage) -> None:
    """Nothing can be published for a while; afterwards all is done, and without a burst of copies."""
    seconds = 15 if stage.quick else 60
    stage.timeout = 180
    await stage.manager()
    team = await stage.workers(2)
    load = Load(100, lambda n: stage.send(durable=n % 4 == 0, ms=20))
    await pause(3)
    before = [child.memory() for child in team]
    await stage.node.set_memory_watermark(0)
    await pause(seconds)
    grown = max(child.memory() - was for child, was in zip(team, before, strict=True))
    await stage.node.set_memory_watermark(0.4)
    stage.recovered(await _caught_up(stage))
    load.stop()
    await stage.settled()
    stage.measured("a worker's growth (MiB)", round(grown / 2**20, 1))
    stage.require(grown < 64 * 2**20, f"a worker grew by {grown >> 20} MiB while the broker was blocked")
    copies = stage.duplicates()
    stage.require(copies <= 0.01 * len(stage.ledger.entries), f"a burst of {copies} copies afterwards")


async def _caught_up(stage: Stage) -> float:
    """Wait until a job that is sent now is done at once."""
    began = time.monotonic()
    while time.monotonic() - began < 120:
        job = stage.send(ms=1)
        await until(lambda: job.ended, 150, "jobs are done after the alarm")  # noqa: B023
        if (job.ended or 0) - job.sent < 1:
            break
    return time.monotonic() - began
