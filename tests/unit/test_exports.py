"""The public names. A change that adds, renames or removes one also changes this file, and the changelog."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

import txmicro
import txmicro.workers

PUBLIC = {
    "txmicro": "Bus Forward Job JobError JobFuture RetryPolicy SystemManager TxmicroError Worker",
    "txmicro.errors": """
        AddressError BadRequest BusClosed BusOverloaded ConfigError ConsumerCancelled DecodeError DuplicateWorker
        EncodeError JobCancelled JobError JobNotDone JobTimeout MessageTooLarge NoAnswer NoWorkerAvailable NotPermitted
        NotStored QueueLocked QueueMismatch RemoteError RuntimeExceeded TooManyHops TxmicroError WorkerLost
        WorkerStopped WrongThread is_unexpected reason_of show
    """,
    "txmicro.testing": "memory_bus running",
    "txmicro.stores": "DocumentTooDeep DocumentTooLarge Store StoreError StoreTimeout open_store",
    "txmicro.workers": "",
    "txmicro.workers.db": "DBWorker",
    "txmicro.workers.logger": "LoggerWorker format_json format_line",
    "txmicro.workers.rest": "RestWorker document query status",
}


def public(module: ModuleType) -> set[str]:
    """Return the names that *module* says it exports, or else the public classes and functions it defines."""
    defined = {
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    }
    return set(getattr(module, "__all__", {name for name in defined if not name.startswith("_")}))


class ExportTests(SynchronousTestCase):
    def test_the_public_names_are_these(self) -> None:
        for name, expected in PUBLIC.items():
            self.assertEqual(sorted(public(import_module(name))), sorted(expected.split()), name)

    def test_every_exported_name_exists(self) -> None:
        for name in PUBLIC:
            module = import_module(name)
            self.assertEqual([each for each in public(module) if not hasattr(module, each)], [], name)

    def test_the_package_has_no_other_names(self) -> None:
        names = {name for name, value in vars(txmicro).items() if not isinstance(value, ModuleType)}
        self.assertEqual({name for name in names if not name.startswith("_")}, public(txmicro))

    def test_the_ready_made_workers_are_these(self) -> None:
        modules = {f"txmicro.workers.{module.name}" for module in iter_modules(txmicro.workers.__path__)}
        self.assertEqual(modules, {name for name in PUBLIC if name.startswith("txmicro.workers.")})
