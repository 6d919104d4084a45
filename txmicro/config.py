"""The configuration: one JSON file, and the environment over it.

A file holds one object with any of the keys that :func:`describe` lists; what it leaves out has its
default. It may have comments, as JavaScript has them. Every key can also come from the environment, as
``TXMICRO_`` and the key in capitals, and wins over the file::

    TXMICRO_BROKER_URL=amqp://me:secret@one,amqp://me:secret@two TXMICRO_WORKER_LOG=false twistd …

The key ``settings`` is for the program's own settings; ``TXMICRO_SETTINGS_DSN`` sets ``settings["dsn"]``.

Everything that is wrong is reported at once, as one :class:`ConfigError`. No credentials show in it, nor in a
:class:`Config`'s ``repr``.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from .errors import ConfigError
from .protocol.address import check_type
from .protocol.codec import NAMES as PROTOCOLS
from .util.json_comments import without_comments

PREFIX: Final = "TXMICRO_"
LEVELS: Final = ("debug", "info", "warn", "error", "critical")

_MIB: Final = 1 << 20
FILE_VARIABLE: Final = "TXMICRO_CONFIG"
PLACES: Final = ("etc/config.json", "config/config.json", "/etc/txmicro/config.json")
"""Where a configuration file is looked for, in this order, when nobody names one."""
FILE_HELP: Final = (
    f"Configuration file. Without: the one that {FILE_VARIABLE} names, or the first there is of {', '.join(PLACES)}, "
    "or the defaults. TXMICRO_<KEY> wins over all of them."
)
SETTINGS: Final = "settings"

_SETTING: Final = f"{PREFIX}SETTINGS_"
_OTHER_VARIABLES: Final = frozenset(
    {FILE_VARIABLE, "TXMICRO_REQUIRE_SERVICES", "TXMICRO_RABBITMQ_BIN"}  # the last two are the tests'
)
_CREDENTIALS: Final = re.compile(r"(://[^\s:/@]{0,255}):\S{0,512}@")  # limits, as texts are long and not ours
_USER: Final = re.compile(r"[\w+]+://[^\s:/@]*")
_HOST_AND_PORT: Final = re.compile(r"(?>(?:[\w+]+://)?)(?:\[[^]@]*\]|[^:/?@]*)(?::\d{0,5})?(?:[/?][^@]*)?")
_BETWEEN_URLS: Final = re.compile(r"[\s,]+(?=amqps?://)|[\s,]+$", re.IGNORECASE)
_STORE: Final = re.compile(r"sqlite://(/.+)?|mongodb(\+srv)?://.+", re.DOTALL)
_CLASS: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def mask(text: str) -> str:
    """*text* with the passwords of the URLs in it replaced by ``***``."""
    return _CREDENTIALS.sub(r"\1:***@", text)


def _mask_url(url: str) -> str:
    """Unlike :func:`mask`, this knows that *url* should be one, and hides more when it is not quite."""
    if _HOST_AND_PORT.fullmatch(url) or (url.startswith("sqlite:") and "@" not in url):
        return url
    _, at, host = url.rpartition("@")
    user = _USER.match(url)
    return f"{user[0] if user else ''}:***{at}{host if at else ''}"


def _show(value: Any) -> str:
    """*value* for people, cut short if it is long."""
    return f"{mask(repr(value)):.200}"


def _show_urls(value: Any) -> str:
    """One that may be a URL or a list of these, without credentials."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_show_urls, value))}]"
    return repr(_mask_url(value)) if isinstance(value, str) else _show_type(value)


def _show_type(value: Any) -> str:
    """One that may be a secret as a whole."""
    return f"a {type(value).__name__}"


class _ValueType(NamedTuple):
    """What a value has to be.

    :ivar expected: in words.
    :ivar check: gives the value as :class:`Config` holds it, or raises TypeError, ValueError or KeyError.
    :ivar read: the value in a text from the environment.
    :ivar show: any value for people, without credentials.
    """

    expected: str
    check: Callable[[Any], Any]
    read: Callable[[str], Any]
    show: Callable[[Any], str] = _show


