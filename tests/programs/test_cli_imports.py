"""The daemons import nothing of the command line."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.support.programs import ROOT

PROGRAM = """
import sys
import twisted.plugins.txmicro_plugins
import txmicro, txmicro.daemons.tap, txmicro.examples.movies.workers, txmicro.testing, txmicro.workers.db
print(*sorted({"click", "rich", "txmicro.cli", "txmicro.daemons.tap"} & sys.modules.keys()))
"""


class ImportTests(SynchronousTestCase):
    def test_no_daemon_imports_the_command_line_or_its_libraries(self) -> None:
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ("txmicro.daemons.tap\n", ""))
