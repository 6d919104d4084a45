"""Differences of numbers that only grow, and that start again at 0 when their process does."""

from __future__ import annotations

from collections.abc import Mapping

from .report import Counts, Numbers


def added(now: Numbers, before: Numbers) -> Numbers:
    """Return what *now* has more than *before*. A number that has fallen was reset: all of it is new."""
    return Numbers(
        {lane: _counts(counts, before.jobs.get(lane, {})) for lane, counts in now.jobs.items()},
        _histograms(now.wait, before.wait),
        _histograms(now.run, before.run),
        _histograms(now.trip, before.trip),
    )


def _counts(now: Counts, before: Counts) -> Counts:
    return {label: _more(count, before.get(label, 0)) for label, count in now.items()}


def _more(now: int, before: int) -> int:
    return now - before if now >= before else now


def _histograms(now: Mapping[str, list[int]], before: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the histograms to which something was added."""
    changed: dict[str, list[int]] = {}
    for label, counts in now.items():
        known = before.get(label)
        if counts != known:
            changed[label] = counts if known is None else _histogram(counts, known)
    return changed


def _histogram(now: list[int], before: list[int]) -> list[int]:
    difference = [count - known for count, known in zip(now, before, strict=True)]
    return now if min(difference) < 0 else difference
