"""Tests TLS and certificates with a real RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.live import LiveBroker, LiveTestCase, RabbitMQ
from tests.support.rabbitmq import HOST, reactor, require_rabbitmq
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import AuthenticationFailed, BadCertificate, CertificateRefused, WrongHost
from txmicro.bus.targets import dial, target
from txmicro.protocol.job import Job
from txmicro.worker import Worker


class SecureRabbitMQ(RabbitMQ):
    async def start(self) -> None:
        self.node = await require_rabbitmq(tls=True)


class TlsTests(LiveTestCase):
    def make_broker(self) -> LiveBroker:
        return SecureRabbitMQ()

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        broker: Any = self.broker
        self.node = broker.node
        self.ca = self.node.directory / "ca.pem"
        self.own = Path(self.mktemp())
        while await self.connections("pid"):
            """Those of the test before are still closing."""

    def secure(self, user: str = "", host: str = HOST, **options: str) -> str:
        given = {"cacertfile": str(self.ca), "certfile": str(self.own), **options}
        query = "&".join(f"{name}={quote(value)}" for name, value in given.items() if value)
        return f"amqps://{user}{host}:{self.node.tls_port}/%2f?{query}"

    async def certified(self, name: str, **options: Any) -> None:
        await self.node.add_user(name)
        self.node.authority.issue(self.own, name, **options)

    async def refused(self, url: str, kind: type[Exception]) -> str:
        return str(await self.failed(self.dial(url), kind))

    async def dial(self, url: str) -> Connection:
        client = await dial(target(reactor, url), reactor, 10, "test")
        self.addCleanup(client.shutdown)
        return client

    async def connections(self, *columns: str) -> list[list[str]]:
        listed: str = await self.node.ctl("list_connections", *columns)
        return [line.split("\t") for line in listed.splitlines()[1:]]

    async def test_a_job_uses_tls_with_the_user_of_the_certificate(self) -> None:
        await self.certified("tls-worker")
        taker, sender = Worker("WB", do_job=lambda job: job.data * 2), Worker("WA")
        for worker in (taker, sender):
            self.launch(worker, url=self.secure())
            await worker.when_ready()
        self.assertEqual(await sender.send("WB:*", 21), 42)
        self.assertEqual(await sender.send(taker.id, "x" * 200_000), "x" * 400_000)
        listed = await self.connections("user", "auth_mechanism", "ssl")
        self.assertGreaterEqual(len(listed), 4)
        for connection in listed:
            self.assertEqual(connection, ["tls-worker", "EXTERNAL", "true"])

    async def test_a_renewed_certificate_is_used_at_the_next_reconnect(self) -> None:
        await self.certified("tls-worker", days_ago=2)
        worker = Worker("WB", do_job=job_id)
        self.launch(worker, url=self.secure())
        await worker.when_ready()
        before = {validity for (validity,) in await self.connections("peer_cert_validity")}
        self.own.unlink()
        await self.node.close_connections()
        await self.until(lambda: self.lines(f"cannot read {self.own}: No such file"), "the file is missed")
        self.node.authority.issue(self.own, "tls-worker")
        await self.until(lambda: len(self.lines("connected to amqps://")) == 2, "it is back")
        after = {validity for (validity,) in await self.connections("peer_cert_validity")}
        self.assertEqual((len(before), len(after), before & after), (1, 1, set()))

    async def test_a_user_and_a_password_may_be_used_with_tls_too(self) -> None:
        await self.certified("nobody")
        await self.dial(self.secure("guest:guest@"))
        self.assertEqual(await self.connections("user", "auth_mechanism"), [["guest", "PLAIN"]])

    async def test_clients_that_the_broker_refuses(self) -> None:
        await self.certified("tls-worker")
        self.assertIn("certificate", await self.refused(self.secure(certfile=""), CertificateRefused))
        await self.refused(self.secure("guest:wrong@"), AuthenticationFailed)
        self.node.authority.issue(self.own, "publisher")
        await self.refused(self.secure(), AuthenticationFailed)
        self.node.authority.issue(self.own, "tls-worker", days_ago=60)
        self.assertIn("expired", await self.refused(self.secure(), CertificateRefused))

    async def test_brokers_that_the_client_refuses(self) -> None:
        await self.certified("tls-worker")
        said = await self.refused(self.secure(host="localhost"), WrongHost)
        self.assertIn("not for localhost, but for CN=the broker", said)
        await self.dial(self.secure(host="localhost", server_name_indication=HOST))
        self.ca = self.own
        self.assertIn("unknown certificate authority", await self.refused(self.secure(), BadCertificate))


def job_id(job: Job) -> str:
    return job.id
