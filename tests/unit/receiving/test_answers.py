"""The answers: their repetition, the release of a hop's sender, and the bounds of the memory."""

from __future__ import annotations

from tests.support.intake import ANSWER, IntakeCase
from txmicro.protocol.job import Job
from txmicro.protocol.messages import FAILURE, RESULT
from txmicro.protocol.outcomes import FORWARDED
from txmicro.receiving.answers import Reply


class MemoryTests(IntakeCase):
    def finish(self, id: str, body: bytes) -> None:
        self.arrive(id)
        self.intake.finished(f"{id}/0", Reply("WA:1", RESULT, body))

    def remembered(self, *ids: str) -> list[str]:
        _, _, unknown = self.intake.probed("WA:1", [f"{id}/0" for id in ids])
        return [id for id in ids if f"{id}/0" not in unknown]

    def test_the_oldest_answer_is_forgotten_when_there_are_too_many(self) -> None:
        self.intake = self.make(memory_jobs=2)
        for id in "abc":
            self.finish(id, b"")
        self.assertEqual(self.remembered("a", "b", "c"), ["b", "c"])

    def test_the_oldest_answers_are_forgotten_when_they_are_too_large(self) -> None:
        self.intake = self.make(memory_bytes=10)
        for id in "abc":
            self.finish(id, b"1234")
        self.assertEqual(self.remembered("a", "b", "c"), ["b", "c"])
        self.finish("d", b"1234567890")
        self.assertEqual(self.remembered("b", "c", "d"), ["d"])
        self.finish("e", b"12345678901")
        self.assertEqual(self.remembered("d", "e"), [])
        self.finish("f", b"1234567890")
        self.assertEqual(self.remembered("f"), ["f"])


class HeardTests(IntakeCase):
    """The release of a later hop's sender, when the job's origin has the answer."""

    def finish(self, reply: Reply = ANSWER) -> None:
        self.arrive("a", sender="WD:1", hop=1)
        self.intake.finished("a/1", reply)
        self.heard()

    def test_the_sender_is_released(self) -> None:
        self.finish()
        self.assertTrue(self.answers.heard("a/1"))
        self.assertEqual(self.heard(), [("free", "WD:1", "a/1")])

    def test_the_sender_of_the_first_hop_is_the_origin(self) -> None:
        self.arrive("a")
        self.intake.finished("a/0", Reply("WC:*", FORWARDED))
        self.heard()
        self.assertTrue(self.answers.heard("a/0"))
        self.assertEqual(self.intake.probed("WA:1", ["a/0"]), ([], {}, []))
        self.assertEqual(self.heard(), [])

    def test_a_durable_hop_has_no_sender_to_release(self) -> None:
        self.answers.remember(Job("a", None, ["WB:*"] * 2, 1, "WD:1", "WA:1", 30.0, durable=True), ANSWER)
        self.answers.heard("a/1")
        self.assertEqual(self.heard(), [])

    def test_an_unknown_job(self) -> None:
        self.assertFalse(self.answers.heard("a/1"))
        self.assertEqual(self.heard(), [])

    def test_a_probe_sends_an_answer_that_was_not_heard_again(self) -> None:
        self.finish()
        self.assertEqual(self.intake.probed("WD:1", ["a/1"]), ([], {}, []))
        self.assertEqual(self.heard(), [("answer", "a/1", ANSWER)])
        self.answers.heard("a/1")
        self.intake.probed("WD:1", ["a/1"])
        self.assertEqual(self.heard(), [("free", "WD:1", "a/1")] * 2)

    def test_a_worker_that_forwarded_it_releases_the_sender_again_when_probed(self) -> None:
        self.finish(Reply("WC:*", FORWARDED))
        self.assertEqual(self.intake.probed("WD:1", ["a/1"]), ([], {"a/1": "WC:*"}, []))
        self.answers.heard("a/1")
        self.assertEqual(self.intake.probed("WD:1", ["a/1"]), ([], {}, []))
        self.assertEqual(self.heard(), [("free", "WD:1", "a/1")] * 2)

    def test_the_latest_sender_is_released(self) -> None:
        self.arrive("a", sender="WD:1", hop=1)
        self.arrive("a", sender="WD:2", hop=1)
        self.intake.finished("a/1", ANSWER)
        self.heard()
        self.answers.heard("a/1")
        self.assertEqual(self.heard(), [("free", "WD:2", "a/1")])
        self.arrive("a", sender="WD:3", hop=1)
        self.assertEqual(self.heard(), [("settle", "a/1"), ("ack", "a/1", "WD:3"), ("free", "WD:3", "a/1")])
        self.intake.probed("WD:4", ["a/1"])
        self.assertEqual(self.heard(), [("free", "WD:4", "a/1")])

    def test_an_answer_that_was_heard_is_not_sent_again(self) -> None:
        self.finish()
        self.answers.unanswered("a/1")
        self.answers.heard("a/1")
        self.heard()
        self.clock.advance(1)
        self.answers.unanswered("a/1")
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_forgetting_and_stopping_release_the_senders_of_answers_not_heard(self) -> None:
        self.intake = self.make(memory_jobs=3)
        for id, deadline in (("a", 30.0), ("heard", 30.0), ("old", 1.0), ("b", 30.0)):
            self.arrive(id, sender="WD:1", hop=1, deadline=deadline)
            self.heard()
            self.intake.finished(f"{id}/1", ANSWER)
        self.assertEqual(self.heard(), [("settle", "b/1"), ("free", "WD:1", "a/1")])
        self.arrive("passed on", sender="WD:1", hop=1)
        self.answers.heard("heard/1")
        self.intake.finished("passed on/1", Reply("WC:*", FORWARDED))
        self.clock.advance(1)
        self.heard()
        self.answers.close()
        self.assertEqual(self.heard(), [("free", "WD:1", "b/1")])


