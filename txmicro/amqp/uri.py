"""Where a broker is and who we are there, from an ``amqp://`` or ``amqps://`` URI.

Format: https://www.rabbitmq.com/docs/uri-spec and https://www.rabbitmq.com/docs/uri-query-parameters, but that
a URI which ends in the slash after the host means the vhost ``/``, as it does for most clients: RabbitMQ's
specification has it mean the vhost of an empty name, which next to nobody has.
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
    """Not a broker's URI. The message never shows the user or the password."""


class Files(NamedTuple):
    """PEM files for TLS.

    :ivar ca: the authorities to believe; empty: the system's.
    :ivar cert: our certificate, with those between it and the authority; empty: none.
    :ivar key: its key.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""


NO_FILES: Final = Files()


@dataclass(frozen=True)
class BrokerAddress:
    """A broker, as a URI names it.

    :ivar tls: whether it is spoken to through TLS.
    :ivar files: for TLS.
    :ivar verify: whether its certificate is verified.
    :ivar server_name: the host that its certificate is for; empty: the one we connect to.
    :ivar external: whether the user is the one that our certificate names (SASL EXTERNAL).
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
    files: Files = NO_FILES
    verify: bool = True
    server_name: str = ""
    external: bool = False

    def __str__(self) -> str:
        user = "" if self.external else f"{quote(self.username, safe='')}:***@"
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://{user}{host_port(self.host, self.port)}/{quote(self.vhost, safe='')}"


def parse(uri: str, files: Files = NO_FILES) -> BrokerAddress:
    """Read a URI; *files* are for one that names none. Raises :class:`UriError`.

    Where there is a certificate of ours, and no user in the URI, the certificate names the user.
    """
    if not (isinstance(uri, str) and uri.lower().startswith(("amqp://", "amqps://"))):
        raise UriError("a broker's URI begins with amqp:// or amqps://")
    if any(character in uri for character in "\t\r\n"):  # urlsplit would leave them out
        raise UriError("a line break or a tab that is not percent-escaped")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        # No cause: what urlsplit quotes may be a password with an unescaped character in it.
        raise UriError("a host or port that is none: are special characters percent-escaped?") from None
    if port == 0 or "#" in uri:
        raise UriError("a port that is 0, or a # that is not percent-escaped (%23)")
    if "@" in parts.path + parts.query:  # the password was cut in two, and one half would be shown
        raise UriError("an @ behind the host: in a password, write %2F for /, %3F for ? and %40 for @")
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
    raise UriError(f"a {what} with a % that begins no escaped UTF-8")


def _host(host: str | None) -> str:
    name = _unescape(host or BrokerAddress.host, "host")
    if not _HOST.fullmatch(name):
        raise UriError(
            "a host with characters that no host has: brokers in a list begin with their own amqp://"
        )
    return name


def _vhost(path: str) -> str:
    if path in ("", "/"):
        return BrokerAddress.vhost
    if "/" in path[1:]:
        raise UriError("a virtual host with a slash in it: write %2F")
    return _unescape(path[1:], "virtual host")


def _options(query: str, tls: bool, user: bool, files: Files) -> dict[str, Any]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in given.items():
        _check(name, value, tls)
    numbers = {name: int(given[name]) for name in _NUMBERS if name in given}
    return {**numbers, **_tls_options(given, user, files)} if tls else numbers


def _check(name: str, value: str, tls: bool) -> None:
    if name not in _OPTIONS:
        raise UriError(f"unknown option {name!r:.50}; known: {', '.join(_OPTIONS)}")
    if name in _NUMBERS:
        high = _NUMBERS[name]
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value) <= high):
            raise UriError(f"{name} is a whole number from 0 to {high}")
    elif name in _CHOICES and value not in _CHOICES[name]:
        raise UriError(f"{name} is {' or '.join(_CHOICES[name])}")
    elif not value:
        raise UriError(f"{name} is empty")
    elif not tls and value != "plain":
        raise UriError(f"{name} is for amqps://")


def _tls_options(given: dict[str, str], user: bool, files: Files) -> dict[str, Any]:
    cert = given.get("certfile", "")
    own = (cert, given.get("keyfile", cert)) if cert else (files.cert, files.key or files.cert)
    if "keyfile" in given and not cert:
        raise UriError("a keyfile without a certfile")
    mechanism = given.get("auth_mechanism")
    if mechanism == "external" and user:
        raise UriError("a user, although auth_mechanism=external has the certificate name it")
    if mechanism == "external" and not own[0]:
        raise UriError("auth_mechanism=external without a certfile: a certificate is to name the user")
    return {
        "files": Files(given.get("cacertfile", files.ca), *own),
        "verify": given.get("verify") != "verify_none",
        "server_name": given.get("server_name_indication", ""),
        "external": mechanism == "external" or (mechanism is None and not user and own[0] != ""),
    }
