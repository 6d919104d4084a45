"""Start the REST worker and the worker behind it, and send them two HTTP requests."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection

from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from txmicro.config import Config
from txmicro.testing import running

from .workers import Api, Pricer


def get(port: int, path: str) -> str:
    """Send a request, as any HTTP client does; return the status and the body of the answer."""
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return f"{answer.status} {answer.read().decode()}"


async def main(reactor: object) -> None:
    """Print the answers: a price, and an error."""
    api = Api()
    async with running(api, Pricer(), config=Config(rest_port=0)):  # 0: a free port
        for path in ("/prices/apple", "/prices/unicorn"):
            print(f"GET {path}: {await deferToThread(get, api.port, path)}")


react(main)
