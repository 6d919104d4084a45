"""Celery: results over rpc://, one process (the solo pool), MessagePack, transient messages."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.signals import worker_ready
from protocol import TIMEOUT, ready, serve_blocking

app = Celery(broker=sys.argv[2], backend="rpc://")
app.conf.update(
    task_default_queue="celery",
    task_default_delivery_mode="transient",
    task_serializer="msgpack",
    result_serializer="msgpack",
    accept_content=["msgpack"],
    worker_prefetch_multiplier=100,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="echo")
def echo(data: Any) -> Any:
    """Return the data."""
    return data


def work() -> None:
    """Run the worker."""
    worker_ready.connect(lambda **_: ready(), weak=False)
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["worker", "--pool=solo", *quiet])


def send() -> None:
    """Run the sender."""
    serve_blocking(lambda data: echo.delay(data), lambda result: result.get(timeout=TIMEOUT))


if __name__ == "__main__":
    {"work": work, "send": send}[sys.argv[1]]()
