"""Writing frames."""

from __future__ import annotations

import struct

from pamqp import commands
from pamqp import encode as pamqp_encode
from twisted.trial.unittest import SynchronousTestCase

from tests.support.amqp_frames import (
    raw_header,
)
from txmicro.amqp.errors import InvalidArgument
from txmicro.amqp.frames import (
    content_frames,
    deliver_frame,
    method_frame,
    publish_prefix,
)
from txmicro.amqp.methods import Deliver


class WriterTests(SynchronousTestCase):
    def test_arguments_that_pamqp_cannot_write_are_refused(self) -> None:
        for method in (
            commands.Basic.Ack("x"),  # type: ignore[arg-type]
            commands.Basic.CancelOk("x" * 256),
            commands.Connection.Blocked(None),  # type: ignore[arg-type]
        ):
            self.assertRaises(InvalidArgument, method_frame, 1, method)
        self.assertRaises(InvalidArgument, method_frame, -1, commands.Basic.Ack())

    def test_names_that_are_too_long_are_refused(self) -> None:
        self.assertRaises(InvalidArgument, publish_prefix, 1, "x" * 256, "", False)
        self.assertRaises(InvalidArgument, deliver_frame, 1, Deliver("", 1, False, "", "x" * 256))

    def test_an_empty_body_has_no_frame(self) -> None:
        written = content_frames(1, b"", b"\0\0", b"", 4096)
        self.assertEqual(written, raw_header(1, 0))

    def test_a_body_is_split_at_the_negotiated_size(self) -> None:
        for size in (4088, 4089):
            frame_sizes = []
            written = content_frames(1, b"", b"\0\0", bytes(size), 4096)[len(raw_header(1, 0)) :]
            while written:
                (length,) = struct.unpack(">I", written[3:7])
                frame_sizes.append(length + 8)
                written = written[length + 8 :]
            self.assertEqual(frame_sizes, [4096] if size == 4088 else [4096, 9])

    def test_pamqp_would_have_lost_precision(self) -> None:
        # This is why txmicro encodes tables itself. If pamqp changes, that may go.
        self.assertEqual(pamqp_encode.encode_table_value(0.1)[:1], b"f")