class Option(NamedTuple):
    """One key of the configuration, for the documentation.

    :ivar default: as JSON; empty: none.
    :ivar unit: empty: it has none.
    """

    key: str
    variable: str
    expected: str
    unit: str
    default: str
    meaning: str


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _items(text: str) -> Any:
    """A JSON list, or what is between commas and white space."""
    return _json(text) if text.lstrip().startswith("[") else text.replace(",", " ").split()


def _urls(text: str) -> Any:
    """As :func:`_items`, but a password may have a comma in it: the next URL begins with its scheme."""
    return (
        _json(text)
        if text.lstrip().startswith("[")
        else list(filter(None, _BETWEEN_URLS.split(text.strip())))
    )


def _is_a(*kinds: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise TypeError
        return value

    return check


def _whole(low: int, high: int = 2**53) -> _ValueType:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    limits = f"of at least {low}" if high == 2**53 else f"from {low} to {high}"
    return _ValueType(f"a whole number {limits}", check, _json)


def _among(*choices: str) -> _ValueType:
    known = {choice.lower(): choice for choice in choices}

    def check(value: Any) -> str:
        return known[_is_a(str)(value).lower()]

    return _ValueType(f"one of {', '.join(choices)}, in any case", check, str)


def _check_seconds(value: Any) -> float:
    # NaN is not above 0, and a timer takes no infinity.
    if type(value) not in (int, float) or not 0 < value <= 1e9:
        raise ValueError
    return float(value)


def _check_broker_urls(value: Any) -> tuple[str, ...]:
    urls = (value,) if isinstance(value, str) else tuple(_is_a(list, tuple)(value))
    for url in urls:
        parts = urlsplit(_is_a(str)(url))
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname or parts.port == 0:
            raise ValueError
    if not urls:
        raise ValueError
    return urls


def _check_store_url(value: Any) -> str:
    if not _STORE.fullmatch(_is_a(str)(value)):
        raise ValueError
    return str(value)


def _check_worker_types(value: Any) -> dict[str, str]:
    for kind, where in _is_a(dict)(value).items():
        if not _CLASS.fullmatch(where):
            raise ValueError
        check_type(kind)
    return dict(value)


def _check_services(value: Any) -> tuple[str, ...]:
    return tuple(check_type(name) for name in _is_a(list, tuple)(value))


_BOOL: Final = _ValueType("true or false", _is_a(bool), lambda text: _json(text.lower()))
_LEVEL: Final = _among(*LEVELS)
_PROTOCOL: Final = _among(*PROTOCOLS)
_TEXT: Final = _ValueType("text", _is_a(str), str)
_PORT: Final = _whole(0, 65_535)
_COUNT: Final = _whole(1)
_SECONDS: Final = _ValueType("a number above 0", _check_seconds, _json)
_BROKER_URLS: Final = _ValueType(
    "amqp[s]://[user:password@]host[:port][/vhost], or a list of such URLs",
    _check_broker_urls,
    _urls,
    _show_urls,
)
_STORE_URL: Final = _ValueType(
    "sqlite:///path, sqlite:// or mongodb://host/database", _check_store_url, str, _show_urls
)
_WORKER_TYPES: Final = _ValueType('an object as {"WB": "module:Class"}', _check_worker_types, _json)
_SERVICES: Final = _ValueType('a list of "broker", "manager" and worker types', _check_services, _items)
_SETTINGS: Final = _ValueType("an object", lambda value: dict(_is_a(dict)(value)), _json, _show_type)


def _key(kind: _ValueType, default: Any, meaning: str, *, unit: str = "", key: str = "") -> Any:
    about = {"kind": kind, "default": default, "meaning": meaning, "unit": unit, "key": key}
    return field(default_factory=lambda: default, metadata=about)


@dataclass(frozen=True, repr=False, kw_only=True)
class Config:
    """The settings, checked; raises :class:`ConfigError` unless all are possible. See :func:`describe`."""

    broker_url: tuple[str, ...] = _key(
        _BROKER_URLS,
        ["amqp://localhost", "amqp://localhost:5673"],
        "where the bus is; of a list, the next is tried when one is down",
    )
    broker_url_file: str = _key(_TEXT, "", "a file that holds the broker_url, instead of that key")
    tls_ca_file: str = _key(
        _TEXT, "", "the authorities whose brokers are believed (PEM), for amqps; empty: the system's"
    )
    tls_cert_file: str = _key(_TEXT, "", "our certificate (PEM), for amqps; empty: none")
    tls_key_file: str = _key(_TEXT, "", "its key (PEM); empty: it stands with the certificate")
    keepalive: int = _key(
        _whole(0),
        0,
        "how often the SystemManager asks the workers whether they are there; 0: never",
        unit="ms",
    )
    manager_log: bool = _key(_BOOL, True, "whether the SystemManager logs", key="SystemManager_log")
    worker_log: bool = _key(_BOOL, True, "whether workers log", key="Worker_log")
    data_transfer_protocol: str = _key(_PROTOCOL, "JSON", "the format on the bus; a fleet may mix them")
    worker_types: Mapping[str, str] = _key(_WORKER_TYPES, {}, "which class is which worker type")
    services: tuple[str, ...] = _key(
        _SERVICES,
        [],
        "what twistd txmicro runs in one process; empty: broker, manager and the worker_types, or the movies",
    )
    capacity: int = _key(_COUNT, 100, "how many jobs a worker runs at once", unit="jobs")
    timeout: float = _key(_SECONDS, 30.0, "how long a job may take, if its sender does not say", unit="s")
    max_runtime: float = _key(_SECONDS, 1500.0, "how long a handler may run", unit="s")
    grace: float = _key(_SECONDS, 30.0, "how long stopping waits for running jobs", unit="s")
    max_message: int = _key(_whole(4096), 16 * _MIB, "the largest message, encoded", unit="bytes")
    outbox_jobs: int = _key(
        _COUNT, 200_000, "how many jobs a worker may have sent that are not done", unit="jobs"
    )
    outbox_bytes: int = _key(_COUNT, 256 * _MIB, "how much these may take", unit="bytes")
    max_hops: int = _key(_COUNT, 64, "after how many hops a job fails", unit="hops")
    heartbeat: int = _key(
        _whole(0, 65_535),
        10,
        "how often the bus is heard of; 0: connections that hang go unnoticed",
        unit="s",
    )
    rest_port: int = _key(_PORT, 8080, "where the REST worker listens; 0: a free port")
    rest_interface: str = _key(_TEXT, "127.0.0.1", "the address it listens on; empty: all")
    http_body_max: int = _key(_COUNT, _MIB, "the largest body of an HTTP request", unit="bytes")
    metrics_port: int = _key(_PORT, 9091, "where the SystemManager's metrics page is; 0: a free port")
    worker_metrics_port: int = _key(_PORT, 0, "where a worker's metrics page is; 0: a free port")
    metrics_interface: str = _key(_TEXT, "127.0.0.1", "the address that metrics pages listen on; empty: all")
    store_url: str = _key(
        _STORE_URL, "sqlite:///txmicro.db", "where the DB worker stores; sqlite:// is in memory"
    )
    settings: Mapping[str, Any] = _key(_SETTINGS, {}, "your own settings: worker.config.settings")
    log_level: str = _key(_LEVEL, "info", "the least level that is logged")
    log_file: str = _key(
        _TEXT, "txmicro-workers.log", "where the logger worker writes the workers' log lines"
    )
    log_file_size: int = _key(
        _COUNT, 10 * _MIB, "at which size that file, and a daemon's own log, is rotated", unit="bytes"
    )
    log_files: int = _key(_COUNT, 5, "how many rotated files of each are kept", unit="files")
    broker_listen_port: int = _key(_PORT, 5673, "where the embedded broker listens; 0: a free port")
    broker_interface: str = _key(_TEXT, "127.0.0.1", "the address it listens on; empty: all")
    broker_memory: int = _key(
        _COUNT,
        256 * _MIB,
        "how much the embedded broker's messages may take before it blocks senders",
        unit="bytes",
    )

    def __post_init__(self) -> None:
        problems = []
        for each in fields(self):
            value, kind = getattr(self, each.name), each.metadata["kind"]
            try:
                object.__setattr__(self, each.name, kind.check(value))
            except (TypeError, ValueError, KeyError):
                problems.append(
                    f"{key_of(each)}: {kind.show(value)} is not possible, expected {kind.expected}"
                )
        if problems:
            raise ConfigError(problems)

    def __repr__(self) -> str:
        shown = (
            f"{each.name}={each.metadata['kind'].show(getattr(self, each.name))}" for each in fields(self)
        )
        return f"Config({', '.join(shown)})"


def key_of(each: Field[Any]) -> str:
    """The key of a field of :class:`Config`: its name, except for MicroServices.js' keys in capitals."""
    return each.metadata["key"] or each.name


_KEYS: Final = {key_of(each): each for each in fields(Config)}
_VARIABLES: Final = {PREFIX + key.upper(): key for key in _KEYS}


def describe() -> list[Option]:
    """All keys, in the order of :class:`Config`."""
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


def find(environ: Mapping[str, str]) -> str | None:
    """Return the path of the configuration file to read when the command line names none; None: there is none.

    ``TXMICRO_CONFIG`` names it, and must exist then; else it is the first of :data:`PLACES` that exists.
    """
    return environ.get(FILE_VARIABLE) or next(filter(os.path.exists, PLACES), None)


def describe_origin(path: str | None, environ: Mapping[str, str]) -> str:
    """Return where the configuration comes from, for the log: the file, and the variables that win over it."""
    file = os.path.abspath(path) if path else f"the defaults (there is no {', '.join(PLACES)})"
    variables = [name for name in sorted(environ.keys() - _OTHER_VARIABLES) if name.startswith(PREFIX)]
    return ", ".join([file, *variables])


def load(path: str | None, environ: Mapping[str, str]) -> Config:
    """The configuration in the file *path* (None: none) and in *environ*; raises :class:`ConfigError`."""
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
    try:
        text = without_comments(Path(path).read_text("utf-8-sig"))
        given = json.loads(text, object_pairs_hook=partial(_once, problems))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"cannot read {path!r}: {error}")
    except json.JSONDecodeError as error:
        problems.append(f"{path!r} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path!r} is no JSON: {error}")
    else:
        if isinstance(given, dict):
            problems += [_unknown(key, _KEYS) for key in given.keys() - _KEYS.keys()]
            return {key: value for key, value in given.items() if key in _KEYS}
        problems.append(f"{path!r} holds {type(given).__name__}, expected an object")
    return {}


