"""The levels of components, as configured and as set while the process runs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.util.log_levels import LEVELS, MOST, LogLevels, component_of

BUS = "txmicro.bus.session.Session"


def least(levels: LogLevels, logger: str = "shop", kind: str = "") -> str:
    """Return the lowest level that *levels* want of a logger and worker type."""
    return next(level for level in LEVELS if levels.wants(level, logger, kind))


class LogLevelsTests(SynchronousTestCase):
    def test_the_level_of_the_process_is_for_components_without_one(self) -> None:
        self.assertEqual(least(LogLevels()), "info")
        self.assertEqual(least(LogLevels("error"), BUS, "WB"), "error")

    def test_a_part_of_the_program_and_a_worker_type(self) -> None:
        levels = LogLevels("info", {"bus": "debug", "WB": "warn", "shop.stock": "error"})
        self.assertEqual(least(levels, BUS), "debug")
        self.assertEqual(least(levels, "txmicro.business.Plan"), "info")
        self.assertEqual(least(levels, "txmicro.worker.Worker", "WB"), "warn")
        self.assertEqual(least(levels, "shop.stock.Item"), "error")
        self.assertEqual(least(levels, "shop.stocks"), "info")

    def test_the_worker_type_decides_before_the_logger(self) -> None:
        levels = LogLevels("info", {"bus": "debug", "WB": "warn"})
        self.assertEqual(least(levels, BUS, "WB"), "warn")
        self.assertEqual(least(levels, BUS, "WC"), "debug")

    def test_the_longest_name_decides(self) -> None:
        levels = LogLevels("info", {"bus": "debug", "bus.session": "critical"})
        self.assertEqual(least(levels, BUS), "critical")
        self.assertEqual(least(levels, "txmicro.bus.route"), "debug")

    def test_names_of_own_loggers_may_have_the_name_of_the_package(self) -> None:
        levels = LogLevels()
        levels.set("txmicro.bus", "debug")
        levels.set("txmicro", "error")
        self.assertEqual((least(levels, BUS), least(levels, "txmicro.worker.Worker")), ("debug", "error"))
        self.assertEqual(least(levels, "txmicrofilm"), "info")

    def test_twisteds_info_is_wanted_at_level_debug_only(self) -> None:
        for logger in ("twisted.internet.base", "log_legacy"):
            self.assertEqual(least(LogLevels(), logger), "warn")
            self.assertEqual(least(LogLevels("debug"), logger), "debug")
            self.assertEqual(least(LogLevels("error"), logger), "error")
        self.assertEqual(least(LogLevels("error", {"twisted": "info"}), "twisted.web"), "info")

    def test_a_level_is_set_while_lines_come(self) -> None:
        levels = LogLevels("info", {"bus": "warn"})
        self.assertEqual(least(levels, BUS), "warn")
        levels.set("bus", "debug")
        self.assertEqual(least(levels, BUS), "debug")
        levels.set("*", "error")
        self.assertEqual(least(levels), "error")
        self.assertEqual(levels.all, {"*": "error", "bus": "debug"})
        levels.set("bus", "")
        levels.set("*", "")
        self.assertEqual(levels.all, {"*": "info", "bus": "warn"})
        self.assertEqual(least(levels, BUS), "warn")

    def test_debug_is_for_everything_until_it_is_toggled_again(self) -> None:
        levels = LogLevels("error", {"WB": "critical"})
        levels.toggle_debug()
        self.assertEqual(least(levels, BUS, "WB"), "debug")
        self.assertEqual(levels.least, "debug")
        levels.toggle_debug()
        self.assertEqual(least(levels, BUS, "WB"), "critical")
        self.assertEqual(levels.least, "error")

    def test_a_watcher_is_called_at_each_change(self) -> None:
        levels, seen = LogLevels("warn"), list[str]()
        levels.watch(lambda: seen.append(levels.least))
        levels.set("bus", "info")
        levels.toggle_debug()
        self.assertEqual(seen, ["warn", "info", "debug"])

    def test_invalid_values_change_nothing(self) -> None:
        levels = LogLevels()
        for component, level in (("a b", "info"), ("x" * 101, "info"), (".", "info"), ("bus", "loud")):
            error = self.assertRaises(ValueError, levels.set, component, level)
            self.assertIn("is not a valid", str(error))
        self.assertEqual(levels.all, {"*": "info"})

    def test_the_number_of_components_is_bounded(self) -> None:
        levels = LogLevels()
        for number in range(MOST):
            levels.set(f"c{number}", "warn")
        self.assertRaises(ValueError, levels.set, "one-more", "warn")
        levels.set("c1", "error")
        for number in range(3 * MOST):
            levels.wants("info", f"logger{number}", "")
        self.assertLessEqual(len(levels._cache), MOST)

    def test_the_component_of_a_logger(self) -> None:
        for logger, component in ((BUS, "bus"), ("shop.stock.Item", "shop"), ("-", "-"), ("", "")):
            self.assertEqual(component_of(logger), component)
