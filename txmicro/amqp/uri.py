"""Where a broker is and who we are there, from an ``amqp://`` or ``amqps://`` URI.

Format: https://www.rabbitmq.com/docs/uri-spec and https://www.rabbitmq.com/docs/uri-query-parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from txmicro.errors import TxmicroError

PORT = 5672
TLS_PORT = 5671

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OPTIONS = {"heartbeat": 65_535, "connection_timeout": 3_600_000, "channel_max": 65_535}


class UriError(TxmicroError, ValueError):
    """Not a broker's URI. The message never shows the user or the password."""


@dataclass(frozen=True)
class Broker:
    """A broker, as a URI names it.

    :ivar tls: whether it is spoken to through TLS.
    :ivar heartbeat: seconds; 0: none; None: not said.
    :ivar connection_timeout: milliseconds to wait for TCP; None: not said.
    :ivar channel_max: the most channels to open; None: not said.
    """

    tls: bool = False
    host: str = "localhost"
    port: int = PORT
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    heartbeat: int | None = None
    connection_timeout: int | None = None
    channel_max: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = quote(self.username, safe="")
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://{user}:***@{host}:{self.port}/{quote(self.vhost, safe='')}"


def parse(uri: str) -> Broker:
    """Read a URI; raises :class:`UriError`."""
    if not (isinstance(uri, str) and uri.lower().startswith(("amqp://", "amqps://"))):
        raise UriError("a broker's URI begins with amqp:// or amqps://")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        # No cause: what urlsplit quotes may be a password with an unescaped character in it.
        raise UriError("a host or port that is none: are special characters percent-escaped?") from None
    if parts.fragment or port == 0:
        raise UriError("a port that is 0, or a # that is not percent-escaped")
    tls = parts.scheme == "amqps"
    return Broker(
        tls,
        _unescape(host or Broker.host, "host"),
        port or (TLS_PORT if tls else PORT),
        Broker.username if parts.username is None else _unescape(parts.username, "user"),
        Broker.password if parts.password is None else _unescape(parts.password, "password"),
        _vhost(parts.path),
        **_options(parts.query),
    )


def _unescape(text: str, what: str) -> str:
    try:
        if not _BAD_ESCAPE.search(text):
            return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass
    raise UriError(f"a {what} with a % that begins no escaped UTF-8")


def _vhost(path: str) -> str:
    if not path:
        return Broker.vhost
    if "/" in path[1:]:
        raise UriError("a virtual host with a slash in it: write %2F")
    return _unescape(path[1:], "virtual host")


def _options(query: str) -> dict[str, int]:
    options = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise UriError(f"unknown option {name!r:.50}; known: {', '.join(_OPTIONS)}")
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value) <= _OPTIONS[name]):
            raise UriError(f"{name} is a whole number from 0 to {_OPTIONS[name]}")
        options[name] = int(value)
    return options
