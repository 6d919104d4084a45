from __future__ import annotations

from typing import Any

from tests.support.bodies import ME, NO_NUMBER, NO_OBJECT, NO_TEXT, BodyCase
from txmicro.protocol.notifications import Announcement, Deletion, Inquiry


class Announcements(BodyCase):
    full = Announcement(ME, "WA", "host", 77, "0.1.0", 100, "host:9091", 1795449588399)

    def test_encoding_and_decoding(self) -> None:
        self.assertEqual(Announcement.from_body(self.full.body()), self.full)
        self.assertEqual(self.full.body()["metrics"], "host:9091")

    def test_a_message_of_microservices_js_is_complete(self) -> None:
        arrived = Announcement.from_body({"id": "WB:1460306476102", "type": "WB"})
        self.assertEqual(arrived, Announcement("WB:1460306476102", "WB"))

    def test_invalid_bodies(self) -> None:
        wrong: dict[str, list[Any]] = {
            "id": [*NO_TEXT, "WA", "WA:*"],
            "type": [*NO_TEXT, "WB", ""],
            "pid": NO_NUMBER,
            "capacity": NO_NUMBER,
            "started": NO_NUMBER,
            "host": [*NO_TEXT, "x" * 256],
            "version": [*NO_TEXT, "x" * 256],
            "metrics": [*NO_TEXT, "x" * 256],
        }
        for name, values in wrong.items():
            for value in values:
                self.refused(Announcement.from_body, self.full.body() | {name: value})
        for value in (*NO_OBJECT, {}, {"id": ME}):
            self.refused(Announcement.from_body, value)


class Others(BodyCase):
    def test_deletions(self) -> None:
        gone = Deletion(ME, "WA", "keepalive")
        self.assertEqual(Deletion.from_body(gone.body()), gone)
        self.assertEqual(Deletion.from_body({"id": ME, "type": "WB"}), Deletion(ME, "WA"))
        for wrong in (
            *NO_OBJECT,
            {},
            {"id": "WA:*"},
            {"id": ME, "reason": 5},
            {"id": ME, "reason": "x" * 256},
        ):
            self.refused(Deletion.from_body, wrong)

    def test_inquiries(self) -> None:
        inquiry = Inquiry("WB:*", ME)
        self.assertEqual(Inquiry.from_body(inquiry.body()), inquiry)
        for wrong in (*NO_OBJECT, {}, {"address": "WB:*"}, {"address": "WB", "sender": ME}):
            self.refused(Inquiry.from_body, wrong)
        self.refused(Inquiry.from_body, {"address": "WB:*", "sender": "WA:*"})
