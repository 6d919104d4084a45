from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import AddressError
from txmicro.protocol.address import Address, Ids, check_type, parse, parse_id

NOT_ADDRESSES: list[Any] = [
    "", ":", "WB", "WB:", ":*", "WB:**", "WB:a b", "WB:a.b", "W.B:*", "W#:*", "1W:*", "WB:*:*", "WB:a:b", "WB:é",
    "É:*", "WB:a\n", "\nWB:a", "W" * 65 + ":*", "WB:" + "a" * 65, "WB:\ud800", None, 5, b"WB:*", ["WB:*"], {},
]  # fmt: skip


class Parsing(SynchronousTestCase):
    def test_any_worker_of_a_type(self) -> None:
        address = parse("WB:*")
        self.assertEqual(address, Address("WB", "*"))
        self.assertTrue(address.any)

    def test_one_worker(self) -> None:
        for text in ("WB:1795449588399-3fa9", "WA:1461679731775", "w_b-1:a", "W" * 64 + ":" + "a" * 64):
            address = parse(text)
            self.assertFalse(address.any)
            self.assertEqual(str(address), text)
            self.assertEqual(parse_id(text), address)

    def test_an_invalid_address(self) -> None:
        for text in NOT_ADDRESSES:
            self.assertRaises(AddressError, parse, text)
            self.assertRaises(AddressError, parse_id, text)

    def test_an_id_addresses_one_worker(self) -> None:
        error = self.assertRaises(AddressError, parse_id, "WB:*")
        self.assertEqual(str(error), "WB:* is not a valid worker id: it addresses any worker of its type")

    def test_the_message_is_short_and_says_what_was_expected(self) -> None:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        for wrong in ("x" * 10**6, deep):
            error = self.assertRaises(AddressError, parse, wrong)
            self.assertIn("expected TYPE:* or a worker id", str(error))
            self.assertLess(len(str(error)), 300)

    def test_types(self) -> None:
        self.assertEqual(check_type("WB"), "WB")
        for wrong in ("", "W.B", "W*", "1W", "W" * 65, "WB\n", None, 5):
            self.assertRaises(AddressError, check_type, wrong)

    def test_the_longest_name_fits_into_the_name_of_a_queue(self) -> None:
        longest = "W" * 64 + ":" + "a" * 64
        self.assertLessEqual(len(f"txmicro.direct.{parse(longest)}"), 255)


class FreshIds(SynchronousTestCase):
    def ids(self, bits: int = 0x3FA9) -> Ids:
        return Ids(lambda: 1795449588.399, lambda count: bits)

    def test_a_worker_id_has_its_type_a_time_and_random_digits(self) -> None:
        self.assertEqual(self.ids().worker("WB"), "WB:1795449588399-3fa9")
        self.assertEqual(self.ids(7).worker("WB"), "WB:1795449588399-0007")

    def test_a_new_id_is_valid(self) -> None:
        self.assertEqual(parse_id(Ids().worker("WB")).type, "WB")

    def test_an_id_needs_a_valid_type(self) -> None:
        self.assertRaises(AddressError, self.ids().worker, "W.B")

    def test_job_ids_differ_within_a_process_and_between_processes(self) -> None:
        ids, others = self.ids(1), self.ids(2)
        made = [ids.job() for _ in range(20)] + [others.job() for _ in range(20)]
        self.assertEqual(len(set(made)), 40)
        self.assertEqual(made[0], "0000000000000001-1")
        self.assertNotEqual(Ids().job(), Ids().job())
