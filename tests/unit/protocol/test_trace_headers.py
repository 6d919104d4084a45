"""The headers that carry a trace context."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.protocol.trace_headers import LONGEST_TRACESTATE, read_trace, shorten, trace_headers

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TraceHeadersTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        for trace in ((PARENT, "vendor=1"), (PARENT, None), (None, None)):
            self.assertEqual(read_trace(trace_headers(*trace)), trace)

    def test_a_state_needs_a_parent(self) -> None:
        self.assertEqual(trace_headers(None, "vendor=1"), {})
        self.assertEqual(read_trace({"tracestate": "vendor=1"}), (None, None))

    def test_any_program_may_have_written_them(self) -> None:
        for wrong in (5, b"00", None, ["00"], "x" * 256):
            self.assertEqual(read_trace({"traceparent": wrong, "tracestate": "a=1"}), (None, None))
            self.assertEqual(read_trace({"traceparent": PARENT, "tracestate": 5}), (PARENT, None))

    def test_a_long_state_loses_long_entries_first_and_then_the_oldest(self) -> None:
        short = [f"vendor{number}=1" for number in range(60)]
        state = ",".join([short[0], f"long={'x' * 128}", *short[1:]])
        kept = shorten(state) or ""
        self.assertLessEqual(len(kept), LONGEST_TRACESTATE)
        self.assertEqual(kept.split(","), short[: len(kept.split(","))])
        self.assertGreater(len(kept), LONGEST_TRACESTATE - len("vendor60=1,"))

    def test_a_state_that_is_one_long_entry_is_left_out(self) -> None:
        self.assertIsNone(shorten("a=" + "x" * LONGEST_TRACESTATE))
        self.assertIsNone(shorten(""))
        self.assertEqual(shorten("a=1"), "a=1")
