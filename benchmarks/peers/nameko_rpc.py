"""nameko: its standalone proxy and ``call_async``, MessagePack, 100 green threads in the worker."""

from __future__ import annotations

import sys
from typing import Any

if sys.argv[1] == "work":
    import eventlet

    eventlet.monkey_patch()

from nameko.rpc import rpc
from nameko.runners import ServiceRunner
from nameko.standalone.rpc import ClusterRpcProxy
from protocol import ready, serve_blocking

CONFIG = {"AMQP_URI": sys.argv[2], "serializer": "msgpack", "max_workers": 100}


class Echo:
    """The service."""

    name = "echo"

    @rpc
    def echo(self, data: Any) -> Any:
        """Return the data."""
        return data


def work() -> None:
    """Run the worker."""
    runner = ServiceRunner(CONFIG)
    runner.add_service(Echo)
    runner.start()
    ready()
    runner.wait()


def send() -> None:
    """Run the sender."""
    with ClusterRpcProxy(CONFIG) as cluster:
        serve_blocking(cluster.echo.echo.call_async, lambda reply: reply.result())


if __name__ == "__main__":
    {"work": work, "send": send}[sys.argv[1]]()
