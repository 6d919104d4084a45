"""The configuration: one JSON file, and environment variables that take precedence over it.

The file holds one object with any of the keys that :func:`describe` lists; a missing key has its default. The file may
have JavaScript comments. The variable of a key is ``TXMICRO_`` and the key in capitals::

    TXMICRO_BROKER_URL=amqp://me:secret@one,amqp://me:secret@two TXMICRO_WORKER_LOG=false twistd …

The key ``settings`` is for the program's own settings; ``TXMICRO_SETTINGS_DSN`` sets ``settings["dsn"]``.

One :class:`ConfigError` reports all problems. It shows no passwords, and neither does the ``repr`` of :class:`Config`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .errors import ConfigError
from .protocol.address import check_type
from .protocol.codec.formats import NAMES as PROTOCOLS
from .util.json_file import read_object
from .util.log_levels import LEVELS, check_component
from .util.rotated_file import Rotation
from .util.value_types import (
    BOOLEAN,
    POSITIVE,
    TEXT,
    ValueType,
    instance_of,
    one_of,
    read_items,
    read_json,
    show_accounts,
    show_masked,
    show_type,
    show_urls,
    whole_number,
)

PREFIX: Final = "TXMICRO_"
FILE_VARIABLE: Final = "TXMICRO_CONFIG"
SETTINGS: Final = "settings"
OFF: Final = "off"
OTLP: Final = "otlp"

PLACES: Final = ("etc/config.json", "config/config.json", "/etc/txmicro/config.json")
"""The configuration files that are tried, in this order, when none is named."""

FILE_HELP: Final = (
    f"Configuration file. Default: the file that {FILE_VARIABLE} names, or the first existing one of "
    f"{', '.join(PLACES)}; without any, all keys have their defaults. TXMICRO_<KEY> variables take precedence."
)

_MIB: Final = 1 << 20
_SETTING: Final = f"{PREFIX}SETTINGS_"
_OTHER_VARIABLES: Final = frozenset(
    # The token is of a command, and the last two are for the tests.
    {FILE_VARIABLE, "TXMICRO_PAGE_TOKEN", "TXMICRO_REQUIRE_SERVICES", "TXMICRO_RABBITMQ_BIN"}
)
_BETWEEN_URLS: Final = re.compile(r"[\s,]+(?=amqps?://)|[\s,]+$", re.IGNORECASE)
_STORE: Final = re.compile(r"sqlite://(/.+)?|mongodb(\+srv)?://.+", re.DOTALL)
_CLASS: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_HOST_NAME: Final = re.compile(r"[\w.-]*", re.ASCII)
_ACCOUNT: Final = re.compile(r"[\w.@-]{1,64}:[!-~]{12,256}", re.ASCII)

# Types of values


def _read_urls(text: str) -> Any:
    """Return the URLs in *text*. A password may have a comma: only a comma before the next scheme separates URLs."""
    if text.lstrip().startswith("["):
        return read_json(text)
    return list(filter(None, _BETWEEN_URLS.split(text.strip())))


def _check_broker_urls(value: Any) -> tuple[str, ...]:
    urls = (value,) if isinstance(value, str) else tuple(instance_of(list, tuple)(value))
    for url in urls:
        parts = urlsplit(instance_of(str)(url))
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname or parts.port == 0:
            raise ValueError
    if not urls:
        raise ValueError
    return urls


def _check_store_url(value: Any) -> str:
    if not _STORE.fullmatch(instance_of(str)(value)):
        raise ValueError
    return str(value)


def _check_worker_types(value: Any) -> dict[str, str]:
    for kind, where in instance_of(dict)(value).items():
        if not _CLASS.fullmatch(where):
            raise ValueError
        check_type(kind)
    return dict(value)


def _check_services(value: Any) -> tuple[str, ...]:
    return tuple(check_type(name) for name in instance_of(list, tuple)(value))


def _check_host(value: Any) -> str:
    host = instance_of(str)(value)
    if ":" in host:
        ip_address(host)
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError
    return str(host)


def _check_log_levels(value: Any) -> dict[str, str]:
    return {check_component(name): _LEVEL.check(level) for name, level in instance_of(dict)(value).items()}


def _check_accounts(value: Any) -> tuple[str, ...]:
    accounts = tuple(instance_of(list, tuple)(value))
    if not all(_ACCOUNT.fullmatch(account) for account in accounts):
        raise ValueError
    return accounts


_LEVEL: Final = one_of(*LEVELS)
_PROTOCOL: Final = one_of(*PROTOCOLS)
_PORT: Final = whole_number(0, 65_535)
_COUNT: Final = whole_number(1)
_BROKER_URLS: Final = ValueType(
    "amqp[s]://[user:password@]host[:port][/vhost], or a list of such URLs",
    _check_broker_urls,
    _read_urls,
    show_urls,
)
_HOST: Final = ValueType("a host name or an IP address, without a port", _check_host, str)
_STORE_URL: Final = ValueType(
    "sqlite:///path, sqlite:// or mongodb://host/database", _check_store_url, str, show_urls
)
_WORKER_TYPES: Final = ValueType('an object such as {"TYPE": "module:Class"}', _check_worker_types, read_json)
_SERVICES: Final = ValueType('a list of "broker", "manager" and worker types', _check_services, read_items)
_LOG_LEVELS: Final = ValueType(
    f'an object such as {{"bus": "debug", "TYPE": "warn"}}, of the levels {", ".join(LEVELS)}',
    _check_log_levels,
    read_json,
)
_ACCOUNTS: Final = ValueType(
    'a list of "name:secret", with secrets of 12 to 256 printable characters',
    _check_accounts,
    read_items,
    show_accounts,
)
_SETTINGS: Final = ValueType("an object", lambda value: dict(instance_of(dict)(value)), read_json, show_type)


def _accounts_twice(accounts: list[str]) -> str:
    """Return which name several of *accounts* have, or that some have one secret; empty: neither."""
    names, secrets = (
        zip(*(account.split(":", 1) for account in accounts), strict=True) if accounts else ((), ())
    )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return f"the name {', '.join(twice)} is there twice"
    return "two accounts have the same secret" if len(set(secrets)) < len(secrets) else ""


# Keys


def _key(kind: ValueType, default: Any, meaning: str, *, unit: str = "", key: str = "") -> Any:
    about = {"kind": kind, "default": default, "meaning": meaning, "unit": unit, "key": key}
    return field(default_factory=lambda: default, metadata=about)


@dataclass(frozen=True, repr=False, kw_only=True)
class Config:
    """The configuration, checked; see :func:`describe`. Raise :class:`ConfigError` if a value is not valid."""

    broker_url: tuple[str, ...] = _key(
        _BROKER_URLS,
        ["amqp://localhost", "amqp://localhost:5673"],
        "URL of the broker, or a list of URLs, of which the first reachable one is used",
    )
    broker_url_file: str = _key(TEXT, "", "file that holds broker_url, used instead of that key")
    tls_ca_file: str = _key(
        TEXT,
        "",
        "CA certificates (PEM) that broker certificates are verified against; empty: the system's",
    )
    tls_cert_file: str = _key(TEXT, "", "client certificate (PEM) for amqps; empty: none")
    tls_key_file: str = _key(TEXT, "", "private key (PEM) of the client certificate; empty: in tls_cert_file")
    keepalive: int = _key(
        whole_number(0),
        0,
        "interval at which the SystemManager asks workers whether they are alive; 0: never",
        unit="ms",
    )
    manager_log: bool = _key(BOOLEAN, True, "whether the SystemManager logs", key="SystemManager_log")
    worker_log: bool = _key(BOOLEAN, True, "whether workers log; errors are always logged", key="Worker_log")
    data_transfer_protocol: str = _key(
        _PROTOCOL, "JSON", "format of the messages that are sent; all formats are read"
    )
    worker_types: Mapping[str, str] = _key(_WORKER_TYPES, {}, "class of each worker type")
    services: tuple[str, ...] = _key(
        _SERVICES,
        [],
        "what twistd txmicro runs; empty: broker, manager and all worker_types, or the movies example",
    )
    capacity: int = _key(_COUNT, 100, "most jobs that a worker runs at once", unit="jobs")
    timeout: float = _key(POSITIVE, 30.0, "deadline of a job that is sent without one", unit="s")
    max_runtime: float = _key(POSITIVE, 1500.0, "longest run time of a handler", unit="s")
    grace: float = _key(POSITIVE, 30.0, "longest wait for running jobs when a worker stops", unit="s")
    max_message: int = _key(whole_number(4096), 16 * _MIB, "largest encoded message", unit="bytes")
    outbox_jobs: int = _key(_COUNT, 200_000, "most unfinished jobs that a worker has sent", unit="jobs")
    outbox_bytes: int = _key(_COUNT, 256 * _MIB, "largest total size of these jobs", unit="bytes")
    max_hops: int = _key(_COUNT, 64, "most hops of a job, which then fails", unit="hops")
    heartbeat: int = _key(
        whole_number(0, 65_535),
        10,
        "AMQP heartbeat interval; 0: dead connections are not detected",
        unit="s",
    )
    rest_port: int = _key(_PORT, 8080, "port of the REST worker; 0: a free port")
    rest_interface: str = _key(TEXT, "127.0.0.1", "address that the REST worker listens on; empty: all")
    http_body_max: int = _key(_COUNT, _MIB, "largest body of an HTTP request", unit="bytes")
    metrics_port: int = _key(
        _PORT, 9091, "port of the metrics page of a process with a SystemManager; 0: a free port"
    )
    worker_metrics_port: int = _key(_PORT, 0, "port of the metrics page of other processes; 0: a free port")
    metrics_interface: str = _key(TEXT, "127.0.0.1", "address that metrics pages listen on; empty: all")
    metrics_host: str = _key(
        _HOST,
        "",
        "host that is announced for the metrics page; empty: metrics_interface, or the machine's name if that is all",
    )
    page: bool = _key(BOOLEAN, True, "whether a SystemManager serves its page, beside the metrics page")
    page_readers: tuple[str, ...] = _key(_ACCOUNTS, [], "accounts that may read the page")
    page_operators: tuple[str, ...] = _key(_ACCOUNTS, [], "accounts that may also change something there")
    page_data: str = _key(
        TEXT,
        "txmicro-page.db",
        "file in which the page keeps the jobs that it remembers; empty: only in memory",
    )
    page_jobs: int = _key(_COUNT, 1_000_000, "how many jobs the page remembers", unit="jobs")
    store_url: str = _key(
        _STORE_URL, "sqlite:///txmicro.db", "store of the DB worker; sqlite:// is in memory"
    )
    settings: Mapping[str, Any] = _key(_SETTINGS, {}, "settings of your program, as worker.config.settings")
    tracing: str = _key(
        one_of(OFF, OTLP),
        OFF,
        "where spans go; otlp: to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names",
    )
    log_level: str = _key(_LEVEL, "info", "lowest level that is logged")
    log_levels: Mapping[str, str] = _key(
        _LOG_LEVELS, {}, "lowest level of a component: a worker type or a logger's name"
    )
    log_format: str = _key(
        one_of("text", "json"), "text", "format of log lines: text, or a JSON object in each line"
    )
    log_file: str = _key(
        TEXT, "txmicro-workers.log", "file that the logger worker writes all workers' log lines to"
    )
    log_file_size: int = _key(
        _COUNT, 10 * _MIB, "size at which log_file and the daemons' logs are rotated", unit="bytes"
    )
    log_files: int = _key(_COUNT, 5, "how many rotated files of each log are kept", unit="files")
    log_rotate: str = _key(
        one_of("size", "day"), "size", "when logs are rotated: at log_file_size, or on each day (UTC)"
    )
    log_compress: bool = _key(BOOLEAN, False, "whether rotated files are compressed with gzip")
    log_total_size: int = _key(
        whole_number(0),
        0,
        "largest total size of a log's files, of which the oldest are deleted; 0: no limit",
        unit="bytes",
    )
    broker_listen_port: int = _key(_PORT, 5673, "port of the embedded broker; 0: a free port")
    broker_interface: str = _key(TEXT, "127.0.0.1", "address that the embedded broker listens on; empty: all")
    broker_memory: int = _key(
        _COUNT,
        256 * _MIB,
        "size of the embedded broker's messages at which it blocks senders",
        unit="bytes",
    )

    def __post_init__(self) -> None:
        problems = []
        for each in fields(self):
            value, kind = getattr(self, each.name), each.metadata["kind"]
            try:
                object.__setattr__(self, each.name, kind.check(value))
            except (TypeError, ValueError, KeyError):
                problems.append(f"{key_of(each)}: {kind.show(value)} is not valid; expected {kind.expected}")
        if problems:
            raise ConfigError(problems)
        if twice := _accounts_twice([*self.page_readers, *self.page_operators]):
            raise ConfigError([f"page_readers, page_operators: {twice}; expected different ones"])

    @property
    def rotation(self) -> Rotation:
        """When the files of logs are rotated, and what is kept."""
        return Rotation(
            self.log_file_size,
            self.log_files,
            daily=self.log_rotate == "day",
            total=self.log_total_size,
            compress=self.log_compress,
        )

    def __repr__(self) -> str:
        shown = (
            f"{each.name}={each.metadata['kind'].show(getattr(self, each.name))}" for each in fields(self)
        )
        return f"Config({', '.join(shown)})"


def key_of(each: Field[Any]) -> str:
    """Return the key of a field of :class:`Config`: its name, except for MicroServices.js' keys with capitals."""
    return each.metadata["key"] or each.name


