"""The report, the targets and the programs of the benchmarks."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import jobs, log_lines, observed, observed_workers, report, targets
from benchmarks.bench import Context, Sample
from benchmarks.peers import protocol
from benchmarks.programs import Program, ProgramError
from benchmarks.systems import PEERS, SYSTEMS, Absent, System, run
from tests.support.rabbitmq import Node


def sample(system: str, per_second: float, in_flight: int = 1, bench: str = "jobs") -> Sample:
    values = {"per_second": per_second, "p50_ms": 1000 / per_second, "p99_ms": 2000 / per_second}
    return Sample(bench, system, {"in_flight": in_flight}, values)


class LogLinesTests(SynchronousTestCase):
    def test_each_kind_of_line_is_measured_and_written(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        for form in ("text", "json"):
            measured = log_lines.measure(form, folder, 10)
            self.assertGreater(min(measured.values()), 0)
            lines = (folder / form).read_text().splitlines()
            self.assertEqual(len(lines), 3 * 10 * log_lines.ROUNDS)


class SummaryTests(SynchronousTestCase):
    def test_rounds_are_summarized_by_median_minimum_and_maximum(self) -> None:
        [result] = report.summarize(sample("txmicro", rate) for rate in (100, 500, 200))
        self.assertEqual(
            {name: result[name] for name in ("bench", "system", *report.COMMON)},
            {
                "bench": "jobs",
                "system": "txmicro",
                "in_flight": 1,
                "per_second": 200,
                "p50_ms": 5,
                "p99_ms": 10,
            },
        )
        self.assertEqual((result["per_second_min"], result["per_second_max"]), (100, 500))
        self.assertEqual([each["per_second"] for each in result["rounds"]], [100, 500, 200])

    def test_a_ratio_is_to_txmicro_in_the_same_case(self) -> None:
        rates = {
            ("txmicro", 1): 100,
            ("txmicro", 16): 1000,
            ("other", 1): 50,
            ("other", 16): 2000,
            ("other", 64): 9,
        }
        results = report.summarize(sample(name, rate, level) for (name, level), rate in rates.items())
        self.assertEqual([each["ratio"] for each in results], [1, 1, 0.5, 2, None])

    def test_keys_that_do_not_apply_are_none(self) -> None:
        [result] = report.summarize([Sample("start", "txmicro", {}, {"announced_s": 0.5})])
        self.assertEqual([result[name] for name in report.COMMON], [None] * 4)
        self.assertEqual((result["announced_s"], result["ratio"]), (0.5, None))

    def test_results_are_written_as_a_list_of_objects(self) -> None:
        path = Path(self.mktemp())
        results = report.summarize([sample("txmicro", 100)])
        report.write(results, path)
        self.assertEqual(json.loads(path.read_text("utf-8")), results)


class TableTests(SynchronousTestCase):
    def test_it_has_the_fastest_first_and_no_empty_columns(self) -> None:
        results = report.summarize(
            [sample("txmicro", 1000), sample("c", 4000), sample("txmicro", 5, bench="rest")]
        )
        text = report.text("A machine", results, {"c": "raw", "unused": "?"}, {"celery": "no network"})
        self.assertEqual(
            text.splitlines()[:8],
            [
                "A machine",
                "",
                "",
                "jobs",
                "",
                "system   in flight  median/s    min    max  ratio  p50 ms  p99 ms",
                "=======  =========  ========  =====  =====  =====  ======  ======",
                "c                1     4,000  4,000  4,000   4.00    0.25    0.50",
            ],
        )
        self.assertIn("\nrest\n", text)
        self.assertIn("\nc: raw\n", text)
        self.assertNotIn("unused", text)
        self.assertIn("\ncelery: no network\n", text)

    def test_cases_are_sorted(self) -> None:
        results = report.summarize(sample("txmicro", 10, level) for level in (100, 1, 16))
        rows = report.text("", results, {}, {}).splitlines()[7:10]
        self.assertEqual([row.split()[1] for row in rows], ["1", "16", "100"])


class HeadlineTests(SynchronousTestCase):
    def test_it_is_a_table_of_the_readme(self) -> None:
        results = report.summarize([sample("txmicro", 2000, 100), sample("c", 8000, 100), sample("c", 500)])
        self.assertEqual(
            report.headline(results).splitlines(),
            [
                "===========  =====================  =====  =======================",
                "System       jobs/s, 100 in flight  ratio  ms a job, one in flight",
                "===========  =====================  =====  =======================",
                "``c``                        8,000   4.00                     2.00",
                "``txmicro``                  2,000   1.00",
                "===========  =====================  =====  =======================",
            ],
        )


class TargetTests(SynchronousTestCase):
    def test_only_measured_targets_are_reported(self) -> None:
        rates = {"txmicro": 1000, "txmicro-durable": 500, "c-librabbitmq": 2500}
        results = report.summarize(sample(name, rate, 100) for name, rate in rates.items())
        self.assertEqual(
            targets.rows(results),
            [
                ["jobs/s at 100 ÷ C's", "≥ 0.5", "0.40", "NO"],
                ["p99 at 100 ÷ p50", "≤ 2", "2.00", "yes"],
                ["durable jobs/s at 100 ÷ interactive", "≥ 0.4", "0.50", "yes"],
            ],
        )
        self.assertIn("\ntargets\n", report.text("", results, {}, {}))

    def test_each_target_can_be_measured(self) -> None:
        systems = {system.name for system in SYSTEMS} | {"bare"}
        for target in targets.TARGETS:
            for figure in filter(None, (target.figure, target.base)):
                self.assertIn(figure.system, systems)
                self.assertIn(figure.key, {column.key for column in report.COLUMNS})


class ProtocolTests(SynchronousTestCase):
    def lines_for(self, asked: str, serve: Any) -> list[str]:
        self.patch(sys, "stdin", io.StringIO(asked))
        self.patch(sys, "stdout", io.StringIO())
        serve()
        output: Any = sys.stdout
        return str(output.getvalue()).splitlines()

    def test_percentiles(self) -> None:
        [line] = self.lines_for(
            "", lambda: protocol.report([number / 1000 for number in range(200, 0, -1)], 2.0)
        )
        self.assertEqual(json.loads(line), {"jobs": 200, "seconds": 2.0, "p50_ms": 101.0, "p99_ms": 199.0})

    def test_a_sender_that_blocks_keeps_as_many_in_flight_as_asked(self) -> None:
        pending: list[Any] = []
        most = 0

        def send(data: Any) -> Any:
            nonlocal most
            pending.append(data)
            most = max(most, len(pending))
            return data

        def wait(answer: Any) -> Any:
            pending.remove(answer)
            return answer

        greeting, *answers = self.lines_for("7 0.001 10\n", lambda: protocol.serve_blocking(send, wait))
        self.assertEqual(greeting, "ready")
        self.assertGreaterEqual(json.loads(answers[0])["jobs"], 7)
        self.assertEqual((most, pending), (7, []))

    def test_a_sender_with_a_wrong_answer_measures_nothing(self) -> None:
        with self.assertRaises(ValueError):
            self.lines_for("1 1 1\n", lambda: protocol.serve_blocking(lambda data: {}, lambda answer: answer))


class ProgramTests(SynchronousTestCase):
    if not shutil.which("setpriv"):
        skip = "setpriv is not installed"

    def run_python(self, code: str) -> Program:
        program = Program([sys.executable, "-c", code], Path(self.mktemp()))
        self.addCleanup(program.kill)
        return program

    def test_it_answers_in_json_and_its_usage_is_measured(self) -> None:
        program = self.run_python(
            "while True: print('noise'), print('{\"asked\": %s}' % input(), flush=True)"
        )
        self.assertEqual([program.ask("1"), program.ask("2")], [{"asked": 1}, {"asked": 2}])
        self.assertGreater(program.rss(), 1_000_000)
        self.assertGreaterEqual(program.cpu(), 0)

    def test_its_usage_includes_its_child_processes(self) -> None:
        code = "import subprocess, sys; print('up', flush=True); input(); subprocess.run([sys.executable, '-c', {!r}])"
        program = self.run_python(code.format("print('{}', flush=True); input()"))
        program.says("up")
        alone = program.rss()
        program.ask("run it")
        self.assertGreater(program.rss(), alone)

    def test_a_program_that_ends_too_early_is_an_error_with_its_output(self) -> None:
        program = self.run_python("raise SystemExit('no broker')")
        error = self.assertRaises(ProgramError, program.says, "ready")
        self.assertIn("exited without printing 'ready'; no broker", str(error))

    def test_a_program_that_prints_nothing_is_an_error(self) -> None:
        program = self.run_python("input()")
        error = self.assertRaises(ProgramError, program.says, "ready", 0.01)
        self.assertIn("did not print 'ready'", str(error))


class SystemTests(SynchronousTestCase):
    def test_a_system_that_cannot_be_prepared_is_absent_with_the_reason(self) -> None:
        self.assertIn("no-such-program", str(self.assertRaises(Absent, run, "no-such-program")))
        error = self.assertRaises(Absent, run, sys.executable, "-c", "raise SystemExit('no wheel')")
        self.assertTrue(str(error).endswith("failed: no wheel"))

    def test_each_has_a_program_of_its_own_and_settings(self) -> None:
        for system in SYSTEMS:
            self.assertTrue(system.settings)
            self.assertEqual(
                system.command("work", "amqp://h")[len(system.program) :][:2], ["work", "amqp://h"]
            )

    def test_installed_packages_are_pinned(self) -> None:
        for line in (PEERS / "requirements.txt").read_text("utf-8").splitlines()[1:]:
            self.assertRegex(line, r"^[\w.-]+==[\w.]+$")


class ObservedTests(SynchronousTestCase):
    def slices(self, *rates: float) -> list[dict[str, float]]:
        times = {"p50_ms": 1.0, "p99_ms": 2.0, "worker_us": 50.0, "sender_us": 40.0, "manager_us": 3.0}
        return [{"per_second": rate, "all_us": 1e5 / rate, **times} for rate in rates]

    def test_the_cost_is_the_median_of_the_pairs_of_slices(self) -> None:
        self.patch(sys, "stdout", io.StringIO())
        cost = observed.report(self.slices(1000, 500, 100), self.slices(900, 500, 80))
        self.assertAlmostEqual(cost, 0.1)
        output: Any = sys.stdout
        self.assertIn("per job, observed / not observed: 1.111\n", output.getvalue())
        self.assertIn("0.900 (median of 3 pairs, 0.800 to 1.000); the cost is 10.0%", output.getvalue())

    def test_a_process_that_does_not_count_has_no_jobs_on_its_page(self) -> None:
        code = (
            "from benchmarks.observed_workers import Echo; from txmicro.metrics import Metrics; "
            "from prometheus_client import CollectorRegistry, generate_latest; "
            "registry = CollectorRegistry(); service = Metrics(registry).service('Echo'); "
            "service.lanes['interactive'].ran(1, 1); service.record_error('E'); "
            "print(generate_latest(registry).decode())"
        )
        counts = []
        for counting in ("true", "false"):
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, observed_workers.COUNTING: counting},
                capture_output=True,
                text=True,
                check=True,
            )
            runs = re.findall(r"job_processing_seconds_count{.*} (.*)", done.stdout)
            counts.append((runs, 'error_type="E"' in done.stdout))
        self.assertEqual(counts, [(["1.0"], True), (["0.0"], False)])


class SmokeTests(SynchronousTestCase):
    if not shutil.which("setpriv"):
        skip = "setpriv is not installed"

    def context(self) -> Context:
        directory = Path(self.mktemp()).absolute()
        return Context(Node(directory), SYSTEMS, directory, quick=True)

    def test_it_measures_txmicro_on_the_embedded_broker(self) -> None:
        context = self.context()
        self.patch(sys, "stdout", io.StringIO())
        [embedded] = [system for system in SYSTEMS if system.embedded]
        jobs.measure_one(context, embedded, 0.05, (1, 10))
        results = report.summarize(context.samples)
        self.assertEqual([each["in_flight"] for each in results], [1, 10])
        for result in results:
            self.assertGreater(result["per_second"], 0)
            self.assertGreaterEqual(result["p99_ms"], result["p50_ms"])

    def test_a_system_that_fails_is_in_the_report(self) -> None:
        context = self.context()
        self.patch(sys, "stdout", io.StringIO())
        broken = System("broken", "", [sys.executable, "-c", "raise SystemExit('no luck')"])
        context.systems = [broken]
        with context.attempt("broken"):
            jobs.measure_one(context, broken, 0.05, (1,))
        self.assertEqual(list(context.absent), ["broken"])
        self.assertIn("no luck", context.absent["broken"])
