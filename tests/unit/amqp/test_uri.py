"""Broker URIs, with the examples of RabbitMQ's specification (appendix A). One of them has another result here."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.uri import BrokerAddress, TlsFiles, UriError, parse
from txmicro.errors import TxmicroError


class Parsing(SynchronousTestCase):
    def test_the_examples_of_the_specification(self) -> None:
        examples: list[tuple[str, dict[str, Any]]] = [
            (
                "amqp://user:pass@host:10000/vhost",
                {"username": "user", "password": "pass", "host": "host", "port": 10000, "vhost": "vhost"},
            ),
            (
                "amqp://user%61:%61pass@ho%61st:10000/v%2fhost",
                {"username": "usera", "password": "apass", "host": "hoast", "port": 10000, "vhost": "v/host"},
            ),
            ("amqp://", {}),
            ("amqp://:@/", {"username": "", "password": ""}),
            ("amqp://user@", {"username": "user"}),
            ("amqp://user:pass@", {"username": "user", "password": "pass"}),
            ("amqp://host", {"host": "host"}),
            ("amqp://:10000", {"port": 10000}),
            ("amqp:///vhost", {"vhost": "vhost"}),
            ("amqp://host/", {"host": "host"}),  # in the specification the vhost ""
            ("amqp://host/%2F", {"host": "host", "vhost": "/"}),
            ("amqp://[::1]", {"host": "::1"}),
        ]
        for uri, expected in examples:
            self.assertEqual(parse(uri), BrokerAddress(**expected), uri)

    def test_a_slash_after_the_host_is_the_default_vhost(self) -> None:
        for uri in ("amqp://guest:guest@localhost:5672/", "amqp://guest:guest@localhost:5672/?heartbeat=5"):
            self.assertEqual(parse(uri).vhost, "/")

    def test_a_password_may_contain_commas(self) -> None:
        self.assertEqual(parse("amqp://ann:s3,cret@host").password, "s3,cret")

    def test_tls_has_a_port_of_its_own(self) -> None:
        self.assertEqual(parse("amqps://host"), BrokerAddress(tls=True, host="host", port=5671))
        self.assertEqual(parse("AMQPS://host:5672").port, 5672)

    def test_options(self) -> None:
        broker = parse("amqp://host/v?heartbeat=5&connection_timeout=10000&channel_max=100")
        self.assertEqual((broker.heartbeat, broker.connection_timeout, broker.channel_max), (5, 10000, 100))
        self.assertEqual(parse("amqp://host?heartbeat=0").heartbeat, 0)
        self.assertIsNone(parse("amqp://host").heartbeat)

    def test_an_invalid_uri_is_refused_without_its_secrets(self) -> None:
        for uri in (
            "",
            "host",
            "http://ann:s3cret@host",
            "amqp:host",
            "amqp://ann:s3cret@host:port",
            "amqp://ann:s3cret@host:0",
            "amqp://ann:s3cret@host:99999",
            "amqp://ann:s3cret@[::1",
            "amqp://ann:s3cret#@host",
            "amqp://ann:s3cret/@host",
            "amqp://ann:s3@cret/s3cret@host",
            "amqp://ann:1?s3cret@host",
            "amqp://ann:1?s3cret@host=1",
            "amqp://ann:1#s3cret@host",
            "amqp://ann:s3cret\n@host",
            "amqp://ann:s3cret@host,b",
            "amqp://ann:s3cret@ho st",
            "amqp://ann:s3cret%zz@host",
            "amqp://ann%ff:s3cret@host",
            "amqp://ann:s3cret@host%2",
            "amqp://ann:s3cret@host/a/b",
            "amqp://ann:s3cret@host/%ff",
            "amqp://ann:s3cret@host?heartbeat=often",
            "amqp://ann:s3cret@host?heartbeat=-1",
            "amqp://ann:s3cret@host?heartbeat=65536",
            "amqp://ann:s3cret@host?heartbeat=",
            "amqp://ann:s3cret@host?heartbeat=²",
            "amqp://ann:s3cret@host?verify=verify_none",
            "amqp://ann:s3cret@host?certfile=/own.pem",
            "amqp://host?auth_mechanism=external",
            "amqps://ann:s3cret@host?verify=never",
            "amqps://ann:s3cret@host?auth_mechanism=amqplain",
            "amqps://ann:s3cret@host?cacertfile=",
            "amqps://ann:s3cret@host?keyfile=/own.key",
            "amqps://ann:s3cret@host?certfile=/own.pem&auth_mechanism=external",
            "amqps://host?auth_mechanism=external",
            "amqps://ann:s3cret@host?depth=1",
        ):
            with self.assertRaises(UriError, msg=uri) as caught:
                parse(uri)
            error = caught.exception
            self.assertNotIn("s3cret", str(error))
            self.assertTrue(
                error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
            )

    def test_a_uri_that_is_not_text_is_refused(self) -> None:
        wrong: list[Any] = [None, 5, b"amqp://host", ["amqp://host"]]
        for uri in wrong:
            self.assertRaises(UriError, parse, uri)

    @given(st.text(max_size=40))
    def test_any_text_is_a_broker_or_an_error(self, rest: str) -> None:
        try:
            parse("amqp://" + rest)
            parse("amqps://" + rest)
        except UriError as error:
            self.assertIsInstance(error, TxmicroError)


class Tls(SynchronousTestCase):
    def test_defaults_of_tls(self) -> None:
        broker = parse("amqps://host")
        self.assertEqual((broker.files, broker.verify, broker.server_name), (TlsFiles(), True, ""))
        self.assertEqual((broker.external, broker.username), (False, "guest"))

    def test_options_of_tls(self) -> None:
        broker = parse(
            "amqps://h?cacertfile=/ca.pem&certfile=/my%20own.pem&keyfile=/own.key&verify=verify_peer"
            "&server_name_indication=rabbit.example"
        )
        self.assertEqual(broker.files, TlsFiles("/ca.pem", "/my own.pem", "/own.key"))
        self.assertEqual((broker.verify, broker.server_name), (True, "rabbit.example"))
        self.assertFalse(parse("amqps://h?verify=verify_none").verify)

    def test_a_key_may_be_in_the_file_of_its_certificate(self) -> None:
        both = TlsFiles(cert="/own.pem", key="/own.pem")
        self.assertEqual(parse("amqps://h?certfile=/own.pem").files, both)
        self.assertEqual(parse("amqps://h", TlsFiles(cert="/own.pem")).files, both)

    def test_configured_files_apply_to_uris_without_files(self) -> None:
        files = TlsFiles("/ca.pem", "/own.pem", "/own.key")
        self.assertEqual(parse("amqps://h", files).files, files)
        self.assertEqual(parse("amqps://h?cacertfile=/b.pem", files).files, files._replace(ca="/b.pem"))
        # The key of one certificate is never used for another.
        self.assertEqual(
            parse("amqps://h?certfile=/b.pem", files).files, TlsFiles("/ca.pem", "/b.pem", "/b.pem")
        )
        self.assertEqual(parse("amqp://h", files), BrokerAddress(host="h"))

    def test_the_user_comes_from_the_certificate_or_the_uri(self) -> None:
        own = TlsFiles(cert="/own.pem")
        for uri, files, external in (
            ("amqps://h", TlsFiles(), False),
            ("amqps://h", own, True),
            ("amqps://h?certfile=/own.pem", TlsFiles(), True),
            ("amqps://h?auth_mechanism=external", own, True),
            ("amqps://ann:s3cret@h", own, False),
            ("amqps://h?auth_mechanism=plain", own, False),
            ("amqp://h?auth_mechanism=plain", own, False),
        ):
            self.assertIs(parse(uri, files).external, external, uri)


class Showing(SynchronousTestCase):
    def test_the_password_is_never_shown(self) -> None:
        broker = parse("amqp://ann%40:s3cret@[::1]:1/v%2fw")
        self.assertEqual(str(broker), "amqp://ann%40:***@[::1]:1/v%2Fw")
        self.assertEqual(str(parse("amqps://h/")), "amqps://guest:***@h:5671/%2F")
        self.assertNotIn("s3cret", repr(broker))
        self.assertEqual(str(parse("amqps://h?certfile=/own.pem")), "amqps://h:5671/%2F")

    def test_a_broker_does_not_change(self) -> None:
        with self.assertRaises(FrozenInstanceError):
            BrokerAddress().host = "other"  # type: ignore[misc]
