"""What every store promises (:class:`txmicro.stores.Store`), run against each of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from txmicro.errors import BadRequest, EncodeError
from txmicro.stores import Store, StoreError

INJECTIONS = [
    "' OR 1=1 --",
    "'; DROP TABLE documents; --",
    '"; DROP TABLE documents; --',
    "title') OR 1=1 --",
    "$",
    "$.title",
    "$ne",
    "$where",
    "$binary",
    "$map",
    "ti%tle",
    "title' AND (SELECT 1 FROM json_each('[1]')) --",
    "",
    "?",
    ":limit",
    "*",
    "a.b",
    'a"b',
    "a[0]",
    "ähre",
]


class StoreContract(TestCase):
    """The base of one class per store, which says how it is opened."""

    store: Store

    def open(self) -> Deferred[Store]:
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.store = await self.open()
        self.addCleanup(lambda: self.store.close())

    async def insert(self, *documents: dict[str, Any]) -> list[str]:
        inserted = [await self.store.insert(f"job-{number}/0", doc) for number, doc in enumerate(documents)]
        return [document["id"] for document in inserted]

    async def found(self, filters: dict[str, Any], **page: Any) -> list[Any]:
        return [document.get("n") for document in await self.store.find(filters, **page)]

    async def test_an_inserted_document_comes_back_with_its_id(self) -> None:
        stored = await self.store.insert("job-1/2", {"title": "Alien", "year": 1979})
        self.assertEqual(stored, {"id": stored["id"], "title": "Alien", "year": 1979})
        self.assertIsInstance(stored["id"], str)
        self.assertEqual(await self.store.find({}), [stored])

    async def test_a_key_is_stored_once(self) -> None:
        first = await self.store.insert("job-1/2", {"title": "Alien"})
        second = await self.store.insert("job-1/2", {"title": "Aliens"})
        self.assertEqual(second, first)
        self.assertEqual(await self.store.find({}), [first])

    async def test_a_key_is_stored_once_also_when_its_inserts_arrive_together(self) -> None:
        inserts = [self.store.insert("job-1/2", {"n": number}) for number in range(10)]
        stored = await gatherResults(inserts)
        self.assertEqual(stored, [{"id": stored[0]["id"], "n": 0}] * 10)
        self.assertEqual(await self.found({}), [0])

    async def test_many_inserts_at_once_keep_their_order(self) -> None:
        stored = await gatherResults([self.store.insert(f"job/{n}", {"n": n}) for n in range(300)])
        self.assertEqual([document["n"] for document in stored], list(range(300)))
        self.assertEqual(len({document["id"] for document in stored}), 300)
        self.assertEqual(await self.found({}, limit=1000), list(range(300)))

    async def test_the_same_values_come_out(self) -> None:
        document: dict[str, Any] = {
            "text": "Amélie \0 \N{CLAPPER BOARD} '\"\\",
            "bytes": b"\x00\xff",
            "when": datetime(1979, 5, 25, 12, 0, tzinfo=UTC),
            "big": 2**100,
            "numbers": [1, 1.5, -0.0, float("inf"), None, True],
            "nested": {"$binary": {"a": 1}, "": {}, "$where": 1},
            "$binary": "mine",
        }
        stored = await self.store.insert("k/0", document)
        self.assertEqual(stored, {"id": stored["id"], **document})
        self.assertEqual(await self.store.find({}), [stored])
        self.assertEqual(await self.store.insert("k/0", {}), stored)

    async def test_tuples_are_lists_from_the_first_answer_on(self) -> None:
        stored = await self.store.insert("k/0", {"cast": ("Weaver", "Holm")})
        self.assertEqual(stored["cast"], ["Weaver", "Holm"])

    async def test_an_empty_document_is_one(self) -> None:
        stored = await self.store.insert("k/0", {})
        self.assertEqual(list(stored), ["id"])

    async def test_a_document_has_no_id_of_its_own(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.insert("k/0", {"id": "mine"})

    async def test_a_documents_names_are_text(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.insert("k/0", {1: "one"})  # type: ignore[dict-item]

    async def test_what_cannot_be_encoded_is_refused_and_named(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value in (object(), {"set": {1}}, "\ud800", deep):
            with self.assertRaises(EncodeError) as raised:
                await self.store.insert("k/0", {"culprit": value})
            self.assertIn("culprit", str(raised.exception))
        self.assertEqual(await self.store.find({}), [])

    async def test_the_deepest_document_that_can_be_encoded_does_no_harm(self) -> None:
        value: list[Any] = []
        for depth in range(1100):
            try:
                await self.store.insert(f"k/{depth}", {"n": depth, "deep": value})
            except EncodeError:
                break
            value = [value]
        self.assertGreater(depth, 100)
        self.assertEqual(await self.found({"n": depth - 1}), [depth - 1])

    async def test_filters_are_equalities_that_all_hold(self) -> None:
        await self.insert({"n": 0, "a": "x"}, {"n": 1, "a": "x", "b": "y"}, {"n": 2, "a": "y"})
        self.assertEqual(await self.found({"a": "x"}), [0, 1])
        self.assertEqual(await self.found({"a": "x", "b": "y"}), [1])
        self.assertEqual(await self.found({"a": "z"}), [])
        self.assertEqual(await self.found({"c": "x"}), [])

    async def test_a_list_is_a_choice(self) -> None:
        await self.insert({"n": 0, "a": "x"}, {"n": 1, "a": 7}, {"n": 2, "a": "y"})
        self.assertEqual(await self.found({"a": ["y", "x", "x"]}), [0, 2])
        self.assertEqual(await self.found({"a": ("7", 7)}), [1])
        self.assertEqual(await self.found({"a": []}), [])

    async def test_values_of_different_types_differ(self) -> None:
        values = [
            1,
            True,
            "1",
            None,
            "true",
            0,
            False,
            "",
            1.5,
            "null",
            b"1",
            "MQ==",
            [1],
            {"a": 1},
            '{"a":1}',
        ]
        await self.insert(*({"n": number, "v": value} for number, value in enumerate(values)), {"n": 99})
        for number, value in enumerate(values):
            if not isinstance(value, (list, dict)):
                self.assertEqual(await self.found({"v": value}), [number], value)

    async def test_whole_numbers_equal_themselves_as_floats(self) -> None:
        await self.insert({"n": 0, "v": 1}, {"n": 1, "v": 1.0})
        self.assertEqual(await self.found({"v": 1}), [0, 1])
        self.assertEqual(await self.found({"v": 1.0}), [0, 1])

    async def test_a_date_can_be_a_filter(self) -> None:
        when = datetime(1979, 5, 25, tzinfo=UTC)
        await self.insert({"n": 0, "v": when}, {"n": 1, "v": datetime(1979, 5, 26, tzinfo=UTC)})
        self.assertEqual(await self.found({"v": when}), [0])

    async def test_what_is_no_scalar_is_no_filter(self) -> None:
        for value in ({"$ne": 1}, [[1]], {1}, object()):
            with self.assertRaises(BadRequest):
                await self.store.find({"v": value})
        with self.assertRaises(BadRequest):
            await self.store.find({1: "v"})  # type: ignore[dict-item]

    async def test_too_many_filters_are_refused(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.find({f"field{number}": 1 for number in range(1000)})

    async def test_the_name_of_a_field_is_only_a_name(self) -> None:
        documents: list[dict[str, Any]] = [{"n": n, name: 1} for n, name in enumerate(INJECTIONS)]
        await self.insert(*documents, {"n": 99, "title": 1, "a": {"b": 1}})
        for number, name in enumerate(INJECTIONS):
            self.assertEqual(await self.found({name: 1}), [number], name)

    async def test_the_value_of_a_filter_is_only_a_value(self) -> None:
        await self.insert(*({"n": number, "title": text} for number, text in enumerate(INJECTIONS)))
        for number, text in enumerate(INJECTIONS):
            self.assertEqual(await self.found({"title": text}), [number], text)
            self.assertEqual(await self.found({"title": [text]}), [number], text)

    async def test_an_id_is_a_field_like_others(self) -> None:
        ids = await self.insert({"n": 0}, {"n": 1})
        self.assertEqual(await self.found({"id": ids[1]}), [1])

    async def test_a_field_that_is_indexed_behaves_like_others(self) -> None:
        values = ["x", 1, True, None, "1", ["x"], {"x": 1}]
        await self.insert(*({"n": number, "title": value} for number, value in enumerate(values)), {"n": 99})
        for number, value in enumerate(values[:5]):
            self.assertEqual(await self.found({"title": value}), [number], value)
        self.assertEqual(await self.found({"title": [None, "x"]}), [0, 3])

    async def test_pages_follow_each_other(self) -> None:
        ids = await self.insert(*({"n": number, "odd": number % 2} for number in range(7)))
        self.assertEqual(await self.found({}, limit=3), [0, 1, 2])
        self.assertEqual(await self.found({}, limit=3, after=ids[2]), [3, 4, 5])
        self.assertEqual(await self.found({}, limit=3, after=ids[5]), [6])
        self.assertEqual(await self.found({}, limit=3, after=ids[6]), [])
        self.assertEqual(await self.found({"odd": 1}, limit=2, after=ids[1]), [3, 5])

    async def test_a_page_of_large_documents_is_shorter(self) -> None:
        text = "x" * 600_000
        ids = await self.insert(*({"n": number, "text": text} for number in range(3)))
        self.assertEqual(await self.found({}), [0, 1])
        self.assertEqual(await self.found({}, after=ids[1]), [2])

    async def test_an_unknown_place_is_an_error_and_not_the_end(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.find({}, after="nowhere")

    async def test_closing_finishes_what_has_begun(self) -> None:
        inserts = [self.store.insert(f"job/{number}", {"n": number}) for number in range(50)]
        found = [self.store.find({}) for _ in range(10)]
        await self.store.close()
        self.assertEqual([(await insert)["n"] for insert in inserts], list(range(50)))
        await gatherResults(found)

    async def test_after_closing_everything_fails_and_says_that_another_may_do_it(self) -> None:
        await self.store.close()
        for late in (self.store.insert("k/0", {}), self.store.find({})):
            with self.assertRaises(StoreError) as raised:
                await late
            self.assertTrue(raised.exception.retryable)

    async def test_closing_twice_is_closing(self) -> None:
        await self.store.close()
        await self.store.close()

    async def test_a_cancelled_insert_is_stored_all_the_same(self) -> None:
        insert = self.store.insert("k/0", {"n": 0})
        self.assert_cancellable(insert)
        self.assertEqual((await self.store.insert("k/0", {"n": 1}))["n"], 0)

    async def test_a_cancelled_find_makes_room(self) -> None:
        for _ in range(50):
            self.assert_cancellable(self.store.find({}))
        await self.insert({"n": 0})
        self.assertEqual(await self.found({}), [0])

    def assert_cancellable(self, waiting: Deferred[Any]) -> None:
        ended: list[Any] = []
        waiting.addBoth(ended.append)
        waiting.cancel()
        self.assertEqual(len(ended), 1)
