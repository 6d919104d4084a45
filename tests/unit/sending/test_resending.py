from __future__ import annotations

from tests.support.outbox import TICK, OutboxCase
from txmicro.errors import (
    JobTimeout,
    RemoteError,
)
from txmicro.sending.pending import OUT, WAITING


class WindowTests(OutboxCase):
    def test_a_job_is_published_at_once(self) -> None:
        (job,) = self.add("a/0")
        self.assertEqual(self.happened(), [("publish", "a/0", 0)])
        self.assertEqual((job.state, job.tries, job.copies), (OUT, 0, 1))

    def test_jobs_beyond_the_window_wait_in_order(self) -> None:
        *_, job = self.add("a/0", "b/0", "c/0", "d/0")
        self.assertEqual(self.happened(), [("publish", "a/0", 0), ("publish", "b/0", 0)])
        self.assertEqual((job.state, job.tries), (WAITING, 0))
        self.outbox.acked("WB:1", ["b/0", "a/0"])
        self.assertEqual(
            self.happened(),
            [
                ("publish", "c/0", 0),
                ("taken", "b/0", "WB:1"),
                ("publish", "d/0", 0),
                ("taken", "a/0", "WB:1"),
            ],
        )

    def test_every_end_frees_a_place_in_the_window(self) -> None:
        self.add("a/0", "b/0", "c/0", "d/0", "e/0", "f/0")
        self.happened()
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.outbox.failed("b/0", RemoteError("no"))
        self.outbox.cancel("c/0")
        self.outbox.done("WB:1", ["d/0"])
        published = [event[1] for event in self.happened() if event[0] == "publish"]
        self.assertEqual(published, ["c/0", "d/0", "e/0", "f/0"])

    def test_taken_jobs_are_outside_the_window(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.happened()
        self.add("c/0", "d/0")
        self.assertEqual(self.happened(), [("publish", "c/0", 0), ("publish", "d/0", 0)])

    def test_each_address_has_a_window_of_its_own(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.happened()
        self.add("d/0", address="WC:*")
        self.assertEqual(self.happened(), [("publish", "d/0", 0)])

    def test_the_body_is_encoded_again_unless_it_is_published_at_once(self) -> None:
        stale: list[tuple[str, bool]] = []
        self.during_publish = lambda sent: stale.append((sent.key, sent.stale))
        self.add("a/0", "b/0", "c/0")
        self.outbox.succeeded("b/0", "WB:1", None)
        self.wait(2)
        self.assertEqual(stale, [("a/0", False), ("b/0", False), ("c/0", True), ("a/0", True), ("c/0", True)])

    def test_a_key_is_accepted_once(self) -> None:
        self.assertTrue(self.outbox.add(self.pending("a/0")))
        self.assertFalse(self.outbox.add(self.pending("a/0")))
        self.assertEqual(self.happened(), [("publish", "a/0", 0)])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.assertTrue(self.outbox.add(self.pending("a/0")))

    def test_a_job_may_be_added_while_another_is_published(self) -> None:
        more = iter(["b/0", "c/0"])
        self.during_publish = lambda sent: self.add(*[key for key in [next(more, None)] if key])
        self.add("a/0")
        self.assertEqual(self.happened(), [("publish", "a/0", 0), ("publish", "b/0", 0)])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.assertEqual(self.happened(), [("publish", "c/0", 0), ("done", "a/0", "WB:1", 1)])


class ResendTests(OutboxCase):
    def test_a_copy_without_an_ack_is_sent_again_with_an_inquiry(self) -> None:
        self.add("a/0")
        self.happened()
        self.wait(2 - TICK)
        self.assertEqual(self.happened(), [])
        self.wait(TICK)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1)])
        self.wait(2)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 2)])

    def test_copies_are_due_in_the_order_of_their_publication(self) -> None:
        self.add("a/0")
        self.wait(1)
        self.add("b/0")
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1)])
        self.wait(1)
        self.assertEqual(self.happened(), [("publish", "b/0", 1)])
        self.wait(1)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 2)])

    def test_a_resend_keeps_its_place_in_the_window(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.happened()
        self.wait(2)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])

    def test_a_taken_job_is_not_sent_again(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.happened()
        self.wait(2)
        self.assertEqual(self.happened(), [("probe", "WB:1", ["a/0"])])

    def test_a_returned_copy_sends_an_inquiry_at_once_and_is_sent_again_at_its_time(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.happened()
        self.outbox.returned("a/0")
        self.outbox.returned("b/0")
        self.assertEqual(self.happened(), [("inquire", "WB:*")])
        self.wait(2)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])

    def test_an_inquiry_about_an_address_is_sent_once_per_interval(self) -> None:
        self.add("a/0")
        self.add("b/0", address="WC:*")
        self.happened()
        for _ in range(3):
            self.outbox.returned("a/0")
            self.outbox.returned("b/0")
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("inquire", "WC:*")])

    def test_the_interval_outlives_the_job(self) -> None:
        self.add("a/0")
        self.outbox.returned("a/0")
        self.outbox.no_worker("WB:*")
        self.happened()
        self.wait(1)
        self.add("b/0")
        self.outbox.returned("b/0")
        self.assertEqual(self.happened(), [("publish", "b/0", 0)])
        self.outbox.cancel("b/0")
        self.check_empty()

    def test_a_return_of_a_job_that_is_not_published_is_ignored(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.add("d/0", "e/0")
        self.happened()
        for key in ("a/0", "e/0", "never/0"):
            self.outbox.returned(key)
        self.assertEqual(self.happened(), [])

    def test_a_late_sweep_does_nothing_and_the_next_one_does_all(self) -> None:
        self.add("a/0", "b/0")
        self.add("c/0", deadline=1)
        self.outbox.acked("WB:1", ["b/0"])
        self.happened()
        self.clock.advance(2 + TICK)
        self.assertEqual(self.happened(), [])
        self.clock.advance(TICK)
        self.assertEqual(
            self.happened(),
            [
                ("failed", "c/0", JobTimeout),
                ("inquire", "WB:*"),
                ("publish", "a/0", 1),
                ("probe", "WB:1", ["b/0"]),
            ],
        )

    def test_a_sweep_that_is_half_a_second_late_does_its_work(self) -> None:
        self.add("a/0", deadline=0.25)
        self.happened()
        self.clock.advance(TICK + 0.5)
        self.assertEqual(self.happened(), [("failed", "a/0", JobTimeout)])

    def test_when_all_sweeps_are_late_every_other_one_does_its_work(self) -> None:
        self.add("a/0")
        self.happened()
        for _ in range(4):
            self.clock.advance(2)
        self.assertEqual(
            self.happened(),
            [("inquire", "WB:*"), ("publish", "a/0", 1), ("inquire", "WB:*"), ("publish", "a/0", 2)],
        )


class PauseTests(OutboxCase):
    def test_nothing_is_published_until_it_resumes(self) -> None:
        self.outbox.pause()
        self.add("a/0", "b/0", "c/0")
        self.add("d/0", address="WC:*")
        self.assertEqual(self.happened(), [])
        self.outbox.resume()
        self.assertEqual(
            self.happened(), [("publish", "a/0", 0), ("publish", "b/0", 0), ("publish", "d/0", 0)]
        )

    def test_the_time_of_the_copies_does_not_advance(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.wait(1)
        self.happened()
        self.outbox.pause()
        self.wait(2)
        self.outbox.pause()
        self.wait(2)
        self.outbox.resume()
        self.outbox.resume()
        self.wait(1 - TICK)
        self.assertEqual(self.happened(), [])
        self.wait(TICK)
        self.assertEqual(
            self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("probe", "WB:1", ["b/0"])]
        )

    def test_deadlines_and_answers_continue(self) -> None:
        self.add("a/0", "b/0", deadline=1)
        self.outbox.pause()
        self.happened()
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.succeeded("a/0", "WB:1", 5)
        self.wait(1)
        self.assertEqual(
            self.happened(),
            [("taken", "a/0", "WB:1"), ("done", "a/0", "WB:1", 5), ("failed", "b/0", JobTimeout)],
        )

    def test_a_full_transport_stops_publishing(self) -> None:
        self.outbox.pause()
        self.add("a/0", "b/0")
        self.during_publish = lambda sent: self.outbox.pause()
        self.outbox.resume()
        self.assertEqual(self.happened(), [("publish", "a/0", 0)])
        self.outbox.resume()
        self.assertEqual(self.happened(), [("publish", "b/0", 0)])
        self.outbox.resume()
        self.during_publish = lambda sent: self.outbox.pause()
        self.wait(3)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1)])

    def test_a_pause_between_two_probes_delays_the_second(self) -> None:
        self.add("a/0")
        self.add("b/0", address="WC:*")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WC:1", ["b/0"])
        pausing = self.patch(self, "probe", lambda worker, keys: self.outbox.pause())
        self.wait(2)
        self.happened()
        pausing.restore()
        self.wait(1)
        self.assertEqual(self.happened(), [])
        self.outbox.resume()
        self.wait(TICK)
        self.assertEqual(self.happened(), [("probe", "WC:1", ["b/0"])])
