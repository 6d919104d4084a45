"""A picture of ``txmicro top`` on a terminal, of the system with which the page is tested."""

from __future__ import annotations

import os
import re
import subprocess
import time
from io import StringIO
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.programs.page.system import PageSystem
from tests.support.programs import BIN

COLUMNS: Final = 120
HISTORY: Final = 8.0
"""Seconds after which the numbers per second have settled."""

FORMAT: Final = re.sub(r"@font-face\s*{{.*?}}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""The format without fonts of other servers: the reader's own are used."""


def make(folder: Path) -> None:
    """Save the picture in *folder*."""
    system = PageSystem(page_data="")
    system.start()
    try:
        time.sleep(HISTORY)
        shown = on_terminal([str(BIN / "txmicro"), "top", "--once", "--page", system.origin])
    finally:
        system.stop()
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown), soft_wrap=True)
    path = folder / "top.svg"
    path.write_text(console.export_svg(title="txmicro top", code_format=FORMAT), "utf-8")
    print(f"{path.name}: {path.stat().st_size // 1024} kB")


def on_terminal(command: list[str]) -> str:
    """Return what *command* writes to a terminal, with the terminal's codes."""
    ours, theirs = os.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "40"}
    for name in ("NO_COLOR", *(name for name in environ if name.startswith("TXMICRO_"))):
        environ.pop(name, None)
    with subprocess.Popen(command, stdout=theirs, env=environ) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65_536):
                parts.append(part)
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return b"".join(parts).decode().replace("\r\n", "\n")
