"""Asks a SystemManager's page over HTTP, through its JSON API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, readBody
from twisted.web.http_headers import Headers

from txmicro._version import __version__
from txmicro.config import Config
from txmicro.errors import TxmicroError
from txmicro.util.host_port import host_port

from .options import Value
from .task import Context, Task

TOKEN_VARIABLE: Final = "TXMICRO_PAGE_TOKEN"  # noqa: S105 - the name, not the secret
"""The environment variable of ``--token``, so that the secret is in no list of processes."""

OK: Final = 200
UNAUTHORIZED: Final = 401

TIMEOUT: Final = 10.0
"""Seconds that an answer may take."""

_ANY_INTERFACE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class PageUnreachable(TxmicroError):
    """No SystemManager answers at the URL of its page.

    Start one, or name the right URL with ``--page``.
    """


class PageRefused(TxmicroError):
    """The SystemManager's page does not do what the command asks for; the message says why.

    If a secret is missing or wrong, give it with ``--token`` or as ``TXMICRO_PAGE_TOKEN``.
    """


@dataclass(kw_only=True)
class PageTask(Task):
    """A task that asks a SystemManager's page.

    :ivar page: the page's URL; None: where the configuration has a SystemManager serve it.
    :ivar token: the secret of a reader or operator; None: none is needed.
    """

    page: str | None = None
    token: str | None = None
    config: str | None = None

    async def run(self, context: Context) -> None:
        """Ask, and write the answer."""
        token = self.token or context.environ.get(TOKEN_VARIABLE, "")
        page = self.page or url_of(context.load(self.config))
        try:
            await self.ask(PageClient(context.reactor, page, token), context)
        except (KeyError, TypeError) as error:  # of another version, or of another program
            raise PageRefused(
                f"the answer of {page} is not one that txmicro {__version__} knows ({error!r}); use the version of "
                "the SystemManager"
            ) from error

    async def ask(self, page: PageClient, context: Context) -> None:
        """Ask *page*, and write the answer; as :meth:`run`."""
        raise NotImplementedError


class PageClient:
    """A client of the API.

    :param url: the page's URL, without a path.
    """

    def __init__(self, reactor: Any, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._reactor = reactor
        self._headers = {"accept": ["application/json"]}
        if token:
            self._headers["authorization"] = [f"Bearer {token}"]
        self._agent = Agent(
            reactor, connectTimeout=TIMEOUT, pool=HTTPConnectionPool(reactor, persistent=False)
        )

    async def get(self, path: str, **query: Any) -> Any:
        """Return the content of the answer to ``GET`` *path*. Parameters that are None are left out.

        :raise PageUnreachable: nobody answers in time. :raise PageRefused: the answer is an error.
        """
        given = {name: value for name, value in query.items() if value is not None}
        url = f"{self.url}{path}{'?' if given else ''}{urlencode(given)}"
        answering = Deferred.fromCoroutine(self._request(url))
        try:
            status, body = await answering.addTimeout(TIMEOUT, self._reactor)
        except (ConnectError, ResponseFailed, TimeoutError, OSError) as error:
            raise PageUnreachable(
                f"no SystemManager's page answers at {self.url} ({_reason(error)}); start twistd txmicro-manager, or "
                "name the page's URL with --page"
            ) from error
        return self._read(status, body)

    async def _request(self, url: str) -> tuple[int, bytes]:
        response = await self._agent.request(b"GET", url.encode("ascii"), Headers(self._headers))
        return response.code, await readBody(response)

    def _read(self, status: int, body: bytes) -> Any:
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if status == OK and content is not None:
            return content
        if not isinstance(content, dict) or "message" not in content:
            raise PageRefused(
                f"{self.url} is not the page of a SystemManager: it answered with status {status}"
            )
        hint = f"; give a secret with --token or as {TOKEN_VARIABLE}" if status == UNAUTHORIZED else ""
        raise PageRefused(f"{content['message']}{hint}")


def url_of(config: Config) -> str:
    """Return the URL at which a SystemManager with *config* on this machine serves its page."""
    host = "127.0.0.1" if config.metrics_interface in _ANY_INTERFACE else config.metrics_interface
    return f"http://{host_port(host, config.metrics_port)}"


def _reason(error: Exception) -> str:
    if isinstance(error, ResponseFailed):
        return str(error.reasons[0].value).rstrip(".")
    return str(error).rstrip(".") or type(error).__name__


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError
    return text


PAGE: Final = click.Option(
    ["--page"],
    type=Value("URL", _check_url, "a URL such as http://127.0.0.1:9091"),
    help="URL of a SystemManager's page. Default: http://metrics_interface:metrics_port of the configuration.",
)
TOKEN: Final = click.Option(
    ["--token"],
    metavar="SECRET",
    help=f"Secret of a reader or an operator of the page. Default: {TOKEN_VARIABLE} of the environment.",
)
