"""The contract of :class:`txmicro.stores.Store`, which each store has to pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from txmicro.errors import BadRequest, EncodeError
from txmicro.stores import DocumentTooDeep, DocumentTooLarge, Store, StoreError, StoreTimeout
from txmicro.stores.base import MAX_DEPTH, MAX_DOCUMENT

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


OPERATORS: list[Any] = [
    {"$ne": 1},
    {"$gt": ""},
    {"$regex": ".*"},
    {"$where": "sleep(1000)"},
    {"$expr": {"$eq": [1, 1]}},
    {"$not": {"$eq": 1}},
    {"$exists": True},
    {"$in": [1]},
    {"$or": []},
    {"$function": {"body": "", "args": [], "lang": "js"}},
    {"$numberDouble": "NaN"},
    {},
]
# Sorted.
VALUES: list[Any] = [
    None,
    float("-inf"),
    -(2**62),  # mongo-java-server takes -2**63 for the infinity
    -1.5,
    0,
    0.5,
    1,
    2**53,
    2**53 + 1,
    float("inf"),
    "",
    "$gt",
    "10",
    "9",
    "Z",
    "a",
    "z",
    "ä",
    "\N{CLAPPER BOARD}",
    False,
    True,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1979, 5, 25, tzinfo=UTC),
    datetime(1979, 5, 25, 0, 0, 0, 1000, tzinfo=UTC),
    datetime(1979, 5, 25, 0, 0, 1, tzinfo=UTC),
]
UNORDERED: list[Any] = [[], [1], ["a"], {}, {"a": 1}, b"", b"1", float("nan"), {"$date": "a", "b": 1}]
RANGES: list[tuple[Any, Any, slice]] = [
    (0, 1, slice(4, 7)),
    (-1.5, None, slice(3, 10)),
    (None, 0, slice(1, 5)),
    (float("-inf"), float("inf"), slice(1, 10)),
    (2**53 + 1, None, slice(8, 10)),
    ("", None, slice(10, 19)),
    (None, "10", slice(10, 13)),
    ("a", "z", slice(15, 17)),
    (None, datetime(1979, 5, 25, tzinfo=UTC), slice(21, 23)),
    (datetime(1979, 5, 25, tzinfo=UTC), None, slice(22, 25)),
    (datetime(1979, 5, 25, 0, 0, 0, 1000), datetime(1979, 5, 25, 0, 0, 1), slice(23, 25)),
]


class StoreContract(TestCase):
    """The tests of the contract. A subclass per store opens it."""

    store: Store[Any]

    def open(self) -> Deferred[Store[Any]]:
        raise NotImplementedError

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.store = await self.open()
        self.addCleanup(lambda: self.store.close())

    async def insert(self, *documents: dict[str, Any]) -> list[str]:
        inserted = [await self.store.insert(f"job-{number}/0", doc) for number, doc in enumerate(documents)]
        return [document["id"] for document in inserted]

    async def found(self, filters: dict[str, Any], **page: Any) -> list[Any]:
        return [document.get("n") for document in await self.store.find(filters, **page)]

    async def test_an_inserted_document_is_found_with_its_id(self) -> None:
        stored = await self.store.insert("job-1/2", {"title": "Alien", "year": 1979})
        self.assertEqual(stored, {"id": stored["id"], "title": "Alien", "year": 1979})
        self.assertIsInstance(stored["id"], str)
        self.assertEqual(await self.store.find({}), [stored])

    async def test_its_observer_is_told_how_each_operation_ended(self) -> None:
        told: list[tuple[str, str]] = []

        def observe(kind: str, operation: str, outcome: str, seconds: float) -> None:
            self.assertEqual(kind, self.store.kind)
            self.assertGreaterEqual(seconds, 0)
            told.append((operation, outcome))

        await self.insert({"n": 0})
        self.store.observer = observe
        await self.store.insert("job-1/0", {"n": 1})
        self.assertEqual(await self.found({}), [0, 1])
        with self.assertRaises(BadRequest):
            await self.store.insert("job-2/0", {"id": "mine"})
        with self.assertRaises(StoreTimeout):
            await self.store.find({}, timeout=-1)
        stopped = self.store.find({})
        stopped.cancel()
        with self.assertRaises(CancelledError):
            await stopped
        self.assertEqual(
            told,
            [
                ("insert", "succeeded"),
                ("find", "succeeded"),
                ("insert", "BadRequest"),
                ("find", "StoreTimeout"),
                ("find", "canceled"),
            ],
        )

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

    async def test_values_are_returned_unchanged(self) -> None:
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

    async def test_an_empty_document_is_a_document(self) -> None:
        stored = await self.store.insert("k/0", {})
        self.assertEqual(list(stored), ["id"])

    async def test_a_document_has_no_id_of_its_own(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.insert("k/0", {"id": "mine"})

    async def test_a_documents_names_are_text(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.insert("k/0", {1: "one"})  # type: ignore[dict-item]

    async def test_a_value_that_cannot_be_encoded_is_refused_and_named(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value in (object(), {"set": {1}}, "\ud800", deep):
            with self.assertRaises(EncodeError) as raised:
                await self.store.insert("k/0", {"culprit": value})
            self.assertIn("culprit", str(raised.exception))
        self.assertEqual(await self.store.find({}), [])

    async def test_the_deepest_document_can_be_stored_and_one_that_is_deeper_is_refused(self) -> None:
        value: list[Any] = []
        for _ in range(MAX_DEPTH - 2):  # the document itself is a level, and this list
            value = [value]
        stored = await self.store.insert("k/0", {"n": 0, "deep": value})
        self.assertEqual(await self.store.find({"n": 0}), [stored])
        for deeper in ([value], {"a": value}, (value,)):
            with self.assertRaises(DocumentTooDeep):
                await self.store.insert("k/1", {"deep": deeper})
        self.assertEqual(await self.found({}), [0])

    async def test_the_largest_document_can_be_stored_and_one_that_is_larger_is_refused(self) -> None:
        text = "x" * (MAX_DOCUMENT - 1000)
        self.assertEqual(len((await self.store.insert("k/0", {"n": 0, "text": text}))["text"]), len(text))
        with self.assertRaises(DocumentTooLarge) as raised:
            await self.store.insert("k/1", {"text": text + "x" * 1000})
        self.assertFalse(raised.exception.retryable)
        self.assertEqual(await self.found({}), [0])

    async def test_all_filters_have_to_match(self) -> None:
        await self.insert({"n": 0, "a": "x"}, {"n": 1, "a": "x", "b": "y"}, {"n": 2, "a": "y"})
        self.assertEqual(await self.found({"a": "x"}), [0, 1])
        self.assertEqual(await self.found({"a": "x", "b": "y"}), [1])
        self.assertEqual(await self.found({"a": "z"}), [])
        self.assertEqual(await self.found({"c": "x"}), [])

    async def test_a_list_matches_any_of_its_values(self) -> None:
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

    async def test_a_filter_that_is_not_a_scalar_is_refused(self) -> None:
        for value in (*OPERATORS, [[1]], [{"$ne": 1}], {1}, object(), 2**63, [-(2**63) - 1]):
            with self.assertRaises(BadRequest):
                await self.store.find({"v": value})
        with self.assertRaises(BadRequest):
            await self.store.find({1: "v"})  # type: ignore[dict-item]

    async def test_too_many_filters_are_refused(self) -> None:
        for many in ({f"field{number}": 1 for number in range(1000)}, {"field": [1] * 2000}):
            with self.assertRaises(BadRequest):
                await self.store.find(many)

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

    async def test_a_range_includes_both_ends(self) -> None:
        await self.insert(*({"n": number} for number in range(5)))
        self.assertEqual(await self.found({}, ranges={"n": [1, 3]}), [1, 2, 3])
        self.assertEqual(await self.found({}, ranges={"n": [3, None]}), [3, 4])
        self.assertEqual(await self.found({}, ranges={"n": (None, 0.5)}), [0])
        self.assertEqual(await self.found({}, ranges={"n": [3, 1]}), [])
        self.assertEqual(await self.found({"n": [0, 2]}, ranges={"n": [1, 3]}), [2])

    async def test_a_range_contains_only_values_of_its_type(self) -> None:
        for field in ("v", "title"):  # "title" is indexed
            await self.insert_values(field)
            for low, high, expected in RANGES:
                found = await self.store.find({}, ranges={field: [low, high]}, sort=[field])
                self.assertEqual(
                    [document[field] for document in found], VALUES[expected], (field, low, high)
                )

    async def test_a_range_of_values_that_cannot_be_sorted_is_refused(self) -> None:
        bad: list[Any] = [1, "ab", [], [1], [1, 2, 3], [None, None], [1, "2"], [True, False], [[1], [2]]]
        bad += [[b"a", b"b"], [{"$gt": 1}, None], [float("nan"), 1], [1, 2**63], {"$gt": 1}, {0: 1, 1: 2}]
        for limits in bad:
            with self.assertRaises(BadRequest):
                await self.store.find({}, ranges={"n": limits})

    async def test_a_range_that_cannot_be_encoded_is_refused(self) -> None:
        for low in ("\ud800", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))):
            with self.assertRaises(EncodeError):
                await self.store.find({}, ranges={"n": [low, None]})

    async def test_documents_are_sorted_by_type_and_value(self) -> None:
        for field in ("v", "title"):  # "title" is indexed
            expected = await self.insert_values(field)
            self.assertEqual(await self.sorted(field, [field]), expected)
            self.assertEqual(await self.sorted(field, [f"-{field}"]), expected[::-1])

    async def test_pages_of_sorted_documents_have_each_document_once(self) -> None:
        await self.insert_values("v")
        await self.insert_values("title")  # indexed; half of the documents lack the one, half the other
        for sort in (["v"], ["-v"], ["title"], ["-title"], ["v", "-title"]):
            expected = await self.store.find({}, 1000, ranges={"n": [0, None]}, sort=sort)
            paged: list[dict[str, Any]] = []
            after = None
            while page := await self.store.find({}, 3, after, sort=sort, ranges={"n": [0, None]}):
                paged += page
                after = page[-1]["id"]
            self.assertEqual(len(paged), 2 * len(VALUES))
            self.assertEqual(paged, expected, sort)

    async def test_documents_can_be_sorted_by_several_fields(self) -> None:
        pairs = [(1, "b"), (2, "a"), (1, "a"), (2, "b"), (1, "a")]
        ids = await self.insert(*({"n": n, "x": x, "y": y} for n, (x, y) in enumerate(pairs)))
        self.assertEqual(await self.found({}, sort=["x", "y"]), [2, 4, 0, 1, 3])
        self.assertEqual(await self.found({}, sort=["x", "-y"]), [0, 4, 2, 3, 1])
        self.assertEqual(await self.found({}, sort=["-x", "y"]), [1, 3, 2, 4, 0])
        self.assertEqual(await self.found({}, sort=["-x", "y"], after=ids[3], limit=2), [2, 4])
        self.assertEqual(await self.found({}, sort=["-x", "y"], after=ids[2]), [4, 0])
        self.assertEqual(await self.found({}, sort=["-id"], after=max(ids), limit=1, fields=[]), [None])

    async def test_equal_documents_stay_in_the_order_of_insertion(self) -> None:
        await self.insert(*({"n": number, "v": "same"} for number in range(4)))
        self.assertEqual(await self.found({}, sort=["v"]), [0, 1, 2, 3])
        self.assertEqual(await self.found({}, sort=["-v"]), [3, 2, 1, 0])

    async def test_no_page_starts_after_a_document_that_cannot_be_sorted(self) -> None:
        ids = await self.insert({"v": [1]}, {"v": {"a": 1}}, {"v": b"1"}, {"v": float("nan")})
        self.assertEqual(await self.store.find({}, sort=["v"]), [])
        for after in ids:
            with self.assertRaises(BadRequest):
                await self.store.find({}, sort=["v"], after=after)

    async def test_only_the_requested_fields_are_returned(self) -> None:
        (id,) = await self.insert({"a": 1, "b": {"c": 2}, "$where": 3, "a.b": 4, "_id": 5})
        for fields, expected in (
            ([], {}),
            (["a"], {"a": 1}),
            (("b", "gone"), {"b": {"c": 2}}),
            (["b.c", "$where", "a.b"], {"$where": 3, "a.b": 4}),
            (["_id", "_order", "_words", "id"], {"_id": 5}),
        ):
            self.assertEqual(await self.store.find({}, fields=fields), [{"id": id, **expected}])

    async def test_names_of_fields_that_are_not_valid_are_refused(self) -> None:
        bad: list[Any] = ["a", [1], {"a": 1}, [["a"]], [{"$sort": 1}], [None], ["a"] * 1000]
        for names in bad:
            for option in ("fields", "sort"):
                with self.assertRaises(BadRequest):
                    await self.store.find({}, **{option: names})
        unnamed: Any = {1: [1, 2]}
        with self.assertRaises(BadRequest):
            await self.store.find({}, ranges=unnamed)
        with self.assertRaises(BadRequest):
            await self.store.find({}, words=unnamed)

    async def test_a_text_is_found_by_its_words(self) -> None:
        texts: list[Any] = [
            "The Alien, again",
            "ALIENS",
            "Amélie: the film",
            ["the end", 5, "alien"],
            None,
            7,
        ]
        await self.insert(*({"n": number, "plot": text} for number, text in enumerate(texts)))
        for words, expected in (
            ("alien", [0, 3]),
            ("again THE", [0]),
            ("amelie", [2]),
            ("the", [0, 2, 3]),
            ("5", []),
            ("alie", []),
            ("the " * 1000, [0, 2, 3]),
        ):
            self.assertEqual(await self.found({}, words={"plot": words}), expected, words)
        self.assertEqual(await self.found({"n": 3}, words={"plot": "alien"}, sort=["-n"]), [3])

    async def test_words_are_found_only_in_the_given_field(self) -> None:
        await self.insert({"plot": "alien"})
        many = " ".join(f"word{number}" for number in range(1000))
        bad: list[Any] = [{"title": "alien"}, {"plot": many}]
        bad += [{"plot": value} for value in ("", "...", 5, None, ["alien"], {"$all": ["alien"]})]
        for words in bad:
            with self.assertRaises(BadRequest):
                await self.store.find({}, words=words)

    async def test_an_operation_past_its_deadline_fails(self) -> None:
        for timeout in (0, -1, float("nan")):
            for late in (self.store.insert("k/0", {}, timeout=timeout), self.store.find({}, timeout=timeout)):
                with self.assertRaises(StoreTimeout) as raised:
                    await late
                self.assertTrue(raised.exception.retryable)
        self.assertEqual(await self.store.find({}, timeout=1e9), [])

    async def test_pages_have_each_document_once(self) -> None:
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

    async def test_a_page_after_an_unknown_id_is_an_error(self) -> None:
        with self.assertRaises(BadRequest):
            await self.store.find({}, after="nowhere")

    async def test_ids_and_limits_that_are_not_valid_are_refused(self) -> None:
        bad: list[Any] = [{"$gt": ""}, 1, b"a", ["a"], True]
        for after in bad:
            with self.assertRaises(BadRequest):
                await self.store.find({}, after=after)
        bad = [0, -1, "1", None, 1.5, True, {"$gt": 0}]
        for limit in bad:
            with self.assertRaises(BadRequest):
                await self.store.find({}, limit=limit)

    async def test_concurrent_finds_by_id_each_have_their_document(self) -> None:
        ids = await self.insert({"n": 0, "a": 1}, {"n": 1, "a": 2}, {"n": 2, "a": 3})
        asked = [*ids, "nobody", ids[0]]
        found = await gatherResults([self.store.find({"id": id}, fields=["n"]) for id in asked])
        expected: list[Any] = [[{"id": id, "n": n}] for n, id in enumerate(ids)]
        self.assertEqual(found, [*expected, [], expected[0]])
        for other in ({"n": 1}, {"a": 1, "n": 0}):
            expected = [0] if other["n"] == 0 else []
            self.assertEqual(await self.found({"id": ids[0], **other}), expected)

    async def test_an_id_that_cannot_be_encoded_fails_only_its_own_find(self) -> None:
        (id,) = await self.insert({"n": 0})
        good = [self.store.find({"id": id}) for _ in range(3)]
        bad = self.store.find({"id": "\ud800"})
        good.append(self.store.find({"id": id}))
        with self.assertRaises(EncodeError):
            await bad
        self.assertEqual([len(found) for found in await gatherResults(good)], [1] * 4)

    async def test_closing_finishes_the_operations_that_have_begun(self) -> None:
        inserts = [self.store.insert(f"job/{number}", {"n": number}) for number in range(50)]
        found = [self.store.find({}) for _ in range(10)]
        await self.store.close()
        self.assertEqual([(await insert)["n"] for insert in inserts], list(range(50)))
        await gatherResults(found)

    async def test_after_closing_operations_fail_as_retryable(self) -> None:
        await self.store.close()
        for late in (self.store.insert("k/0", {}), self.store.find({})):
            with self.assertRaises(StoreError) as raised:
                await late
            self.assertTrue(raised.exception.retryable)

    async def test_a_store_can_be_closed_twice(self) -> None:
        await self.store.close()
        await self.store.close()

    async def test_a_canceled_insert_is_still_stored(self) -> None:
        insert = self.store.insert("k/0", {"n": 0})
        self.assert_cancelable(insert)
        self.assertEqual((await self.store.insert("k/0", {"n": 1}))["n"], 0)

    async def test_a_canceled_find_frees_its_thread(self) -> None:
        for _ in range(50):
            self.assert_cancelable(self.store.find({}))
        await self.insert({"n": 0})
        self.assertEqual(await self.found({}), [0])

    async def insert_values(self, field: str) -> list[Any]:
        """Insert values of all types; return the sortable ones in their order."""
        order = [number * 7 % len(VALUES) for number in range(len(VALUES))]  # 7 and their number are coprime
        for number in order:
            await self.store.insert(f"{field}/{number}", {"n": number, field: VALUES[number]})
        for number, value in enumerate(UNORDERED):
            await self.store.insert(f"{field}/no/{number}", {"n": -1, field: value})
        return VALUES

    async def sorted(self, field: str, sort: list[str]) -> list[Any]:
        found = await self.store.find({}, 1000, ranges={"n": [0, None]}, sort=sort)
        return [document[field] for document in found if field in document]

    def assert_cancelable(self, waiting: Deferred[Any]) -> None:
        ended: list[Any] = []
        waiting.addBoth(ended.append)
        waiting.cancel()
        self.assertEqual(len(ended), 1)
