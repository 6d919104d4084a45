"""The texts of the errors that pending jobs end with: what became of a job until then."""

from __future__ import annotations

from typing import Final

from txmicro.protocol.messages import NO_WORKER_TEXT

from .pending import DURABLE, PendingJob

_WORTH_SAYING: Final = 0.5
"""Seconds of pauses that a text mentions."""


def why_late(job: PendingJob, lived: float, paused: float, obstacle: str, window: tuple[int, int]) -> str:
    """Return the text for a job whose deadline has passed.

    :param lived: seconds since the job was added. :param paused: how many of them nothing could be published.
    :param obstacle: why not.
    :param window: how many jobs for the address are out, and how many wait.
    """
    parts = [f"{job.address} gave no result within {lived:.1f} s: {_whereabouts(job, window)}"]
    if job.missing_takers:
        parts.append(f"taken before by {', '.join(job.missing_takers)}, missing since")
    if paused >= _WORTH_SAYING:
        parts.append(f"for {paused:.1f} s nothing could be published: {obstacle or 'sending was paused'}")
    return "; ".join(parts)


def _whereabouts(job: PendingJob, window: tuple[int, int]) -> str:
    if job.state is DURABLE:
        if not job.stored:
            return "the broker has not confirmed that it has the job"
        taken = f"{job.last_taker} took it" if job.last_taker else "no worker has taken it"
        return f"the broker has the job, which may still be done; {taken}"
    if not job.copies and job.taker is None:
        out, waiting = window
        return f"not sent; {out} jobs for the address were sent and not taken, {waiting} waited"
    times = "once" if job.copies == 1 else f"{job.copies} times"
    sent = f"sent {times}, first after {job.sent_at - job.queued_at:.1f} s"
    if job.taker is not None:
        return f"{sent}, taken by {job.taker} after {job.taken_at - job.queued_at:.1f} s"
    if not job.unreturned:
        return f"{sent}, taken by no worker, as there was no queue for it"
    return f"{sent}; no worker has acknowledged it: all are busy, or the one that has it cannot answer"


def why_lost(job: PendingJob) -> str:
    """Return the text for a job that may have run, and must not run again."""
    taker = job.taker or "a worker that has not acknowledged it"
    if not job.redeliver:
        return f"it may have run at {taker}, which is gone"
    return f"{', '.join((*job.missing_takers, taker))} took it, and none has it any more: it may be what ends them"


def why_no_worker(job: PendingJob) -> str:
    """Return the text for a job that no worker can run."""
    note = " (a copy of the job reached a queue, and no worker has acknowledged it)" if job.unreturned else ""
    return f"{NO_WORKER_TEXT}: {job.address}{note}"