_KEYS: Final = {key_of(each): each for each in fields(Config)}
_VARIABLES: Final = {PREFIX + key.upper(): key for key in _KEYS}


class Option(NamedTuple):
    """One key of the configuration, for the documentation.

    :ivar default: as JSON.
    :ivar unit: empty: the value has no unit.
    """

    key: str
    variable: str
    expected: str
    unit: str
    default: str
    meaning: str


def describe() -> list[Option]:
    """Return all keys, in the order of :class:`Config`."""
    return [
        Option(
            key,
            PREFIX + key.upper(),
            each.metadata["kind"].expected,
            each.metadata["unit"],
            json.dumps(each.metadata["default"]),
            each.metadata["meaning"],
        )
        for key, each in _KEYS.items()
    ]


# Reading


def find(environ: Mapping[str, str]) -> str | None:
    """Return the path of the configuration file when the command line names none; None: there is none.

    It is the file that ``TXMICRO_CONFIG`` names, even if it does not exist, or else the first existing one of
    :data:`PLACES`.
    """
    return environ.get(FILE_VARIABLE) or next(filter(os.path.exists, PLACES), None)


def describe_origin(path: str | None, environ: Mapping[str, str]) -> str:
    """Return where the configuration comes from, for the log: the file, and the variables that override it."""
    file = os.path.abspath(path) if path else f"the defaults (there is no {', '.join(PLACES)})"
    variables = [name for name in sorted(environ.keys() - _OTHER_VARIABLES) if name.startswith(PREFIX)]
    return ", ".join([file, *variables])


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """Return the configuration of the file *path* (None: no file) and of *environ*.

    :raise ConfigError: the file cannot be read, a key is unknown, or a value is not valid.
    """
    problems: list[str] = []
    given = {} if path is None else _read_file(path, problems)
    given |= _read_environment(environ, problems)
    _add_settings(given, environ)
    if given.get("broker_url_file"):
        given |= _read_secret(given["broker_url_file"], problems)
    try:
        config = Config(**{_KEYS[key].name: value for key, value in given.items()})
    except ConfigError as error:
        raise ConfigError(problems + error.problems) from None
    if problems:
        raise ConfigError(problems)
    return config


