"""Where each value of the configuration comes from: a default, the file, or a variable of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple

from txmicro.config import PREFIX, SETTINGS, Config, describe, key_of
from txmicro.util.json_file import read_object
from txmicro.util.passwords import mask, mask_account, mask_url
from txmicro.util.value_types import ValueType, show_accounts, show_type, show_urls

DEFAULT: Final = "default"
_SETTING: Final = f"{PREFIX}{SETTINGS.upper()}_"


class Origin(NamedTuple):
    """A value of the configuration, and where it comes from.

    :ivar key: the key; for a setting of the program, ``settings.`` and its name.
    :ivar value: the value as in JSON, without passwords; for a setting, which may be a secret, only its type.
    :ivar origin: :data:`DEFAULT`, the path of a file, or the name of a variable.
    """

    key: str
    value: Any
    origin: str


def origins(config: Config, path: str | None, environ: Mapping[str, str]) -> list[Origin]:
    """Return all values of *config*, which was loaded from the file *path* (None: no file) and from *environ*."""
    given = {} if path is None else read_object(path, [])
    file = "" if path is None else os.path.abspath(path)
    found = []
    for each, option in zip(fields(config), describe(), strict=True):
        key, value = key_of(each), getattr(config, each.name)
        origin = option.variable if option.variable in environ else file if key in given else DEFAULT
        if key == "broker_url" and config.broker_url_file:
            origin = os.path.abspath(config.broker_url_file)
        found.append(Origin(key, _masked(value, each.metadata["kind"]), origin))
        if key == SETTINGS:
            found += _settings(value, origin, environ)
    return found


def _settings(settings: Mapping[str, Any], origin: str, environ: Mapping[str, str]) -> Iterator[Origin]:
    variables = {name.removeprefix(_SETTING).upper(): name for name in environ if name.startswith(_SETTING)}
    for name, value in settings.items():
        yield Origin(f"{SETTINGS}.{name}", show_type(value), variables.get(name.upper(), origin))


_MASKS: Final[Mapping[Callable[[Any], str], Callable[[str], str]]] = {
    show_accounts: mask_account,
    show_urls: mask_url,
}


def _masked(value: Any, kind: ValueType) -> Any:
    if isinstance(value, str):
        return _MASKS.get(kind.show, mask)(value)
    if isinstance(value, tuple):
        return [_masked(each, kind) for each in value]
    if isinstance(value, Mapping):
        return kind.show(value) if kind.show is show_type else dict(value)
    return value
