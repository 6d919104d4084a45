"""The brokers that a process can talk to: those of its configuration, or its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from txmicro.amqp import uri
from txmicro.amqp.errors import TlsError
from txmicro.amqp.uri import NO_FILES, Files
from txmicro.broker.service import Broker
from txmicro.config import Config
from txmicro.errors import ConfigError
from txmicro.page.metrics import ANY_INTERFACE

from .connections import Target

_log: Final = Logger()

CONNECT_TIMEOUT: Final = 10.0
"""Seconds until a host that does not answer is given up, for the next broker."""


def targets(reactor: Any, config: Config) -> list[Target]:
    """The brokers of *config*; raises :class:`ConfigError`."""
    files = Files(config.tls_ca_file, config.tls_cert_file, config.tls_key_file)
    return [target(reactor, url, files) for url in config.broker_url]


def target(reactor: Any, url: str, files: Files = NO_FILES) -> Target:
    """The broker at *url*, with *files* for TLS where the URL names none; raises :class:`ConfigError`."""
    try:
        broker = uri.parse(url, files)
    except uri.UriError as error:
        raise ConfigError([f"broker_url: {error}"]) from error
    timeout = CONNECT_TIMEOUT if broker.connection_timeout is None else broker.connection_timeout / 1000
    endpoint: Any = HostnameEndpoint(reactor, broker.host, broker.port, timeout)
    return Target(_with_tls(reactor, endpoint, broker) if broker.tls else endpoint, broker)


def _with_tls(reactor: Any, endpoint: IStreamClientEndpoint, broker: uri.Broker) -> Any:
    try:
        from .tls import TlsEndpoint
    except ImportError as error:
        raise ConfigError([f"broker_url: amqps:// needs the extra txmicro[tls] ({error})"]) from error
    if not broker.verify:
        _log.warn(
            "{broker}: its certificate is not verified (verify=verify_none), so anybody between can read and "
            "forge everything",
            broker=broker,
        )
    try:
        return TlsEndpoint(endpoint, broker, reactor)
    except TlsError as error:
        raise ConfigError([f"broker_url: {error}"]) from error


def own_target(reactor: Any, broker: Broker, interface: str) -> Target:
    """The *broker* of this process."""
    host = "127.0.0.1" if interface in ANY_INTERFACE else interface
    return _OwnTarget(_OwnBroker(reactor, host, broker), host, broker)


class _OwnTarget(Target):
    """A broker whose port is known once it listens."""

    def __init__(self, endpoint: Any, host: str, own: Broker) -> None:
        super().__init__(endpoint, uri.Broker(host=host))
        self._own = own

    @property
    def broker(self) -> uri.Broker:
        """The broker, at the port that it listens on, or will."""
        return replace(self._broker, port=self._own.port)


@implementer(IStreamClientEndpoint)
class _OwnBroker:
    """Connects to a broker whose port is known once it listens."""

    def __init__(self, reactor: Any, host: str, broker: Broker) -> None:
        self._reactor = reactor
        self._host = host
        self._broker = broker

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """As the interface says."""
        endpoint: Any = HostnameEndpoint(self._reactor, self._host, self._broker.port, CONNECT_TIMEOUT)
        connected: Deferred[Any] = endpoint.connect(factory)
        return connected
