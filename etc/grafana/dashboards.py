"""Grafana's dashboards, as code. ``make dashboards`` writes them to ``etc/grafana/dashboards``, which is committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from .bus import bus
from .overview import overview
from .rest import rest
from .stores import stores
from .worker import worker
from .worker_type import worker_type

FOLDER: Final = Path(__file__).with_name("dashboards")

DASHBOARDS: Final[dict[str, Callable[[], Dashboard]]] = {
    "overview": overview,
    "type": worker_type,
    "worker": worker,
    "bus": bus,
    "rest": rest,
    "stores": stores,
}
"""Each dashboard by the name of its file."""


def text(name: str) -> str:
    """Return the JSON of a dashboard."""
    encoded: str = JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False).encode(
        DASHBOARDS[name]().build()
    )
    return encoded + "\n"


def main() -> None:
    """Write the files."""
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name), "utf-8")


if __name__ == "__main__":
    main()
