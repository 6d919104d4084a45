"""The errors, and how they travel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro import errors
from txmicro.errors import (
    ConfigError,
    EncodeError,
    JobError,
    JobTimeout,
    NoWorkerAvailable,
    RemoteError,
    TxmicroError,
    show,
)
from txmicro.protocol.codec.bson import BSON
from txmicro.protocol.codec.json import JSON
from txmicro.protocol.codec.messagepack import MESSAGEPACK
from txmicro.protocol.failures import MESSAGE_MAX, describe, rebuild

WORKER = "WB:1795449588399-3fa9"


class SoldOut(JobError):
    """A user's error."""

    retryable = True


class WithFields(JobError):
    """A user's error whose constructor does not call that of the base class."""

    def __init__(self, sku: str, count: int) -> None:
        Exception.__init__(self, f"{count} of {sku}")


class WithAttributes(JobError):
    """A user's error with attributes besides its text."""

    limit = 5

    def __init__(self, **fields: Any) -> None:
        super().__init__("see my fields")
        vars(self).update(fields)

    def method(self) -> int:
        """A property, which is not one of its fields."""
        return 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class ClassTests(SynchronousTestCase):
    def test_one_base_class(self) -> None:
        kinds = [
            kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
        ]
        self.assertGreater(len(kinds), 10)
        for kind in kinds:
            self.assertTrue(issubclass(kind, TxmicroError), kind)

    def test_config_error_lists_all_problems(self) -> None:
        error = ConfigError(["one", "two"])
        self.assertEqual((str(error), error.problems), ("one\ntwo", ["one", "two"]))

    def test_retryable_comes_from_the_class_by_default(self) -> None:
        self.assertTrue(NoWorkerAvailable("x").retryable)
        self.assertFalse(JobError("x").retryable)
        self.assertTrue(JobError("x", retryable=True).retryable)
        self.assertFalse(JobTimeout("x", retryable=False).retryable)

    def test_a_remote_error_has_its_type(self) -> None:
        error = RemoteError("no", type="KeyError")
        self.assertEqual((str(error), error.type), ("KeyError: no", "KeyError"))


