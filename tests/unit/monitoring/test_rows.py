"""Records of jobs as reports have them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import DecodeError
from txmicro.monitoring.records import Record
from txmicro.monitoring.rows import TEXT_MAX, from_row, to_row

WORKER = "Movies:1795449588399-3fa9"
RAN = Record(
    "ran", 1795449600.5, "00ff-1", 2, "Movies:*", WORKER, "durable", 3, 0.25, 1.5, "failed", "OutOfStock",
    "none left", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a text",
)  # fmt: skip


class RowsTests(SynchronousTestCase):
    def test_a_row_becomes_the_record_it_was_made_from(self) -> None:
        self.assertEqual(from_row(to_row(RAN), WORKER), RAN)

    def test_the_worker_is_the_one_that_has_reported_it(self) -> None:
        self.assertNotIn(WORKER, to_row(RAN))
        self.assertEqual(from_row(to_row(RAN), "Movies:other").worker, "Movies:other")

    def test_times_may_be_unknown(self) -> None:
        record = RAN._replace(wait=None, seconds=None)
        self.assertEqual(from_row(to_row(record), WORKER), record)

    def test_a_long_message_is_cut(self) -> None:
        record = from_row(to_row(RAN._replace(message="x" * 10_000)), WORKER)
        self.assertEqual(len(record.message), TEXT_MAX)

    def test_its_texts_can_be_stored_as_utf_8(self) -> None:
        record = from_row(to_row(RAN._replace(error="\ud800", message="\ud800")), WORKER)
        self.assertEqual((record.error, record.message), ("\\ud800", "\\ud800"))

    def test_a_list_of_another_length_is_refused(self) -> None:
        for row in ([], to_row(RAN)[:-1], [*to_row(RAN), ""], "x" * len(to_row(RAN)), None, {"kind": "ran"}):
            self.assertRaises(DecodeError, from_row, row, WORKER)

    def test_a_bad_value_is_refused_by_its_name(self) -> None:
        bad: dict[str, list[Any]] = {
            "kind": ["log", "requeued", "", None, ["ran"], 1],
            "time": [-1, "now", None, True, float("nan"), float("inf"), 10**400],
            "job": ["", "a b", "x" * 129, None, 7],
            "hop": [-1, 1.5, True, None, 10**10],
            "lane": ["fast", None, []],
            "attempt": [-1, "1", None],
            "wait": [-0.1, "1", False, float("nan")],
            "seconds": [-0.1, "1", float("inf")],
            "outcome": ["won", None, {}],
            "error": ["x" * 101, None, 3],
            "message": [None, 3],
            "trace": ["x" * 101, "ä", None],
            "text": [None, 1],
        }
        for name, values in bad.items():
            for value in values:
                error = self.assertRaises(
                    DecodeError, from_row, to_row(RAN._replace(**{name: value})), WORKER
                )
                self.assertIn(f"is not a valid {name} of a record", str(error))

    def test_an_invalid_address_is_refused(self) -> None:
        for address in ("Movies", "", None, 3, "Movies:*:x"):
            self.assertRaises(DecodeError, from_row, to_row(RAN._replace(address=address)), WORKER)  # type: ignore[arg-type]
