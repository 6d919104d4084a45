from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import BadRequest
from txmicro.monitoring import records
from txmicro.monitoring.records import Record
from txmicro.page.memory import reading, writing
from txmicro.page.memory.files import open_file
from txmicro.page.memory.queries import DeadGroup, FailureQuery, JobQuery
from txmicro.page.memory.schema import OTHERS
from txmicro.page.memory.writing import Writer
from txmicro.protocol import outcomes

NOW = 1795449588.0
SENDER, WORKER = "REST:1-a", "Invoices:1-b"


def sent(job: str, time: float = NOW, **fields: Any) -> Record:
    where: dict[str, Any] = {"address": "Invoices:*", "worker": SENDER, "lane": "interactive"}
    return Record(records.SENT, time, job, **{**where, **fields})


def ran(job: str, time: float = NOW, **fields: Any) -> Record:
    how: dict[str, Any] = {"address": "Invoices:*", "worker": WORKER, "outcome": outcomes.SUCCEEDED}
    return Record(records.RAN, time, job, **{**how, **fields})


def failed(job: str, time: float = NOW, message: str = "no article 7", **fields: Any) -> Record:
    how = {"outcome": outcomes.FAILED, "error": "OutOfStock", "message": message, **fields}
    return ran(job, time, **how)


def dead(job: str, time: float = NOW, message: str = "no article 7") -> Record:
    return failed(job, time, message)._replace(kind=records.DEAD, outcome="")


class MemoryCase(SynchronousTestCase):
    """Writes to a database in memory, and reads from it."""

    limit = 1_000

    def setUp(self) -> None:
        self.file = open_file("")
        self.addCleanup(self.file.close)
        self.writer = Writer(self.file.connection, self.limit)

    def write(self, *some: Record, now: float = NOW) -> None:
        self.writer.write(some, now)

    def page(self, **conditions: Any) -> dict[str, Any]:
        return reading.jobs(self.file.connection, JobQuery(**conditions))

    def found(self, **conditions: Any) -> list[str]:
        return [job["id"] for job in self.page(**conditions)["jobs"]]

    def groups(self, **conditions: Any) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = reading.failures(self.file.connection, FailureQuery(**conditions))[
            "groups"
        ]
        return groups

    def check(self) -> None:
        """Check that counts and index are those of the jobs."""
        connection = self.file.connection
        self.assertEqual(
            connection.execute("SELECT count(*), total(failed) FROM jobs").fetchone(), self.writer.counts
        )
        counted = connection.execute(
            "SELECT grp, count(*), count(dead) FROM jobs WHERE grp IS NOT NULL GROUP BY grp ORDER BY grp"
        ).fetchall()
        self.assertEqual(
            connection.execute("SELECT id, count, dead FROM failures ORDER BY id").fetchall(), counted
        )
        connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, terms, instance)")
        indexed: dict[int, set[str]] = {}
        for term, number in connection.execute("SELECT term, doc FROM vocabulary"):
            indexed.setdefault(number, set()).add(term)
        connection.execute("DROP TABLE vocabulary")
        rows = [writing.JobRow._make(row) for row in connection.execute("SELECT * FROM jobs")]
        self.assertEqual(indexed, {row.number: set(row.terms().split()) for row in rows})


