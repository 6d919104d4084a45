"""Writes numbers in the units of Grafana's panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Scale = Sequence[tuple[float, str]]

SECONDS: Final[Scale] = ((86400, " d"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs"))
BYTES: Final[Scale] = ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B"))
COUNTS: Final[Scale] = ((1e6, " M"), (1e3, " k"))


def _scaled(scale: Scale, suffix: str = "") -> Callable[[float], str]:
    def write(value: float) -> str:
        for size, name in scale:
            if abs(value) >= size:
                return f"{value / size:.3g}{name}{suffix}"
        return f"{value:.3g}{suffix}"

    return write


_WRITERS: Final[dict[str, Callable[[float], str]]] = {
    "short": _scaled(COUNTS),
    "s": _scaled(SECONDS),
    "dtdurations": _scaled(SECONDS),
    "bytes": _scaled(BYTES),
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "ops": _scaled(COUNTS, "/s"),
    "mps": _scaled(COUNTS, "/s"),
    "reqps": _scaled(COUNTS, "/s"),
}


def written(value: float, unit: str) -> str:
    """Return *value* in a panel's unit, with three digits. Raise KeyError for a unit that no panel has."""
    return _WRITERS[unit](value)
