"""The process of a server that a test run starts: it ends with the test run, even if that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# The server is in one process group with a shell, which kills the group at the end of its standard input.
SCRIPT = """
exec 3<&0 0</dev/null
{ cat <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec "$0" "$@" 3<&-
"""


def start_server(
    command: Sequence[str], output: Path, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a server, which writes to the file *output*.

    :param environ: its environment. :param folder: where it runs. None: those of the tests.
    """
    with output.open("wb") as stream:
        # Not the reactor's spawnProcess: between tests, trial allows nothing in its reactor.
        return subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, *command],
            env=environ,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill_server(process: subprocess.Popen[bytes]) -> None:
    """Kill a server's process group (SIGKILL), and wait for the end of its first process."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
