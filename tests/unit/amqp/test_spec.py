"""The specification for txamqp, built from pamqp's tables."""

from __future__ import annotations

from pamqp.base import Frame
from pamqp.commands import INDEX_MAPPING, Basic, Queue
from twisted.trial.unittest import SynchronousTestCase
from txamqp.protocol import AMQClient

from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.spec import METHODS, SPEC, index_of


class SpecTests(SynchronousTestCase):
    def test_it_has_every_method_of_pamqp_with_its_fields_in_order(self) -> None:
        self.assertEqual(set(METHODS), set(INDEX_MAPPING))
        index: int
        kind: type[Frame]
        for index, kind in INDEX_MAPPING.items():
            method = METHODS[index]
            self.assertEqual([field.name for field in method.fields], kind.attributes())
            self.assertEqual(
                [field.type for field in method.fields], [*map(kind.amqp_type, kind.attributes())]
            )
            self.assertEqual(index_of(method), index)

    def test_methods_are_generated_under_amqps_names(self) -> None:
        for name in ("queue_declare", "basic_consume", "basic_return", "confirm_select", "exchange_bind"):
            self.assertTrue(callable(getattr(SPEC.klass, name)))
        self.assertIn("Declare queue", SPEC.klass.queue_declare.__doc__)

    def test_a_method_knows_its_responses(self) -> None:
        get = METHODS[Basic.Get.index]
        self.assertEqual([response.name for response in get.responses], ["get-ok", "get-empty"])
        self.assertTrue(METHODS[Queue.DeclareOk.index].response)
        self.assertFalse(METHODS[Basic.Cancel.index].response)

    def test_methods_with_content_are_marked(self) -> None:
        marked = {METHODS[index].name for index in METHODS if METHODS[index].content}
        self.assertEqual(marked, {"publish", "return", "deliver", "get-ok"})

    def test_only_known_methods_of_txamqp_are_overridden(self) -> None:
        generated = {name for name in dir(SPEC.klass) if not name.startswith("_")}
        self.assertEqual(generated & set(vars(Channel)), {"channel_close", "confirm_select"})
        self.assertTrue(issubclass(Connection, AMQClient))