class TransferTests(SynchronousTestCase):
    def journey(self, error: BaseException) -> JobError:
        """Return *error* after encoding and decoding, which is the same in every format."""
        failure = {"failure": describe(error, WORKER)}
        arrived = [
            codec.decode(codec.encode(dict(failure)))["failure"] for codec in (JSON, BSON, MESSAGEPACK)
        ]
        self.assertEqual(arrived, [failure["failure"]] * 3)
        return rebuild(arrived[0])

    def test_errors_of_one_name_differ_by_module(self) -> None:
        def define(module: str) -> type[JobError]:
            return type("Clash", (JobError,), {"__module__": module})

        first, second = define("shop"), define("warehouse")
        self.assertIs(type(rebuild(describe(first("no"), None))), first)
        self.assertIs(type(rebuild(describe(second("no"), None))), second)
        self.assertIs(type(rebuild({**describe(first("no"), None), "module": "elsewhere"})), second)

    def test_a_known_class_arrives_as_itself(self) -> None:
        error = self.journey(SoldOut("none left"))
        self.assertIs(type(error), SoldOut)
        self.assertEqual((error.message, error.worker, error.retryable), ("none left", WORKER, True))
        self.assertEqual(str(error), "none left")

    def test_retryable_of_one_error_arrives(self) -> None:
        self.assertFalse(self.journey(SoldOut("x", retryable=False)).retryable)

    def test_the_constructor_of_a_subclass_is_not_called(self) -> None:
        error = self.journey(WithFields("A-1", 3))
        self.assertIs(type(error), WithFields)
        self.assertEqual((error.message, error.worker), ("3 of A-1", WORKER))

    def test_the_fields_of_an_error_arrive(self) -> None:
        fields: dict[str, Any] = {
            "sku": "A-1",
            "count": 2**70,
            "limit": 1.5,
            "when": datetime(2026, 11, 24, 1, 2, 3, 4000, tzinfo=UTC),
            "raw": b"\0",
            "rest": {"a": [None, True]},
        }
        error = self.journey(WithAttributes(**fields))
        self.assertIs(type(error), WithAttributes)
        self.assertEqual({name: getattr(error, name) for name in fields}, fields)
        self.assertEqual(error.message, "see my fields")

    def test_fields_that_no_format_can_encode_are_left_out(self) -> None:
        held: dict[str, Any] = {
            "it": object(),
            "deep": nested(2000),
            "loop": [],
            "_own": 1,
            "large": "x" * 10_000,
            "odd": "\ud800",
        }
        held["loop"].append(held["loop"])
        error = self.journey(WithAttributes(**held, good=1))
        self.assertEqual(error.good, 1)  # type: ignore[attr-defined]
        for name in held:
            self.assertFalse(hasattr(error, name), name)

    def test_fields_do_not_replace_methods(self) -> None:
        forged = {
            **describe(WithAttributes(), WORKER),
            "fields": {"method": 1, "args": 2, "__class__": 3, "type": 4},
        }
        error: Any = rebuild(forged)
        self.assertEqual((error.method(), error.args, error.type), (1, ("see my fields",), "WithAttributes"))
        values: list[Any] = [None, [], "x", {1: 2}]
        for wrong in values:
            self.assertIs(type(rebuild({**forged, "fields": wrong})), WithAttributes)

    def test_fields_pass_through_a_process_without_the_class(self) -> None:
        failure = {**describe(WithAttributes(sku="A-1"), WORKER), "type": "Strange", "module": "elsewhere"}
        between = rebuild(failure)
        assert isinstance(between, RemoteError)
        self.assertEqual(between.fields, {"sku": "A-1"})
        self.assertEqual(describe(between, None)["fields"], {"sku": "A-1"})

    def test_errors_with_a_second_base_class(self) -> None:
        error = self.journey(EncodeError("data: no"))
        self.assertIs(type(error), EncodeError)
        self.assertIsInstance(error, ValueError)

    def test_other_exceptions_arrive_as_remote_errors(self) -> None:
        error = self.journey(KeyError("title"))
        assert isinstance(error, RemoteError)
        self.assertEqual((error.type, error.message, error.worker), ("KeyError", "'title'", WORKER))
        self.assertFalse(error.retryable)

    def test_a_remote_error_keeps_its_type_and_worker_on_the_next_hop(self) -> None:
        there = RemoteError("no", type="KeyError", worker="WA:1-a")
        error = self.journey(there)
        self.assertEqual((error.type, error.message, error.worker), ("KeyError", "no", "WA:1-a"))

    def test_an_error_with_any_content_is_encoded(self) -> None:
        for raised in (
            SoldOut(object()),  # type: ignore[arg-type]
            SoldOut("\ud800"),
            SoldOut("x" * 100_000),
            ValueError("\ud800"),
            ValueError(nested(100_000)),
            Unspeakable(),
            KeyboardInterrupt(),
        ):
            error = self.journey(raised)
            self.assertLessEqual(len(error.message), 6 * MESSAGE_MAX)

    def test_an_empty_message(self) -> None:
        self.assertEqual(self.journey(JobTimeout()).message, "")


class DecodingTests(SynchronousTestCase):
    def test_values_that_do_not_describe_an_error(self) -> None:
        wrong: list[Any] = [None, "text", [], 5, nested(100_000)]
        for failure in wrong:
            error = rebuild(failure)
            self.assertIs(type(error), RemoteError)
            self.assertLess(len(error.message), 500)

    def test_invalid_fields(self) -> None:
        values: list[Any] = [None, 5, [], {}, nested(100_000), b"x"]
        for wrong in values:
            error = rebuild({"type": wrong, "message": wrong, "worker": wrong, "retryable": wrong})
            self.assertIs(type(error), RemoteError)
            self.assertEqual((error.worker, error.retryable), (None, False))
            self.assertLess(len(str(error)), 500)

    def test_an_unknown_class(self) -> None:
        error = rebuild({"type": "Elsewhere", "message": "no"})
        self.assertEqual((type(error), error.type, error.message), (RemoteError, "Elsewhere", "no"))

    def test_only_job_errors_are_built_by_name(self) -> None:
        for name in ("SystemExit", "ConfigError", "object", "RemoteError"):
            self.assertIs(type(rebuild({"type": name, "message": ""})), RemoteError)


class ShowTests(SynchronousTestCase):
    def test_short_values_are_complete(self) -> None:
        self.assertEqual(show({"a": [1, "b"]}), "{'a': [1, 'b']}")
        self.assertEqual(show(WORKER), repr(WORKER))

    def test_large_and_deep_values_are_cut(self) -> None:
        for value in ("x" * 10**6, [1] * 10**6, {n: n for n in range(10**5)}, nested(10**5), b"x" * 10**6):
            self.assertLess(len(show(value)), 300)
