"""Makes the tracing of a daemon's process, as the configuration says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from txmicro.config import OTLP, Config
from txmicro.errors import ConfigError

if TYPE_CHECKING:
    from txmicro.tracing.otlp import OtlpTracing


def make_tracing(
    config: Config, kinds: Collection[str], reactor: Any, environ: Mapping[str, str]
) -> OtlpTracing | None:
    """Return the service that records and sends spans; None: there is none.

    :param kinds: the types of the process's workers. A process of one type is a service of that name.
    :raise ConfigError: the extra is not installed, or a variable of OpenTelemetry is not valid.
    """
    if config.tracing != OTLP:
        return None
    try:  # imported only here, so that a process without tracing does not pay for it
        from txmicro.tracing.otlp import OtlpTracing
    except ImportError as error:
        raise ConfigError(
            [f"tracing: otlp needs the package {error.name}: install txmicro[otel], or set tracing to off"]
        ) from error
    try:
        return OtlpTracing(next(iter(kinds)) if len(kinds) == 1 else "txmicro", reactor, environ)
    except ValueError as error:
        raise ConfigError([f"tracing: {error}"]) from error
