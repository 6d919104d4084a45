"""Rows: workers are killed, run poison jobs, are replaced, or leave for good."""

from __future__ import annotations

import random
import time
from itertools import pairwise

from tests.faults.context import Load, RowContext, pause, until
from tests.faults.processes import Child
from tests.faults.row import row
from tests.faults.watcher import Watcher
from txmicro.errors import JobError, NoWorkerAvailable
from txmicro.protocol.topology import DELIVERY_LIMIT


@row(
    1,
    "kill -9 a worker mid-job, ≥ 200 times under load",
    "A killed worker's jobs run elsewhere within 2 s and a round trip.",
)
async def kill_workers(context: RowContext) -> None:
    """Kill one of four workers about three times per second, and start another one.

    The broker returns copies younger than 1.8 s at once. Only a probe detects the loss of a longer job.
    """
    kills = 20 if context.quick else 200
    await context.manager()
    workers = await context.workers(4)
    load = Load(100, lambda n: context.send(durable=n % 3 == 0, ms=LONG if n % 21 == 1 else 200))
    killed: list[tuple[str, float]] = []
    while len(killed) < kills:
        await pause(0.3)
        victim = workers.pop(random.randrange(len(workers)))
        killed.append((victim.id, time.monotonic()))
        await victim.kill()
        workers.append(await context.spawn().ready())
    load.stop()
    await until(lambda: not context.sent_jobs.open, context.timeout, "every job has ended")
    _rerun(context, killed)


LONG = 2500
"""Milliseconds of a job that outlives the TTL of its copy at the broker. None of them is durable: such a job would
meet so many killed workers that it is quarantined as poison.
"""


def _rerun(context: RowContext, killed: list[tuple[str, float]]) -> None:
    """Record how long after its worker's death each interactive job was started elsewhere."""
    deaths = dict(killed)
    began: dict[str, list[tuple[str, float]]] = {}
    for attempt in context.executions.attempts():
        began.setdefault(attempt.token, []).append((attempt.worker, attempt.at))
    for token, attempts in began.items():
        for (worker, _), (_, again) in pairwise(attempts):
            if worker in deaths and not context.sent_jobs.entries[token].durable:
                context.recovered(max(0.0, again - deaths[worker]))
    slowest = context.result.summary().get("p99", 0.0)
    context.measured("kills", len(killed))
    context.require(context.result.recovery, "no worker was killed during a job")
    context.require_within(2.5, slowest, "the start elsewhere, at p99,")


@row(
    9,
    "a poison job that kills its worker each time",
    "It is quarantined after exactly its limit, and no other job is lost with it.",
)
async def poison(context: RowContext) -> None:
    """Send poison among durable jobs, and replace each worker that it kills at once.

    One after the other: a second one at the same worker might be killed before it is run, and that counts, too.
    """
    poisons = 2 if context.quick else 5
    await context.manager()
    workers = await context.workers(3)
    replacing = context.keep_running(workers)
    load = Load(40, lambda n: context.send(durable=True, ms=50))
    await pause(2)
    context.timeout = 30 if context.quick else 60
    watcher = Watcher(context.node.port)
    context.at_end(watcher.close)
    dead = "txmicro.dead.WB"
    kills_worker = []
    buried = 0
    for number in range(poisons):
        kills_worker.append(context.send(durable=True, kill=True))
        deadline = time.monotonic() + 60
        while buried <= number and time.monotonic() < deadline:
            await pause(0.2)
            buried = await watcher.messages(dead)
        await pause(0.5)  # a worker that is killed before it has acknowledged the job buries it twice
    load.stop()
    await until(lambda: not context.sent_jobs.open, context.timeout + 30, "every job has ended")
    await pause(1)
    replacing()
    tokens = {entry.token for entry in kills_worker}
    deaths = [attempt.token for attempt in context.executions.attempts() if attempt.token in tokens]
    context.measured("attempts of each poison", sorted({deaths.count(token) for token in tokens}))
    context.require(buried == poisons, f"{buried} of {poisons} poison jobs are among the dead letters")
    context.require(
        {deaths.count(token) for token in tokens} == {DEATHS}, f"a poison job ran other than {DEATHS} times"
    )
    await context.node.ctl("purge_queue", dead)


DEATHS = 1 + DELIVERY_LIMIT
"""Attempts of a job that kills its worker: one in the durable queue, then DELIVERY_LIMIT in quarantine."""


@row(
    14,
    "routing slip of four hops, a kill at each",
    "Every hop has an owner, and its effect happens once.",
)
async def slip(context: RowContext) -> None:
    """Send jobs through W1 to W4, and kill one worker of each type during its jobs, repeatedly."""
    rounds = 3 if context.quick else 15
    kinds = ["W1", "W2", "W3", "W4"]
    await context.manager()
    groups = {kind: await context.workers(2, kind) for kind in kinds}
    addresses = [f"{kind}:*" for kind in kinds]

    def send(n: int) -> None:
        if n % 2:
            context.send(addresses, hops=4, ms=60, durable=n % 4 == 1)
        else:
            context.send(addresses[0], hops=4, ms=60, to=addresses[1:])

    load = Load(15, send)
    for _ in range(rounds):
        for kind in kinds:
            await pause(0.3)
            victim: Child = groups[kind].pop(0)
            await victim.kill()
            groups[kind].append(await context.spawn(kind).ready())
    load.stop()
    context.measured("kills", rounds * len(kinds))


@row(
    15,
    "rolling restart of 20 workers under load",
    "A worker that stops finishes what it has, and gives back nothing that it has started.",
)
async def rolling(context: RowContext) -> None:
    """Replace each worker: start a new one, then stop the old one."""
    count = 6 if context.quick else 20
    await context.manager()
    workers = await context.workers(count)
    load = Load(100, lambda n: context.send(durable=n % 3 == 0, ms=50))
    for old in list(workers):
        await context.spawn().ready()
        status = await old.stop()
        context.require(status in (0, -15), f"{old.id} ended with status {status}")
    load.stop()
    await context.settled()
    context.require(not context.duplicates(), f"{context.duplicates()} jobs were delivered again")


@row(
    16,
    "the last worker of a type leaves",
    "Senders are told within two retry intervals that there is no worker.",
    may_fail=(JobError,),
)
async def last_worker(context: RowContext) -> None:
    """Kill or stop the last worker. Later jobs must fail with NoWorkerAvailable within two retry intervals."""
    rounds = 4 if context.quick else 20
    limit = 4.0
    await context.manager()
    for number in range(rounds):
        (only,) = await context.workers(1)
        done = context.send(ms=1)
        await until(lambda: done.ended, 10, "the last worker does its job")  # noqa: B023
        await (only.stop() if number % 2 else only.kill())
        entries = [context.send(ms=1) for _ in range(20)]
        await until(lambda: all(entry.ended for entry in entries), 60, "jobs without a worker end")  # noqa: B023
        for entry in entries:
            context.recovered((entry.ended or 0) - entry.sent)
            context.require(
                isinstance(entry.error, NoWorkerAvailable),
                f"a job without a worker ended with {entry.error!r}",
            )
    slowest = max(context.result.recovery)
    context.require_within(limit, slowest, "a typed error")
