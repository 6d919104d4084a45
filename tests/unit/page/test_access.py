"""The accounts and roles of the page, and where it is served without accounts."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.pages import Client, Reply
from txmicro.page.access import Access, check_origin
from txmicro.page.site import Answer, PageRoute, json_answer
from txmicro.page.throttle import ADDRESSES, FAILURES, INTERVAL, Throttle

READER, OPERATOR = "ann:a secret of ann's".replace(" ", "-"), "bob:a:secret:of:bob"


def basic(account: str) -> str:
    return f"Basic {b64encode(account.encode()).decode()}"


class AccessTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def serve(self, access: Access, address: str = "127.0.0.1") -> Client:
        def who(request: Any) -> Answer:
            return json_answer(access.admit(request)._asdict())

        client = Client([PageRoute("GET", "/", who)], self.clock, address)
        self.addCleanup(client.close)
        return client

    def accounts(self, address: str = "192.0.2.1") -> Client:
        return self.serve(Access([READER], [OPERATOR], interface="", clock=self.clock), address)

    def local(self, interface: str) -> Client:
        return self.serve(Access([], [], interface=interface, clock=self.clock))


class AccountTests(AccessTestCase):
    def test_names_and_roles(self) -> None:
        client = self.accounts()
        for account, name, role in ((READER, "ann", "reader"), (OPERATOR, "bob", "operator")):
            secret = account.partition(":")[2]
            for header in (
                basic(account),
                basic(account).replace("Basic", "basic"),
                f"Bearer {secret}",
                f"bearer {secret}",
            ):
                reply = client.ask("/", Authorization=header, Host="any.example")
                self.assertEqual(reply.json, {"name": name, "role": role, "address": "192.0.2.1"}, header)

    def test_without_a_secret_a_browser_is_asked_for_one(self) -> None:
        reply = self.accounts().ask("/")
        self.assertEqual((reply.status, reply.json["error"]), (401, "Unauthorized"))
        self.assertEqual(reply.headers["www-authenticate"], 'Basic realm="txmicro", charset="UTF-8"')

    def test_a_script_of_the_page_is_asked_without_a_dialog(self) -> None:
        reply = self.accounts().ask("/", X_Txmicro="1")
        self.assertEqual(reply.status, 401)
        self.assertEqual(reply.headers["www-authenticate"], 'Bearer realm="txmicro"')

    def test_everything_else_is_refused(self) -> None:
        secret = OPERATOR.partition(":")[2]
        for number, header in enumerate(
            (
                basic("bob:wrong"),
                basic(f"ann:{secret}"),
                basic("bob"),
                basic(OPERATOR.upper()),
                basic(OPERATOR + "x"),
                f"Bearer {OPERATOR}",
                f"Bearer {secret}x",
                f"Basic {secret}",
                "Basic !!!",
                f"Digest {secret}",
                secret,
                "Bearer",
                "\xff",
                "Bearer " + "x" * 5_000,
            )
        ):
            reply = self.accounts(f"192.0.2.{number}").ask("/", Authorization=header)
            self.assertEqual(reply.status, 401, header)

    def test_a_secret_is_neither_shown_nor_logged(self) -> None:
        with capturedLogs() as events:
            reply = self.accounts().ask("/", Authorization=basic("bob:a-wrong-secret"))
        (line,) = map(formatEvent, events)
        self.assertIn("a login at the page from 192.0.2.1 has failed", line)
        for text in (line, reply.body, str(events)):
            self.assertNotIn("a-wrong-secret", text)
            self.assertNotIn("secret:of:bob", text)


class ThrottleTests(AccessTestCase):
    def fail(self, client: Client) -> Reply:  # type: ignore[override]
        return client.ask("/", Authorization="Bearer wrong")

    def test_after_some_failures_not_even_the_right_secret_is_checked(self) -> None:
        client = self.accounts()
        self.assertEqual([self.fail(client).status for _ in range(FAILURES)], [401] * FAILURES)
        reply = client.ask("/", Authorization=basic(OPERATOR))
        self.assertEqual((reply.status, reply.headers["retry-after"]), (429, "6"))
        self.assertEqual(client.ask("/").status, 401)

    def test_one_more_login_may_fail_after_each_interval(self) -> None:
        client = self.accounts()
        for _ in range(FAILURES):
            self.fail(client)
        for _ in range(3):
            self.clock.advance(INTERVAL)
            client.connect("192.0.2.1")
            self.assertEqual([self.fail(client).status, self.fail(client).status], [401, 429])
        self.clock.advance(INTERVAL)
        client.connect("192.0.2.1")
        self.assertEqual(client.ask("/", Authorization=basic(OPERATOR)).status, 200)

    def test_other_addresses_are_not_affected(self) -> None:
        throttle = Throttle(self.clock)
        for _ in range(FAILURES):
            throttle.failed("192.0.2.1")
        self.assertGreater(throttle.wait("192.0.2.1"), 0)
        self.assertEqual(throttle.wait("192.0.2.2"), 0)

    def test_the_addresses_of_an_ipv6_network_are_one(self) -> None:
        throttle = Throttle(self.clock)
        for number in range(FAILURES):
            throttle.failed(f"2001:db8::{number}")
        self.assertGreater(throttle.wait("2001:db8::ffff"), 0)
        self.assertEqual(throttle.wait("2001:db8:0:1::1"), 0)

    def test_a_bounded_number_of_addresses_is_known(self) -> None:
        throttle = Throttle(self.clock)
        for number in range(ADDRESSES + 10):
            throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        self.assertEqual(len(throttle), ADDRESSES)
        self.clock.advance(INTERVAL + 1)
        throttle.failed("192.0.2.1")
        self.assertEqual(len(throttle), 1)


class LocalTests(AccessTestCase):
    """The page without accounts."""

    def test_everybody_on_this_machine_is_an_operator(self) -> None:
        for interface in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
            reply = self.local(interface).ask("/")
            self.assertEqual(reply.json, {"name": "local", "role": "operator", "address": "127.0.0.1"})

    def test_on_another_interface_it_says_what_to_set(self) -> None:
        for interface in ("", "0.0.0.0", "::", "192.0.2.1", "host.example"):
            reply = self.local(interface).ask("/")
            self.assertEqual((reply.status, reply.json["error"]), (403, "Forbidden"), interface)
            self.assertIn("set page_operators", reply.json["message"])

    def test_a_host_that_resolves_to_this_machine_is_refused(self) -> None:
        client = self.local("127.0.0.1")
        for host in ("localhost", "LOCALHOST:9091", "127.0.0.1", "127.0.0.1:9091", "[::1]", "[::1]:9091"):
            self.assertEqual(client.ask("/", Host=host).status, 200, host)
        for host in (
            "evil.example",
            "evil.example:9091",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:evil.example",
            "192.0.2.1",
            "[::2]",
            "::1:9091x",
            "\xff",
            "",
        ):
            self.assertEqual(client.ask("/", Host=host).status, 403, host)


class OriginTests(AccessTestCase):
    """Requests that change something, from pages of other sites."""

    def ask(self, **headers: str) -> int:
        def act(request: Any) -> Answer:
            check_origin(request)
            return json_answer("")

        client = Client([PageRoute("POST", "/", act)], self.clock)
        self.addCleanup(client.close)
        return client.ask("/", "POST", b"{}", **{"Host": "page:9091", **headers}).status

    def test_the_page_itself_and_programs_may(self) -> None:
        self.assertEqual(self.ask(X_Txmicro="1"), 200)
        self.assertEqual(
            self.ask(X_Txmicro="1", Origin="http://page:9091", Sec_Fetch_Site="same-origin"), 200
        )
        self.assertEqual(self.ask(X_Txmicro="1", Origin="https://PAGE:9091"), 200)

    def test_a_form_of_another_site_cannot_have_the_header(self) -> None:
        self.assertEqual(self.ask(), 403)
        self.assertEqual(self.ask(X_Txmicro="0"), 403)

    def test_another_origin_is_refused(self) -> None:
        for origin in (
            "http://evil.example",
            "null",
            "http://page",
            "http://page:9092",
            "http://page:9091.x",
        ):
            self.assertEqual(self.ask(X_Txmicro="1", Origin=origin), 403, origin)
        for site in ("cross-site", "same-site"):
            self.assertEqual(self.ask(X_Txmicro="1", Sec_Fetch_Site=site), 403, site)