class WriterTests(MemoryCase):
    def test_a_job_has_the_fields_of_the_api(self) -> None:
        self.write(sent("a-1"), failed("a-1", NOW + 2, seconds=0.5))
        job = {
            "id": "a-1",
            "address": "Invoices:*",
            "type": "Invoices",
            "lane": "interactive",
            "outcome": "failed",
            "error": "OutOfStock",
            "message": "no article 7",
            "sent": NOW,
            "ended": NOW + 2,
            "seconds": 2.0,
            "hops": 1,
            "worker": WORKER,
            "sender": SENDER,
        }
        self.assertEqual(self.page(), {"next": None, "jobs": [job]})
        whole = reading.job(self.file.connection, "a-1")
        assert whole is not None
        steps = whole.pop("steps")
        self.assertEqual(whole, {**job, "trace": ""})
        self.assertEqual([step["kind"] for step in steps], ["sent", "ran"])
        step = {
            "kind": "ran",
            "time": NOW + 2,
            "hop": 0,
            "address": "Invoices:*",
            "worker": WORKER,
            "attempt": 0,
            "wait": None,
            "seconds": 0.5,
            "outcome": "failed",
            "error": "OutOfStock",
            "message": "no article 7",
            "text": "",
        }
        self.assertEqual(steps[1], step)
        self.assertIsNone(reading.job(self.file.connection, "a-2"))

    def test_records_of_several_batches_merge_in_any_order(self) -> None:
        self.write(ran("a-1", NOW + 1))
        self.write(sent("a-1"))
        self.write(sent("a-1"), ran("a-1", NOW + 1))
        [job] = self.page()["jobs"]
        self.assertEqual((job["sender"], job["worker"], job["outcome"]), (SENDER, WORKER, "succeeded"))
        whole = reading.job(self.file.connection, "a-1")
        self.assertEqual([step["kind"] for step in whole["steps"]] if whole else None, ["sent", "ran"])
        self.check()

    def test_more_jobs_than_one_statement_finds_merge_too(self) -> None:
        names = [f"a-{number}" for number in range(950)]
        self.write(*map(sent, names))
        self.write(*map(ran, names))
        self.assertEqual(self.writer.counts, (950, 0))
        self.assertEqual(len(self.found(outcome="succeeded", limit=500)), 500)
        self.check()

    def test_a_failed_transaction_writes_nothing(self) -> None:
        self.write(sent("a-1"))
        huge: Any = 2**70  # SQLite cannot store it
        with self.assertRaises(OverflowError):
            self.write(sent("a-2"), sent("a-3", hop=huge))
        self.assertEqual(self.found(), ["a-1"])
        self.assertEqual(self.writer.counts, (1, 0))
        self.write(sent("a-4"))
        self.assertEqual(self.found(), ["a-4", "a-1"])
        self.check()

    def test_a_job_that_fails_later_is_listed_by_that_time(self) -> None:
        self.write(sent("a-1"), sent("a-2"))
        self.write(failed("a-1", NOW + 1), now=NOW + 1)
        self.assertEqual(self.found(), ["a-2", "a-1"])
        self.write(sent("a-3"), now=NOW + 3_000)
        self.write(failed("a-2", NOW + 3_600), now=NOW + 3_600)
        self.assertEqual(self.found(), ["a-2", "a-3", "a-1"])
        self.assertEqual(self.found(since=NOW + 3_500), ["a-2"])
        self.write(failed("a-2", NOW + 9_000), now=NOW + 9_000)
        self.assertEqual(self.found(since=NOW + 3_700), [])
        self.check()

    def test_a_clock_that_goes_back_does_not_change_the_order(self) -> None:
        self.write(sent("a-1"), now=NOW)
        self.write(sent("a-2"), now=NOW - 1_000)
        again = Writer(self.file.connection, 10)
        again.write([sent("a-3")], NOW - 2_000)
        self.assertEqual(self.found(), ["a-3", "a-2", "a-1"])


