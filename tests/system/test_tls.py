"""Tests TLS between the client and the embedded broker, in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import (
    BadCertificate,
    CertificateRefused,
    ConnectionLost,
    TlsError,
    WrongHost,
    lost_by,
)
from txmicro.amqp.uri import BrokerAddress, TlsFiles
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.memory_transport import MemoryEndpoint
from txmicro.bus.tls import Connections, TlsEndpoint

HOST = "broker.example"


class TlsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = Authority(self.folder / "ca.pem")
        self.server = self.folder / "server.pem"
        self.authority.issue(self.server, HOST, HOST, "127.0.0.1", "::1", server=True)
        self.own = self.folder / "own.pem"
        self.broker = BrokerAddress(tls=True, host=HOST, files=TlsFiles(ca=str(self.authority.path)))
        self.shown = 0

    def with_own(self, cert: Path | None = None) -> BrokerAddress:
        path = str(cert or self.own)
        return replace(self.broker, files=TlsFiles(str(self.authority.path), path, path))

    def options(self, demand: bool, **options: Any) -> ssl.CertificateOptions:
        pem = ssl.PrivateCertificate.loadPEM(self.server.read_text())
        trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(self.authority.path.read_bytes())])
        if demand:
            options["trustRoot"] = trust
        return ssl.CertificateOptions(privateKey=pem.privateKey.original, certificate=pem.original, **options)

    def dial(self, endpoint: TlsEndpoint, **options: Any) -> Deferred[Connection]:
        """Connect and close the connection; return the result of ready()."""
        arguments = {"vhost": "/", "username": "guest", "password": "guest", "clock": self.clock, **options}
        factory: Any = Factory.forProtocol(lambda: Connection(**arguments))
        client: Connection = self.successResultOf(endpoint.connect(factory))
        ready: Deferred[Connection] = client.ready().addCallback(self.look)
        self.clock.pump([0] * 50)
        client.shutdown()
        self.clock.pump([0] * 50)
        return ready

    def look(self, client: Connection) -> Connection:
        self.shown = client.transport.getPeerCertificate().to_cryptography().serial_number
        return client

    def endpoint(self, broker: BrokerAddress, demand: bool = False, **options: Any) -> TlsEndpoint:
        """Return an endpoint to an embedded broker behind TLS, which may require a certificate."""
        factory: Any = BrokerFactory(self.clock)
        self.addCleanup(factory.model.close)
        made: Any = self.options(demand, **options)
        clock: Any = self.clock
        behind: Any = TLSMemoryBIOFactory(made, False, factory, clock)
        return TlsEndpoint(MemoryEndpoint(behind, self.clock), broker, self.clock)

    def refused(self, endpoint: TlsEndpoint, kind: type[TlsError]) -> str:
        error = self.failureResultOf(self.dial(endpoint), kind).value
        self.assertIs(type(error), kind)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return str(error)


class VerificationTests(TlsTestCase):
    def test_a_broker_with_a_valid_certificate(self) -> None:
        for host in (HOST, "127.0.0.1", "::1"):
            self.successResultOf(self.dial(self.endpoint(replace(self.broker, host=host))))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_unknown_authority(self) -> None:
        other = Authority(self.folder / "other.pem", "other")
        broker = replace(self.broker, files=TlsFiles(ca=str(other.path)))
        self.assertIn(
            "signed by an unknown certificate authority", self.refused(self.endpoint(broker), BadCertificate)
        )

    def test_an_authority_with_the_name_of_another(self) -> None:
        forged = Authority(self.folder / "forged.pem")
        broker = replace(self.broker, files=TlsFiles(ca=str(forged.path)))
        self.assertIn("has an invalid signature", self.refused(self.endpoint(broker), BadCertificate))

    def test_the_systems_authorities_are_the_default(self) -> None:
        said = self.refused(self.endpoint(replace(self.broker, files=TlsFiles())), BadCertificate)
        self.assertIn("signed by an unknown certificate authority", said)

    def test_a_certificate_that_has_expired(self) -> None:
        self.authority.issue(self.server, HOST, HOST, server=True, days_ago=60)
        self.assertIn(f"has expired: CN={HOST}", self.refused(self.endpoint(self.broker), BadCertificate))

    def test_a_certificate_that_is_not_valid_yet(self) -> None:
        self.authority.issue(self.server, HOST, HOST, server=True, days_ago=-60)
        self.assertIn("is not valid yet", self.refused(self.endpoint(self.broker), BadCertificate))

    def test_a_clients_certificate_is_not_a_brokers(self) -> None:
        self.authority.issue(self.server, HOST, HOST)
        self.assertIn("is not a server certificate", self.refused(self.endpoint(self.broker), BadCertificate))

    def test_another_host(self) -> None:
        for host in ("other.example", "127.0.0.2"):
            said = self.refused(self.endpoint(replace(self.broker, host=host)), WrongHost)
            self.assertIn(f"not for {host}, but for CN={HOST}", said)

    def test_a_certificate_without_a_host_is_refused(self) -> None:
        self.authority.issue(self.server, HOST, server=True)
        self.assertIn(f"not for {HOST}", self.refused(self.endpoint(self.broker), WrongHost))

    def test_a_host_that_is_expected_instead(self) -> None:
        broker = replace(self.broker, host="10.0.0.1", server_name=HOST)
        self.successResultOf(self.dial(self.endpoint(broker)))

    def test_the_server_name_is_sent_to_the_broker_but_no_address_is(self) -> None:
        for broker, expected in ((self.broker, HOST.encode()), (replace(self.broker, host="::1"), None)):
            protocol: Any = SimpleNamespace(failVerification=None)
            connection = Connections(broker).clientConnectionForTLS(protocol)
            self.assertEqual(connection.get_servername(), expected)

    def test_verification_is_off_only_if_configured(self) -> None:
        self.authority.issue(self.server, "nobody", server=True, days_ago=60)
        self.refused(self.endpoint(self.broker), BadCertificate)
        broker = replace(self.broker, verify=False, files=TlsFiles())
        self.successResultOf(self.dial(self.endpoint(broker)))

    def test_old_versions_are_refused(self) -> None:
        old = {
            "insecurelyLowerMinimumTo": ssl.TLSVersion.TLSv1_0,
            "lowerMaximumSecurityTo": ssl.TLSVersion.TLSv1_1,
        }
        self.refused(self.endpoint(self.broker, **old), TlsError)
        self.successResultOf(
            self.dial(self.endpoint(self.broker, lowerMaximumSecurityTo=ssl.TLSVersion.TLSv1_2))
        )


class OwnCertificateTests(TlsTestCase):
    def test_it_is_sent_to_a_broker_that_requires_one(self) -> None:
        self.authority.issue(self.own, "WB")
        self.successResultOf(self.dial(self.endpoint(self.with_own(), demand=True)))

    def test_the_intermediate_certificates_are_sent_too(self) -> None:
        middle = Authority(self.folder / "middle.pem", "middle", self.authority)
        middle.issue(self.own, "WB")
        self.own.write_bytes(self.own.read_bytes() + middle.path.read_bytes())
        self.successResultOf(self.dial(self.endpoint(self.with_own(), demand=True)))

    def test_a_missing_certificate_is_refused(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            endpoint = self.endpoint(self.broker, demand=True, lowerMaximumSecurityTo=version)
            self.failureResultOf(self.dial(endpoint), TlsError)

    def test_a_certificate_that_the_broker_does_not_trust(self) -> None:
        Authority(self.folder / "other.pem", "other").issue(self.own, "WB")
        said = self.refused(self.endpoint(self.with_own(), demand=True), CertificateRefused)
        self.assertIn("the broker refused this client's certificate: ", said)

    def test_an_expired_certificate_of_the_client(self) -> None:
        self.authority.issue(self.own, "WB", days_ago=60)
        self.assertIn(
            "expired", self.refused(self.endpoint(self.with_own(), demand=True), CertificateRefused)
        )

    def test_a_renewed_certificate_is_used_for_the_next_connection(self) -> None:
        self.authority.issue(self.own, "WB", days_ago=60)
        endpoint = self.endpoint(self.with_own(), demand=True)
        self.failureResultOf(self.dial(endpoint), CertificateRefused)
        self.authority.issue(self.own, "WB")
        self.successResultOf(self.dial(endpoint))


class FileTests(TlsTestCase):
    def problem(self, files: TlsFiles) -> str:
        error = self.assertRaises(TlsError, TlsEndpoint, None, replace(self.broker, files=files), self.clock)
        return str(error)

    def test_invalid_files_are_named_at_once(self) -> None:
        self.authority.issue(self.own, "WB")
        ca, own, missing = str(self.authority.path), str(self.own), str(self.folder / "missing.pem")
        garbage = self.folder / "garbage.pem"
        garbage.write_text("none")
        nothing = str(garbage)
        encrypted = self.folder / "encrypted.pem"
        encrypted.write_text(self.authority.path.read_text() + ENCRYPTED_KEY)
        for files, expected in (
            (TlsFiles(ca=missing), f"cannot read {missing}: No such file or directory"),
            (TlsFiles(ca=nothing), f"{nothing} does not contain a PEM certificate"),
            (TlsFiles(ca, missing, own), f"cannot read {missing}: "),
            (TlsFiles(ca, nothing, own), f"{nothing} does not contain a PEM certificate"),
            (TlsFiles(ca, own, missing), f"cannot read {missing}: "),
            (TlsFiles(ca, own, nothing), f"{nothing} does not contain an unencrypted PEM private key"),
            (
                TlsFiles(ca, own, str(encrypted)),
                f"{encrypted} does not contain an unencrypted PEM private key",
            ),
            (TlsFiles(ca, ca, own), f"the private key in {own} does not belong to the certificate in {ca}"),
        ):
            self.assertTrue(self.problem(files).startswith(expected), (self.problem(files), expected))

    def test_a_file_that_is_missing_later_is_logged_at_each_attempt(self) -> None:
        self.authority.issue(self.own, "WB")
        endpoint = self.endpoint(self.with_own(), demand=True)
        self.own.unlink()
        factory: Any = None
        for _ in range(2):
            failure = self.failureResultOf(endpoint.connect(factory), TlsError)
            self.assertIn(f"cannot read {self.own}", str(failure.value))
        self.authority.issue(self.own, "WB")
        self.successResultOf(self.dial(endpoint))


class LostByTests(SynchronousTestCase):
    def test_an_error_of_openssl(self) -> None:
        for text, kind in (
            ("tlsv1 alert unknown ca", CertificateRefused),
            ("tlsv13 alert certificate required", CertificateRefused),
            ("sslv3 alert handshake failure", TlsError),
            ("wrong version number", TlsError),
        ):
            error = lost_by(Failure(SSL.Error([("SSL routines", "", text)])))
            self.assertIs(type(error), kind, text)
            self.assertIn(text, str(error))

    def test_another_error(self) -> None:
        for reason in (ConnectionDone("gone"), SSL.Error(), SSL.Error([])):
            self.assertIs(type(lost_by(Failure(reason))), ConnectionLost)


ENCRYPTED_KEY = """-----BEGIN ENCRYPTED PRIVATE KEY-----
"""