def _once(problems: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    problems += [
        f"{key}: given {count} times" for key, count in Counter(key for key, _ in pairs).items() if count > 1
    ]
    return dict(pairs)


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
    """Put the settings of the environment over those that are *given*, whose letters may be of any case."""
    settings = given.get(SETTINGS, {})
    own = {variable: environ[variable] for variable in sorted(environ) if _is_setting(variable)}
    if not own or not isinstance(settings, dict):  # Config refuses it
        return
    known = {key.upper(): key for key in settings}
    given[SETTINGS] = settings = dict(settings)
    for variable, text in own.items():
        name = variable.removeprefix(_SETTING)
        key = known.get(name.upper(), name.lower())
        settings[key] = text if isinstance(settings.get(key), str) else _json(text)


def _read_secret(path: Any, problems: list[str]) -> dict[str, Any]:
    try:
        return {"broker_url": _urls(Path(path).read_text("utf-8"))}
    except (OSError, TypeError, ValueError) as error:
        # By mistake it may be the URL itself, which an OSError's text would show.
        reason = getattr(error, "strerror", None) or error
        problems.append(f"broker_url_file: cannot read {_show(path)}: {reason}")
        return {}


def _unknown(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"{name}: unknown" + (f"; is {close[0]} meant?" if close else "")