def _read_file(path: str, problems: list[str]) -> dict[str, Any]:
    given = read_object(path, problems)
    problems += [_unknown(key, _KEYS) for key in given.keys() - _KEYS.keys()]
    return {key: value for key, value in given.items() if key in _KEYS}


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    given = {}
    for variable in sorted(environ.keys() - _OTHER_VARIABLES):
        key = _VARIABLES.get(variable)
        if key is not None:
            given[key] = _KEYS[key].metadata["kind"].read(environ[variable])
        elif variable.startswith(PREFIX) and not _is_setting(variable):
            problems.append(_unknown(variable, _VARIABLES))
    return given


def _is_setting(variable: str) -> bool:
    return variable.startswith(_SETTING) and variable != _SETTING


def _add_settings(given: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Add the settings of *environ* to those of *given*, whose names are found in any case."""
    settings = given.get(SETTINGS, {})
    own = {variable: environ[variable] for variable in sorted(environ) if _is_setting(variable)}
    if not own or not isinstance(settings, dict):  # Config reports a value that is not an object
        return
    known = {key.upper(): key for key in settings}
    given[SETTINGS] = settings = dict(settings)
    for variable, text in own.items():
        name = variable.removeprefix(_SETTING)
        key = known.get(name.upper(), name.lower())
        settings[key] = text if isinstance(settings.get(key), str) else read_json(text)


def _read_secret(path: Any, problems: list[str]) -> dict[str, Any]:
    try:
        return {"broker_url": _read_urls(Path(path).read_text("utf-8"))}
    except (OSError, TypeError, ValueError) as error:
        # The key may hold the URL by mistake, and the text of an OSError would show it.
        reason = getattr(error, "strerror", None) or error
        problems.append(
            f"broker_url_file: {show_masked(path)} cannot be read: {reason}; expected a readable file"
        )
        return {}


def _unknown(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"{name}: unknown key" + (f"; did you mean {close[0]}?" if close else "")
