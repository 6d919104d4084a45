"""The brokers of the configuration, as targets that a bus connects to."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from txmicro.amqp import uri
from txmicro.amqp.errors import TlsError
from txmicro.amqp.uri import NO_FILES, TlsFiles
from txmicro.config import Config
from txmicro.errors import ConfigError

from .dialing import Target

_log: Final = Logger()

CONNECT_TIMEOUT: Final = 10.0
"""Seconds without an answer after which the next broker is tried."""


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
    endpoint: Any = HostnameEndpoint(reactor, broker.host, broker.port, timeout)
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
