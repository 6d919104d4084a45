"""The address of a broker, and the user there, from an ``amqp://`` or ``amqps://`` URI.

Format: https://www.rabbitmq.com/docs/uri-spec and https://www.rabbitmq.com/docs/uri-query-parameters, with one
difference. A URI that ends with the slash after the host means the virtual host ``/``, as for most clients. In
RabbitMQ's specification it means a virtual host with an empty name, which hardly any broker has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from txmicro.errors import TxmicroError
from txmicro.util.host_port import host_port

PORT = 5672
TLS_PORT = 5671

_HOST = re.compile(r"[^\s,/@\\]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBERS = {"heartbeat": 65_535, "connection_timeout": 3_600_000, "channel_max": 65_535}
_CHOICES = {"verify": ("verify_peer", "verify_none"), "auth_mechanism": ("plain", "external")}
_TEXTS = ("cacertfile", "certfile", "keyfile", "server_name_indication")
_OPTIONS = (*_NUMBERS, *_CHOICES, *_TEXTS)


class UriError(TxmicroError, ValueError):
    """A text is not a valid broker URI. The message never contains the user or the password."""


class TlsFiles(NamedTuple):
    """PEM files for TLS.

    :ivar ca: the CA certificates that the broker's certificate is verified against; empty: the system's.
    :ivar cert: the client's certificate, followed by intermediate certificates; empty: none.
    :ivar key: the key of the client's certificate.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""


NO_FILES: Final = TlsFiles()


@dataclass(frozen=True)
class BrokerAddress:
    """The address of a broker, as a URI names it.

    :ivar tls: whether to connect with TLS.
    :ivar files: the PEM files for TLS.
    :ivar verify: whether to verify the broker's certificate.
    :ivar server_name: the host that the broker's certificate must be for; empty: *host*.
    :ivar external: whether the client's certificate names the user (SASL EXTERNAL).
    :ivar heartbeat: the heartbeat interval, in seconds; 0: none; None: not in the URI.
    :ivar connection_timeout: milliseconds to wait for a TCP connection; None: not in the URI.
    :ivar channel_max: the most channels to open; None: not in the URI.
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
    files: TlsFiles = NO_FILES
    verify: bool = True
    server_name: str = ""
    external: bool = False

    def __str__(self) -> str:
        user = "" if self.external else f"{quote(self.username, safe='')}:***@"
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://{user}{host_port(self.host, self.port)}/{quote(self.vhost, safe='')}"


def parse(uri: str, files: TlsFiles = NO_FILES) -> BrokerAddress:
    """Return the address that *uri* names. Raises :class:`UriError`.

    When there is a client certificate and no user in the URI, the certificate names the user.

    :param files: the PEM files of options that are not in the URI.
    """
    if not (isinstance(uri, str) and uri.lower().startswith(("amqp://", "amqps://"))):
        raise UriError("not a valid broker URI: it must begin with amqp:// or amqps://")
    if any(character in uri for character in "\t\r\n"):  # urlsplit would remove them
        raise UriError("not a valid broker URI: write a line break as %0A, a tab as %09")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Without the cause: what urlsplit quotes may be a password with an unescaped character in it.
        raise UriError("host or port is not valid: percent-encode special characters") from None
    if port == 0 or "#" in uri:
        raise UriError("the port is 0, or a # is not percent-encoded: write %23")
    if (
        "@" in parts.path + parts.query
    ):  # urlsplit has cut the password in two, and errors would show one half
        raise UriError("an @ after the host: in a password, write %2F for /, %3F for ? and %40 for @")
    tls = parts.scheme == "amqps"
    return BrokerAddress(
        tls,
        _host(host),
        port or (TLS_PORT if tls else PORT),
        BrokerAddress.username if parts.username is None else _unescape(parts.username, "user"),
        BrokerAddress.password if parts.password is None else _unescape(parts.password, "password"),
        _vhost(parts.path),
        **_options(parts.query, tls, parts.username is not None, files),
    )


def _unescape(text: str, what: str) -> str:
    try:
        if not _BAD_ESCAPE.search(text):
            return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass
    raise UriError(f"the {what} has invalid percent-encoding: write %25 for %")


def _host(host: str | None) -> str:
    name = _unescape(host or BrokerAddress.host, "host")
    if not _HOST.fullmatch(name):
        raise UriError(
            "the host has characters that a host name cannot have: each broker in a list begins with amqp:// or amqps://"
        )
    return name


def _vhost(path: str) -> str:
    if path in ("", "/"):
        return BrokerAddress.vhost
    if "/" in path[1:]:
        raise UriError("the virtual host has a slash in it: write %2F")
    return _unescape(path[1:], "virtual host")


def _options(query: str, tls: bool, user: bool, files: TlsFiles) -> dict[str, Any]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in given.items():
        _check(name, value, tls)
    numbers = {name: int(given[name]) for name in _NUMBERS if name in given}
    return {**numbers, **_tls_options(given, user, files)} if tls else numbers


def _check(name: str, value: str, tls: bool) -> None:
    if name not in _OPTIONS:
        raise UriError(f"unknown option {name!r:.50}: expected {', '.join(_OPTIONS)}")
    if name in _NUMBERS:
        high = _NUMBERS[name]
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value) <= high):
            raise UriError(f"{name} is {value!r:.50}: expected a whole number from 0 to {high}")
    elif name in _CHOICES and value not in _CHOICES[name]:
        raise UriError(f"{name} is {value!r:.50}: expected {' or '.join(_CHOICES[name])}")
    elif not value:
        raise UriError(f"{name} is empty: remove it, or give it a value")
    elif not tls and value != "plain":
        raise UriError(f"{name} needs TLS: expected amqps://")


def _tls_options(given: dict[str, str], user: bool, files: TlsFiles) -> dict[str, Any]:
    cert = given.get("certfile", "")
    own = (cert, given.get("keyfile", cert)) if cert else (files.cert, files.key or files.cert)
    if "keyfile" in given and not cert:
        raise UriError("keyfile without certfile: add the certificate that the key is for")
    mechanism = given.get("auth_mechanism")
    if mechanism == "external" and user:
        raise UriError(
            "a user and auth_mechanism=external: the certificate names the user, so remove one of them"
        )
    if mechanism == "external" and not own[0]:
        raise UriError("auth_mechanism=external without certfile: add the certificate that names the user")
    return {
        "files": TlsFiles(given.get("cacertfile", files.ca), *own),
        "verify": given.get("verify") != "verify_none",
        "server_name": given.get("server_name_indication", ""),
        "external": mechanism == "external" or (mechanism is None and not user and own[0] != ""),
    }