class QueryTests(MemoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.write(
            ran("f00-1", address="Invoices:*"),
            failed("f00-2", message="no article 'Ärmel' left", address="Mails:*"),
            failed("f00-3", message="no article 'b' left", address="Mails:1-c", error="KeyError"),
            sent("bad-4", address="Mails:*"),
        )
        self.write(ran("bad-4", hop=1, address="Invoices:*", outcome=outcomes.CANCELED))

    def test_the_newest_are_first(self) -> None:
        self.assertEqual(self.found(), ["bad-4", "f00-3", "f00-2", "f00-1"])

    def test_by_the_type_of_any_hop(self) -> None:
        self.assertEqual(self.found(type="Invoices"), ["bad-4", "f00-1"])
        self.assertEqual(self.found(type="Mails"), ["bad-4", "f00-3", "f00-2"])
        self.assertEqual(self.found(type="mails"), [])

    def test_by_outcome_and_error(self) -> None:
        self.assertEqual(self.found(outcome="failed"), ["f00-3", "f00-2"])
        self.assertEqual(self.found(outcome="pending"), [])
        self.assertEqual(self.found(error="KeyError"), ["f00-3"])
        self.assertEqual(self.found(error="KeyError", type="Mails", outcome="failed"), ["f00-3"])
        self.assertEqual(self.found(error="KeyError", type="Invoices"), [])

    def test_by_group(self) -> None:
        for group in self.groups():
            self.assertEqual(self.found(group=group["id"]), [group["sample"]])

    def test_by_the_beginnings_of_words(self) -> None:
        for search, expected in {
            "armel": ["f00-2"],
            "ÄRM": ["f00-2"],
            "left article": ["f00-3", "f00-2"],
            "left outof": ["f00-2"],
            "f00": ["f00-3", "f00-2", "f00-1"],
            "f00-1": ["f00-1"],
            "bad-4": ["bad-4"],
            "Mails:*": ["bad-4", "f00-3", "f00-2"],
            "Mails:1-c": ["f00-3"],
            "f0 1": ["f00-3", "f00-1"],
            " f00-1 ": ["f00-1"],
            "rticle": [],
            "  ": ["bad-4", "f00-3", "f00-2", "f00-1"],
            "'\"*": [],
            'article" OR "f00': [],
            "NOT": [],
            "\ud800": [],
        }.items():
            self.assertEqual(self.found(search=search), expected, search)

    def test_texts_that_cannot_be_encoded_are_not_found(self) -> None:
        for name in ("type", "outcome", "error", "group"):
            self.assertEqual(self.found(**{name: "\ud800"}), [])
        self.assertEqual(self.groups(type="\ud800") + self.groups(search="\ud800"), [])
        self.assertIsNone(reading.job(self.file.connection, "\ud800"))
        self.assertIsNone(reading.dead_letters(self.file.connection, "\ud800"))

    def test_page_by_page_every_job_is_found_once(self) -> None:
        conditions: tuple[dict[str, Any], ...] = ({}, {"search": "0"}, {"type": "Mails"})
        for each in conditions:
            expected, found, after = self.found(**each), [], ""
            while True:
                page = self.page(limit=1, after=after, **each)
                found += [job["id"] for job in page["jobs"]]
                if page["next"] is None:
                    break
                after = page["next"]
                self.write(sent(f"0-{len(found)}", address="Mails:*"))  # it is newer, and not found any more
            self.assertEqual(found, expected)

    def test_a_limit_is_bounded(self) -> None:
        self.assertEqual(len(self.found(limit=-5)), 1)
        self.assertEqual(len(self.found(limit=10**30)), 4)

    def test_an_after_that_is_not_valid_is_refused(self) -> None:
        for after in ("x", "-1", "1.5", "٣", "9" * 30, " 1"):
            with self.assertRaisesRegex(BadRequest, "after: .* is not valid"):
                self.page(after=after)

    def test_by_time(self) -> None:
        self.write(sent("c-5"), now=NOW + 100)
        self.assertEqual(self.found(since=NOW + 99), ["c-5"])
        self.assertEqual(self.found(until=NOW + 99), ["bad-4", "f00-3", "f00-2", "f00-1"])
        self.assertEqual(self.found(since=NOW + 99, until=NOW + 99.5), [])
        self.assertEqual(self.found(since=float("nan"), until=float("nan")), [])
        self.assertEqual(self.found(since=-1e300, until=1e300, type="Mails"), ["bad-4", "f00-3", "f00-2"])


class FailureTests(MemoryCase):
    def test_like_failures_are_one_group(self) -> None:
        self.write(failed("a-1", NOW + 1, "no article 7"), failed("a-2", NOW + 5, "no article 8"))
        self.write(failed("a-3", NOW + 3, "no article 9"), failed("a-4", NOW, "no article"))
        self.assertEqual(
            [{**group, "id": len(group["id"])} for group in self.groups()],
            [
                {
                    "id": 16,
                    "type": "Invoices",
                    "error": "OutOfStock",
                    "message": "no article #",
                    "count": 3,
                    "dead": 0,
                    "first": NOW + 1,
                    "last": NOW + 5,
                    "sample": "a-2",
                },
                {
                    "id": 16,
                    "type": "Invoices",
                    "error": "OutOfStock",
                    "message": "no article",
                    "count": 1,
                    "dead": 0,
                    "first": NOW,
                    "last": NOW,
                    "sample": "a-4",
                },
            ],
        )
        self.check()

    def test_changes_of_the_groups_are_counted(self) -> None:
        self.write(ran("a-1"), sent("a-2"))
        self.assertEqual(self.writer.failure_changes, 0)
        changes = [0]
        for record in (failed("a-2"), dead("a-2", NOW + 1), Record(records.REQUEUED, NOW + 2, "a-2")):
            self.write(record)
            changes.append(self.writer.failure_changes)
        self.assertEqual(changes, sorted(set(changes)))
        self.write(ran("a-2", NOW + 3))
        self.assertEqual(self.writer.failure_changes, changes[-1])

    def test_a_job_counts_once_however_often_it_has_failed(self) -> None:
        self.write(failed("a-1", NOW, outcome=outcomes.RETRIED))
        self.write(failed("a-1", NOW + 1, outcome=outcomes.RETRIED), failed("a-1", NOW + 2))
        self.assertEqual([group["count"] for group in self.groups()], [1])
        self.check()

    def test_a_job_that_succeeds_leaves_its_group(self) -> None:
        self.write(failed("a-1", NOW, outcome=outcomes.RETRIED), failed("a-2", NOW))
        self.write(ran("a-1", NOW + 1))
        self.assertEqual([(group["count"], group["sample"]) for group in self.groups()], [(1, "a-2")])
        self.write(ran("a-2", NOW + 1))
        self.assertEqual(self.groups(), [])
        self.check()

    def test_a_job_that_fails_otherwise_changes_its_group(self) -> None:
        self.write(failed("a-1", NOW, outcome=outcomes.RETRIED))
        self.write(failed("a-1", NOW + 1, "disk full"))
        self.assertEqual([(group["message"], group["count"]) for group in self.groups()], [("disk full", 1)])
        self.check()

    def test_dead_letters_are_counted_until_they_are_requeued_or_discarded(self) -> None:
        self.write(*(each for n in range(3) for each in (failed(f"a-{n}", NOW), dead(f"a-{n}", NOW + 1))))
        [group] = self.groups()
        self.assertEqual((group["count"], group["dead"]), (3, 3))
        letters = reading.dead_letters(self.file.connection, group["id"])
        self.assertEqual(
            letters, DeadGroup("Invoices", "OutOfStock", "no article #", ["a-0/0", "a-1/0", "a-2/0"])
        )
        self.write(Record(records.REQUEUED, NOW + 2, "a-0"), Record(records.DISCARDED, NOW + 2, "a-1"))
        [group] = self.groups()
        self.assertEqual((group["count"], group["dead"]), (2, 1))
        letters = reading.dead_letters(self.file.connection, group["id"])
        self.assertEqual(letters, DeadGroup("Invoices", "OutOfStock", "no article #", ["a-2/0"]))
        self.assertEqual(self.found(outcome="dead"), ["a-2"])
        self.check()

    def test_filters(self) -> None:
        self.write(
            failed("a-1", NOW, "no article 7"), failed("a-2", NOW, "100 % full", address="Mails:*"), now=NOW
        )
        self.write(failed("a-3", NOW + 50, "no article 8"), now=NOW + 50)
        samples = {
            "all": self.groups(),
            "type": self.groups(type="Mails"),
            "since": self.groups(since=NOW + 10),
            "search": self.groups(search="OUTOF ARTICLE"),
            "nothing": self.groups(search="art%"),
        }
        self.assertEqual(
            {name: [group["sample"] for group in groups] for name, groups in samples.items()},
            {"all": ["a-3", "a-2"], "type": ["a-2"], "since": ["a-3"], "search": ["a-3"], "nothing": []},
        )
        self.assertEqual([group["count"] for group in samples["all"]], [2, 1])
        self.assertEqual([group["count"] for group in samples["since"]], [1])

    def test_the_number_of_groups_is_bounded(self) -> None:
        self.patch(writing, "MAX_GROUPS", 3)
        letters = "abcdefghij"
        self.write(*(failed(f"a-{each}", NOW, f"message {each}") for each in letters))
        self.write(*(failed(f"b-{each}", NOW + 1, f"message {each}") for each in letters))
        groups = {group["message"]: group["count"] for group in self.groups()}
        self.assertEqual(groups, {"message a": 2, "message b": 2, "message c": 2, OTHERS: 14})
        self.write(*(failed(f"c-{each}", NOW, "m", error=f"Error{each}") for each in letters))
        groups = {group["error"]: group["count"] for group in self.groups() if group["message"] == OTHERS}
        self.assertEqual(groups, {"OutOfStock": 14, "Errora": 1, "Errorb": 1, "": 8})
        self.check()


class PruneTests(MemoryCase):
    limit = 10

    def test_the_oldest_go_first_and_failures_last(self) -> None:
        self.write(failed("f-1"), *(ran(f"a-{number}") for number in range(12)), failed("f-2"))
        self.assertEqual(self.found(), ["f-2", *(f"a-{number}" for number in range(11, 3, -1)), "f-1"])
        self.check()

    def test_failures_do_not_take_the_whole_room(self) -> None:
        self.write(
            *(ran(f"a-{number}") for number in range(6)), *(failed(f"f-{number}") for number in range(8))
        )
        self.assertEqual(
            self.found(), [*(f"f-{n}" for n in range(7, 2, -1)), *(f"a-{n}" for n in range(5, 0, -1))]
        )
        self.assertEqual([group["count"] for group in self.groups()], [5])
        self.check()

    def test_failures_take_the_room_that_nobody_else_needs(self) -> None:
        self.write(*(failed(f"f-{number}") for number in range(12)))
        self.assertEqual(self.found(), [f"f-{number}" for number in range(11, 1, -1)])
        self.check()

    def test_a_group_without_jobs_is_deleted(self) -> None:
        self.write(failed("f-1", message="rare"), dead("f-1", message="rare"))
        self.write(*(failed(f"f-{number}") for number in range(2, 12)))
        self.assertEqual([group["message"] for group in self.groups()], ["no article #"])
        self.check()

    def test_a_transaction_deletes_a_bounded_number(self) -> None:
        self.patch(writing, "STEP", 3)
        self.write(*(ran(f"a-{number}") for number in range(18)))
        self.assertEqual(self.writer.counts, (15, 0))
        left = []
        while self.writer.excess:
            self.write()
            left.append(self.writer.counts.total)
        self.assertEqual(left, [12, 10])
        self.check()
