"""``make demo``: start the whole system in one process, store a movie and find it again, over HTTP.

It needs no server: the broker is the embedded one, and the store is in memory. With ``--once`` it ends after the
answers, with status 0 if they are as expected. Otherwise the system runs until Ctrl-C. It gets some requests per second
meanwhile, so that there is something to see on the manager's page.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from txmicro.config import Config, load
from txmicro.errors import ConfigError
from txmicro.util.host_port import host_port

CONFIG = str(Path(__file__).with_name("demo.json"))
MOVIE = {"title": "Metropolis", "year": 1927}

START_TIMEOUT = 30.0
"""Seconds in which all workers have to be announced."""

STOP_TIMEOUT = 10.0
"""Seconds in which the system has to end after SIGTERM; then it is killed."""

ANSWER_TIMEOUT = 10.0
"""Seconds in which a request has to be answered."""

PAUSE = 0.25
"""Seconds between two requests that keep the system busy."""

STORES = 4
"""Each fourth of these requests stores a movie; the others find some."""

FAILS = 25
"""Each 25th of them fails."""

System = subprocess.Popen[bytes]


class DemoError(Exception):
    """The demo failed; the text says why."""


def main(arguments: list[str]) -> int:
    """Run the demo; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # in a background job of a shell, SIGINT is ignored
        signal.signal(number, signal.default_int_handler)
    try:
        config = load(CONFIG, os.environ)
        check_ports(config)
        with running_system() as system:
            show(system, config)
            if "--once" not in arguments:
                stay(system, config)
    except KeyboardInterrupt:
        pass
    except (ConfigError, DemoError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


# The system


def check_ports(config: Config) -> None:
    """Raise :class:`DemoError` if a port is in use: another program would answer the demo's requests."""
    for setting, interface in (
        ("broker_listen_port", config.broker_interface),
        ("metrics_port", config.metrics_interface),
        ("rest_port", config.rest_interface),
    ):
        port = getattr(config, setting)
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((interface, port))
        except OSError as error:
            raise DemoError(
                f"cannot listen on {host_port(interface, port)} ({error.strerror}): set {setting} in {CONFIG}, "
                f"or TXMICRO_{setting.upper()} in the environment, to a free port"
            ) from error


@contextmanager
def running_system() -> Iterator[System]:
    """Run the system as a process that logs to this one's output. End it in any case."""
    twistd = Path(sys.executable).with_name("twistd")
    command = [str(twistd), "--nodaemon", "txmicro", "--config", CONFIG]
    # In a session of its own, Ctrl-C does not reach the system, which is then stopped by one signal only.
    system = subprocess.Popen(command, start_new_session=True)
    try:
        yield system
    finally:
        system.terminate()
        try:
            system.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            system.kill()


def wait_for_workers(system: System, config: Config) -> None:
    """Return when the SystemManager knows all workers. Raise :class:`DemoError` if that takes too long."""
    expected = Counter(name for name in config.services if name not in ("broker", "manager"))
    until = time.monotonic() + START_TIMEOUT
    while (announced := count_workers(config)) != expected:
        if system.poll() is not None:
            raise DemoError(
                f"the system did not start: it ended with status {system.returncode}; the log above has the reason"
            )
        if time.monotonic() > until:
            missing = ", ".join(sorted((expected - announced).elements()))
            raise DemoError(f"not announced within {START_TIMEOUT:g} s: {missing}")
        time.sleep(0.1)


def count_workers(config: Config) -> Counter[str]:
    """Return the number of workers by type, from the SystemManager's metrics page."""
    try:
        _, page = fetch("GET", metrics_url(config))
    except (OSError, HTTPException):  # the page is not there yet
        return Counter()
    found = re.findall(r'^microservices_workers_total\{type="(.+)"\} (\S+)$', page, re.MULTILINE)
    return Counter({kind: int(float(count)) for kind, count in found})


def stay(system: System, config: Config) -> None:
    """Keep the system busy until Ctrl-C. Raise :class:`DemoError` if the system ends before."""
    print(
        f"\nThe system runs until Ctrl-C. It gets {1 / PAUSE:g} requests per second, so that the page moves. Each "
        f"{FAILS}th request fails, so that the page has failures to show.\n",
        flush=True,
    )
    for number in count(1):
        try:
            system.wait(PAUSE)
            break
        except subprocess.TimeoutExpired:
            keep_busy(config, number)
    raise DemoError(
        f"the system ended by itself, with status {system.returncode}; the log above has the reason"
    )


def keep_busy(config: Config, number: int) -> None:
    """Send a request. Its number decides whether it stores a movie, finds some, or fails."""
    with suppress(OSError, HTTPException):  # the system is about to end
        if number % FAILS == 0:
            fetch("POST", movies_url(config), json.dumps({"id": "the store sets it"}))
        elif number % STORES == 0:
            fetch("POST", movies_url(config), json.dumps(MOVIE))
        else:
            fetch("GET", f"{movies_url(config)}?{urlencode({'year': MOVIE['year'], 'limit': 10})}")


# The answers


def show(system: System, config: Config) -> None:
    """Store a movie and find it again. Raise :class:`DemoError` if an answer is not as expected."""
    wait_for_workers(system, config)
    movies = movies_url(config)
    stored = ask("POST", movies, 201, MOVIE)
    if not isinstance(stored, dict) or not MOVIE.items() <= stored.items():
        raise DemoError(f"the movie was not stored as it was sent: {stored}")
    found = ask("GET", f"{movies}?{urlencode({'title': MOVIE['title'], 'id': stored['id']})}", 200)
    if found != [stored]:
        raise DemoError(f"the movie was not found again: {found}")
    page = f"{base(config.metrics_interface, config.metrics_port)}/"
    print(f"\nPages:\n  manager  {page}\n  movies   {movies}\n  metrics  {page}metrics", flush=True)


def ask(method: str, url: str, expected: int, data: Any = None) -> Any:
    """Print a request and its answer; return the answer's JSON. Raise :class:`DemoError` if it is not as expected."""
    body = None if data is None else json.dumps(data)
    print(f"\n{method} {url}", *([] if body is None else [body]), sep="\n  ", flush=True)
    try:
        status, text = fetch(method, url, body)
    except (OSError, HTTPException) as error:
        raise DemoError(f"no answer from {url}: {error}") from error
    print(f"{status}\n  {text}", flush=True)
    if status != expected:
        raise DemoError(f"the status is {status}: expected {expected}")
    return json.loads(text)


def fetch(method: str, url: str, body: str | None = None) -> tuple[int, str]:
    """Send a request; return status and body of the answer. Raise OSError or HTTPException if there is none."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=ANSWER_TIMEOUT)
    try:
        connection.request(
            method, f"{parts.path}?{parts.query}", body, {"Content-Type": "application/json"} if body else {}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def movies_url(config: Config) -> str:
    """Return the URL of the movies."""
    return f"{base(config.rest_interface, config.rest_port)}/movies/"


def metrics_url(config: Config) -> str:
    """Return the URL of the metrics page."""
    return f"{base(config.metrics_interface, config.metrics_port)}/metrics"


def base(interface: str, port: int) -> str:
    """Return the URL, on this machine, of a server that listens on *interface*."""
    host = "127.0.0.1" if interface in ("", "0.0.0.0") else interface  # noqa: S104 - compared with, not listened on
    return f"http://{host_port(host, port)}"
