"""Decides who may use the page: accounts and roles, or everybody on this machine where there are no accounts.

A secret is given by basic authentication, which browsers ask for, or as ``Authorization: Bearer SECRET``. The page has
a form of its own for the secret, so a browser does not ask when a script of the page gets the answer 401.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode
from collections.abc import Iterable
from ipaddress import ip_address
from math import ceil
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from .site import Refusal, header
from .throttle import Throttle

READER: Final = "reader"
OPERATOR: Final = "operator"

LOCAL: Final = "local"
"""The name of everybody where there are no accounts."""

CHALLENGE: Final = 'Basic realm="txmicro", charset="UTF-8"'
PAGE_CHALLENGE: Final = 'Bearer realm="txmicro"'
"""The challenge to the page's own scripts, which send ``X-Txmicro``: one for which browsers show no dialog."""

_LONGEST: Final = 1_000
"""Characters of the longest ``Authorization`` header that is read."""


class Caller(NamedTuple):
    """The sender of a request.

    :ivar address: its IP address.
    """

    name: str
    role: str
    address: str


class _Account(NamedTuple):
    name: str
    role: str
    basic: bytes  # a digest of "name:secret"
    bearer: bytes  # a digest of the secret


class Access:
    """Decides who may use the page.

    :param readers: accounts, ``name:secret``, that may read. :param operators: accounts that may do everything.
    :param interface: the address that the page is served on; empty: all.
    :param clock: a reactor, or a ``Clock``.
    """

    log = Logger()

    def __init__(
        self, readers: Iterable[str], operators: Iterable[str], *, interface: str, clock: Any
    ) -> None:
        self._key = secrets.token_bytes(32)
        self._accounts = [
            *(self._account(each, READER) for each in readers),
            *(self._account(each, OPERATOR) for each in operators),
        ]
        self._local = is_loopback(interface)
        self._throttle = Throttle(clock)

    @property
    def closed(self) -> bool:
        """True if nobody may use the page, because there are no accounts, and other machines reach it."""
        return not (self._accounts or self._local)

    def admit(self, request: Any) -> Caller:
        """Return the sender of *request*; raise :class:`~.site.Refusal` if it may not use the page."""
        self.check_place(request)
        address = str(request.getClientAddress().host)
        return self._log_in(request, address) if self._accounts else Caller(LOCAL, OPERATOR, address)

    def check_place(self, request: Any) -> None:
        """Raise :class:`~.site.Refusal` if there are no accounts, and *request* may not come from this machine."""
        if self._accounts:
            return
        if self.closed:
            raise Refusal(
                403,
                "Forbidden",
                "the page has no accounts, so it is served on a loopback address only; set page_operators to a list "
                'of "name:secret", or metrics_interface to 127.0.0.1',
            )
        if not _names_loopback(header(request, "host")):
            raise Refusal(
                403,
                "Forbidden",
                "the Host header is not a loopback address; without page_operators, use localhost or 127.0.0.1",
            )

    def _log_in(self, request: Any, address: str) -> Caller:
        given = header(request, "authorization")
        if not given:
            raise _unauthorized(request, "expected basic authentication or a bearer token")
        wait = self._throttle.wait(address)
        if wait > 0:
            raise Refusal(
                429,
                "TooManyRequests",
                f"too many logins from {address} have failed; the next one is checked in {ceil(wait)} s",
                retry_after=str(ceil(wait)),
            )
        account = self._find(given) if len(given) <= _LONGEST else None
        if account is None:
            self._throttle.failed(address)
            self.log.warn(
                "a login at the page from {address} has failed; check who it is (page_readers, page_operators)",
                address=address,
                recurring=True,
            )
            raise _unauthorized(request, "the name or the secret is not valid")
        return Caller(account.name, account.role, address)

    def _find(self, authorization: str) -> _Account | None:
        """Return the account of an ``Authorization`` header. All are compared, each in constant time."""
        scheme, _, credentials = authorization.partition(" ")
        kind = scheme.lower()
        given = self._digest(_basic(credentials) if kind == "basic" else credentials.strip())
        found = None
        for account in self._accounts:
            same = hmac.compare_digest(account.basic if kind == "basic" else account.bearer, given)
            found = account if same and kind in ("basic", "bearer") else found
        return found

    def _account(self, text: str, role: str) -> _Account:
        name, secret = text.split(":", 1)
        return _Account(name, role, self._digest(text), self._digest(secret))

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("utf-8", "surrogateescape"), "sha256")


def _unauthorized(request: Any, message: str) -> Refusal:
    challenge = PAGE_CHALLENGE if header(request, "x-txmicro") else CHALLENGE
    return Refusal(401, "Unauthorized", message, www_authenticate=challenge)


def _basic(credentials: str) -> str:
    """Return the ``name:secret`` of basic authentication; empty: it is not valid."""
    try:
        return b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether *host*, a name or an address, is this machine and not reached from others."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _names_loopback(value: str) -> bool:
    """Return whether a ``Host`` header is a loopback address. A web page can have a name of its own resolve to one."""
    host, colon, port = value.rpartition(":")
    if not colon or value.endswith("]"):
        host = value
    elif not (port.isascii() and port.isdigit()):
        return False
    return is_loopback(host[1:-1] if host.startswith("[") and host.endswith("]") else host)


def check_origin(request: Any) -> None:
    """Raise :class:`~.site.Refusal` if *request*, which changes something, comes from another site's page (CSRF)."""
    if header(request, "x-txmicro") != "1":
        raise Refusal(403, "Forbidden", "the header X-Txmicro: 1 is missing")
    origin, site = header(request, "origin"), header(request, "sec-fetch-site")
    own = header(request, "host").lower()
    if origin and origin.lower() not in (f"http://{own}", f"https://{own}"):
        raise Refusal(403, "Forbidden", "the Origin header is not this site's")
    if site not in ("", "same-origin", "none"):
        raise Refusal(403, "Forbidden", "the request comes from a page of another site")