class UnansweredTests(IntakeCase):
    def setUp(self) -> None:
        super().setUp()
        self.arrive("a", "b", sender="WA:2", deadline=2.5)
        self.intake.finished("a/0", ANSWER)
        self.intake.finished("b/0", ANSWER)
        self.heard()

    def test_an_answer_is_sent_again_within_a_second(self) -> None:
        self.answers.unanswered("a/0")
        self.answers.unanswered("a/0")
        self.clock.advance(0.5)
        self.answers.unanswered("b/0")
        self.assertEqual(self.heard(), [])
        self.clock.advance(0.5)
        self.assertEqual(self.heard(), [("answer", "a/0", ANSWER), ("answer", "b/0", ANSWER)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_answer_is_sent_until_the_deadline(self) -> None:
        for _ in range(4):
            self.answers.unanswered("a/0")
            self.clock.advance(1)
        self.assertEqual(self.heard(), [("answer", "a/0", ANSWER)] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_returned_answer_is_sent_again_later(self) -> None:
        self.patch(self, "answer", lambda key, reply: self.answers.unanswered(key))
        self.answers.unanswered("a/0")
        self.clock.pump([1, 1])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_forgotten_answer_is_not_sent(self) -> None:
        self.intake = self.make(memory_jobs=1)
        self.arrive("a", "b", "c")
        self.intake.finished("a/0", ANSWER)
        self.answers.unanswered("a/0")
        self.intake.finished("b/0", ANSWER)
        self.heard()
        self.clock.advance(1)
        self.assertEqual(self.heard(), [])
        self.intake.finished("c/0", Reply("WC:*", FORWARDED))
        for key in ("a/0", "c/0", "unknown/0"):
            self.answers.unanswered(key)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_stops_the_repetition(self) -> None:
        self.answers.unanswered("a/0")
        self.answers.close()
        self.answers.close()
        self.answers.unanswered("b/0")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(
            [name for name, value in vars(self.answers).items() if isinstance(value, dict) and value], []
        )

    def test_a_job_that_failed_while_it_was_forwarded_keeps_the_failure(self) -> None:
        self.arrive("c", sender="WA:2")
        failure = Reply("WA:1", FAILURE, b"no")
        self.intake.finished("c/0", failure)
        self.intake.finished("c/0", Reply("WD:*", FORWARDED))
        self.heard()
        self.assertEqual(self.intake.probed("WA:2", ["c/0"]), ([], {}, []))
        self.assertEqual(self.heard(), [("answer", "c/0", failure)])

    def test_a_forwarded_job_that_failed_on_its_way_is_answered(self) -> None:
        self.arrive("c", sender="WA:2")
        self.intake.finished("c/0", Reply("WD:*", FORWARDED))
        failure = Reply("WA:1", FAILURE, b"no")
        self.intake.finished("c/0", failure)
        self.intake.finished("a/0", failure)
        self.heard()
        self.answers.unanswered("c/0")
        self.clock.advance(1)
        self.assertEqual(self.intake.probed("WA:2", ["a/0", "c/0"]), ([], {}, []))
        self.assertEqual(
            self.heard(),
            [
                ("answer", "c/0", failure),
                ("answer", "a/0", ANSWER),
                ("answer", "c/0", failure),
            ],
        )
