"""The rows, one module for each kind of fault."""

from __future__ import annotations

from importlib import import_module

NAMES = ("workers", "broker", "managing", "network", "clocks", "volume", "fuzz", "cluster", "partition")


def load() -> None:
    """Register all rows."""
    for name in NAMES:
        import_module(f"{__name__}.{name}")
