"""Make the pictures that the command line names, or all: ``python -m docs.screenshots [page ...]``.

Each other module of this package makes some. Its function ``make`` takes the folder for the pictures.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from docs import screenshots

FOLDER = Path(__file__).parent.parent / "images"


def main(names: list[str]) -> None:
    """Make the pictures of the modules with *names*; none: of all."""
    known = [
        module.name for module in pkgutil.iter_modules(screenshots.__path__) if module.name != "__main__"
    ]
    if unknown := sorted({*names} - {*known}):
        sys.exit(f"{', '.join(unknown)}: expected {', '.join(known)}")
    for name in names or known:
        import_module(f"docs.screenshots.{name}").make(FOLDER)


main(sys.argv[1:])
