from __future__ import annotations

from tests.support.bodies import NO_OBJECT, BodyCase
from txmicro.errors import DecodeError
from txmicro.protocol.messages import NO_WORKER_TEXT, get, get_keys


class Fields(BodyCase):
    def test_keys(self) -> None:
        self.assertEqual(get_keys({"keys": ["a/0", "b/1"]}), ["a/0", "b/1"])
        self.assertEqual(get_keys({"running": []}, "running"), [])
        for wrong in (*NO_OBJECT, {}, {"keys": "a/0"}, {"keys": [5]}, {"keys": [["a"]]}):
            self.refused(get_keys, wrong)

    def test_get_names_the_error(self) -> None:
        for wrong, text in (
            ([], "expected an object, got list"),
            ({}, "'a' is missing"),
            ({"a": "b"}, "'a' is 'b', of the wrong type str"),
        ):
            self.assertEqual(str(self.assertRaises(DecodeError, get, wrong, "a", int)), text)
        self.assertEqual(get({}, "a", int, 5), 5)
        self.assertIs(get({"a": True}, "a", bool), True)

    def test_the_message_types_of_microservices_js(self) -> None:
        self.assertEqual(NO_WORKER_TEXT, "No worker available for this job")
