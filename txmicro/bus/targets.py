"""The brokers that a process connects to, and how it connects to one of them."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from txmicro.amqp import uri
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import TlsError
from txmicro.amqp.flush_scheduler import FlushScheduler
from txmicro.amqp.uri import NO_FILES, BrokerAddress, TlsFiles
from txmicro.config import Config
from txmicro.errors import ConfigError

_log: Final = Logger()

CONNECT_TIMEOUT: Final = 10.0
"""Seconds without an answer after which the next broker is tried."""

NEXT_ADDRESS: Final = 0.1
"""Seconds between attempts at the addresses of a host, as RFC 8305 (section 5) has them at least.

A refusal is noticed only then, too: Twisted's endpoint checks whether an address is left each time.
"""

HANDSHAKE_TIMEOUT = 15.0
"""Seconds from the start of a connection attempt until the AMQP handshake must be complete."""


class Target:
    """A broker to connect to: an ``IStreamClientEndpoint``, and the address with user, virtual host and options."""

    def __init__(self, endpoint: Any, broker: BrokerAddress) -> None:
        self.endpoint = endpoint
        self._broker = broker

    @property
    def broker(self) -> BrokerAddress:
        """The broker's address; a subclass may learn the port late."""
        return self._broker


def targets(reactor: Any, config: Config) -> list[Target]:
    """Return the brokers of *config*; raises :class:`ConfigError`."""
    files = TlsFiles(config.tls_ca_file, config.tls_cert_file, config.tls_key_file)
    return [target(reactor, url, files) for url in config.broker_url]


def target(reactor: Any, url: str, files: TlsFiles = NO_FILES) -> Target:
    """Return the broker at *url*, with *files* for TLS if the URL names none; raises :class:`ConfigError`."""
    try:
        broker = uri.parse(url, files)
    except uri.UriError as error:
        raise ConfigError([f"broker_url: {error}"]) from error
    timeout = CONNECT_TIMEOUT if broker.connection_timeout is None else broker.connection_timeout / 1000
    endpoint: Any = HostnameEndpoint(reactor, broker.host, broker.port, timeout, attemptDelay=NEXT_ADDRESS)
    return Target(_with_tls(reactor, endpoint, broker) if broker.tls else endpoint, broker)


def _with_tls(reactor: Any, endpoint: IStreamClientEndpoint, broker: uri.BrokerAddress) -> Any:
    try:
        from .tls import TlsEndpoint
    except ImportError as error:
        raise ConfigError([f"broker_url: amqps:// needs the extra txmicro[tls] ({error})"]) from error
    if not broker.verify:
        _log.warn(
            "{broker}: the certificate is not verified (verify=verify_none), so others on the network can read and "
            "change all messages; remove verify=verify_none from the URL",
            broker=broker,
        )
    try:
        return TlsEndpoint(endpoint, broker, reactor)
    except TlsError as error:
        raise ConfigError([f"broker_url: {error}"]) from error


def dial(
    target: Target, clock: Any, heartbeat: int, name: str, scheduler: FlushScheduler | None = None
) -> Deferred[Connection]:
    """Connect to a broker.

    :param heartbeat: seconds, unless the broker's URL says otherwise. :param name: the connection's name in
        the broker's own tools.
    :param scheduler: of the writes, shared with other connections; None: one of its own.

    Fires with the connection once the handshake is complete. Fails with TimeoutError after ``HANDSHAKE_TIMEOUT``, or
    with the error of the endpoint or of the broker. Canceling it drops the connection.
    """
    return Deferred.fromCoroutine(_handshake(target, clock, heartbeat, name, scheduler)).addTimeout(
        HANDSHAKE_TIMEOUT, clock
    )


async def _handshake(
    target: Target, clock: Any, heartbeat: int, name: str, scheduler: FlushScheduler | None
) -> Connection:
    broker = target.broker
    factory = Factory.forProtocol(
        lambda: Connection(
            vhost=broker.vhost,
            username=broker.username,
            password=broker.password,
            external=broker.external,
            heartbeat=heartbeat if broker.heartbeat is None else broker.heartbeat,
            channel_max=broker.channel_max or 0,
            clock=clock,
            connection_name=name,
            scheduler=scheduler,
        )
    )
    factory.noisy = False
    connection: Connection = await target.endpoint.connect(factory)
    return await connection.ready()
