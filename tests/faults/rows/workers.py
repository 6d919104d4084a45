"""Workers die, are poisoned, replaced, or go for good."""

from __future__ import annotations

import random
import time
from itertools import pairwise

from tests.faults.processes import Child
from tests.faults.row import row
from tests.faults.stage import Load, Stage, pause, until
from tests.faults.watcher import Watcher
from txmicro.errors import JobError, NoWorkerAvailable
from txmicro.protocol.topology import DELIVERY_LIMIT


@row(
    1,
    "kill -9 a worker mid-job, ≥ 200 times under load",
    "A killed worker's jobs run elsewhere within 2 s and a round trip.",
)
async def kill_workers(stage: Stage) -> None:
    """Every third of a second or so one of four workers is killed, and another one started.

    Copies younger than 1.8 s come back from the broker at once; of the long jobs only a probe finds out.
    """
    kills = 20 if stage.quick else 200
    await stage.manager()
    team = await stage.workers(4)
    load = Load(100, lambda n: stage.send(durable=n % 3 == 0, ms=LONG if n % 21 == 1 else 200))
    killed: list[tuple[str, float]] = []
    while len(killed) < kills:
        await pause(0.3)
        victim = team.pop(random.randrange(len(team)))
        killed.append((victim.id, time.monotonic()))
        await victim.kill()
        team.append(await stage.spawn().ready())
    load.stop()
    await until(lambda: not stage.ledger.open, stage.timeout, "every send ended")
    _rerun(stage, killed)


LONG = 2500
"""Milliseconds of a job that still runs when the broker has long forgotten its copy. None is durable: it would meet so
many deaths that it is rightly taken for poison."""


def _rerun(stage: Stage, killed: list[tuple[str, float]]) -> None:
    """How long after its worker's death each interactive job that ran there began elsewhere."""
    deaths = dict(killed)
    began: dict[str, list[tuple[str, float]]] = {}
    for attempt in stage.book.attempts():
        began.setdefault(attempt.token, []).append((attempt.worker, attempt.at))
    for token, attempts in began.items():
        for (worker, _), (_, again) in pairwise(attempts):
            if worker in deaths and not stage.ledger.entries[token].durable:
                stage.recovered(max(0.0, again - deaths[worker]))
    slowest = stage.result.summary().get("p99", 0.0)
    stage.measured("kills", len(killed))
    stage.require(stage.result.recovery, "no worker was killed amid a job")
    stage.require_within(2.5, slowest, "running elsewhere, at p99,")


@row(
    9,
    "a poison job that kills its worker each time",
    "It is given up after exactly its limit, and takes no other job with it.",
)
async def poison(stage: Stage) -> None:
    """Poison among durable jobs; whoever dies of it is replaced at once.

    One after the other: with another one at the same worker, it might die before it is run, and that counts too.
    """
    poisons = 2 if stage.quick else 5
    await stage.manager()
    team = await stage.workers(3)
    replacing = stage.keep_up(team)
    load = Load(40, lambda n: stage.send(durable=True, ms=50))
    await pause(2)
    stage.timeout = 30 if stage.quick else 60
    watcher = Watcher(stage.node.port)
    stage.at_end(watcher.close)
    dead = "txmicro.dead.WB"
    doomed = []
    buried = 0
    for number in range(poisons):
        doomed.append(stage.send(durable=True, kill=True))
        deadline = time.monotonic() + 60
        while buried <= number and time.monotonic() < deadline:
            await pause(0.2)
            buried = await watcher.messages(dead)
    load.stop()
    await until(lambda: not stage.ledger.open, stage.timeout + 30, "every send ended")
    await pause(1)
    replacing()
    tokens = {entry.token for entry in doomed}
    deaths = [attempt.token for attempt in stage.book.attempts() if attempt.token in tokens]
    stage.measured("attempts of each poison", sorted({deaths.count(token) for token in tokens}))
    stage.require(buried == poisons, f"{buried} of {poisons} poison jobs are among the dead letters")
    stage.require(
        {deaths.count(token) for token in tokens} == {DEATHS}, f"a poison job ran other than {DEATHS} times"
    )
    await stage.node.ctl("purge_queue", dead)


DEATHS = 1 + DELIVERY_LIMIT
"""Attempts of a job that kills its worker: one in the durable queue; then, in quarantine, as many as it may come
back."""


@row(
    14,
    "routing slip of four hops, a kill at each",
    "Every hop has an owner, and its effect happens once.",
)
async def slip(stage: Stage) -> None:
    """Jobs go through W1 to W4, and one worker of each is killed amid them, again and again."""
    rounds = 3 if stage.quick else 15
    kinds = ["W1", "W2", "W3", "W4"]
    await stage.manager()
    teams = {kind: await stage.workers(2, kind) for kind in kinds}
    addresses = [f"{kind}:*" for kind in kinds]

    def send(n: int) -> None:
        if n % 2:
            stage.send(addresses, hops=4, ms=60, durable=n % 4 == 1)
        else:
            stage.send(addresses[0], hops=4, ms=60, to=addresses[1:])

    load = Load(15, send)
    for _ in range(rounds):
        for kind in kinds:
            await pause(0.3)
            victim: Child = teams[kind].pop(0)
            await victim.kill()
            teams[kind].append(await stage.spawn(kind).ready())
    load.stop()
    stage.measured("kills", rounds * len(kinds))


@row(
    15,
    "rolling restart of 20 workers under load",
    "A worker that stops finishes what it has, and gives back nothing that it has started.",
)
async def rolling(stage: Stage) -> None:
    """Each is replaced: a new one starts, then the old one is told to stop."""
    count = 6 if stage.quick else 20
    await stage.manager()
    team = await stage.workers(count)
    load = Load(100, lambda n: stage.send(durable=n % 3 == 0, ms=50))
    for old in list(team):
        await stage.spawn().ready()
        status = await old.stop()
        stage.require(status in (0, -15), f"{old.id} ended with status {status}")
    load.stop()
    await stage.settled()
    stage.require(not stage.duplicates(), f"{stage.duplicates()} jobs were delivered again")


@row(
    16,
    "the last worker of a type goes",
    "Senders are told within two retry intervals that no worker is there.",
    may_fail=(JobError,),
)
async def last_worker(stage: Stage) -> None:
    """Killed or stopped: jobs that are sent afterwards fail with NoWorkerAvailable within two retry intervals."""
    rounds = 4 if stage.quick else 20
    limit = 4.0
    await stage.manager()
    for number in range(rounds):
        (only,) = await stage.workers(1)
        done = stage.send(ms=1)
        await until(lambda: done.ended, 10, "a worker that is there does its job")  # noqa: B023
        await (only.stop() if number % 2 else only.kill())
        entries = [stage.send(ms=1) for _ in range(20)]
        await until(lambda: all(entry.ended for entry in entries), 60, "jobs for nobody end")  # noqa: B023
        for entry in entries:
            stage.recovered((entry.ended or 0) - entry.sent)
            stage.require(
                isinstance(entry.error, NoWorkerAvailable), f"a job for nobody ended with {entry.error!r}"
            )
    slowest = max(stage.result.recovery)
    stage.require_within(limit, slowest, "a typed error")
