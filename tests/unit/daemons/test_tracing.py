"""The tracing of a daemon, from its configuration."""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import Reactor
from txmicro.config import Config
from txmicro.daemons.tracing import make_tracing
from txmicro.errors import ConfigError


class MakeTracingTests(SynchronousTestCase):
    def make(self, tracing: str = "otlp", *kinds: str, **environ: str) -> Any:
        made = make_tracing(Config(tracing=tracing), kinds, Reactor(), environ)
        if made is not None:
            self.addCleanup(made._sdk_log.remove)
        return made

    def test_off_is_the_default_and_makes_nothing(self) -> None:
        self.assertEqual(Config().tracing, "off")
        self.assertIsNone(self.make("off"))

    def test_without_the_extra_the_error_says_what_to_install(self) -> None:
        with patch.dict(sys.modules):
            for name in [name for name in sys.modules if name.startswith("txmicro.tracing.otlp")]:
                del sys.modules[name]
            sys.modules["opentelemetry.exporter.otlp.proto.http.trace_exporter"] = None  # type: ignore[assignment]
            error = self.assertRaises(ConfigError, self.make)
        self.assertEqual(
            error.problems,
            [
                "tracing: otlp needs the package opentelemetry.exporter.otlp.proto.http.trace_exporter: install "
                "txmicro[otel], or set tracing to off"
            ],
        )

    def test_a_variable_that_is_not_valid(self) -> None:
        error = self.assertRaises(ConfigError, self.make, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        self.assertEqual(
            error.problems,
            [
                "tracing: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc': expected http/protobuf, at the collector's HTTP "
                "port, usually 4318"
            ],
        )

    def test_a_process_of_one_type_is_a_service_of_that_name(self) -> None:
        for kinds, name in ((["Shop"], "Shop"), (["Shop", "DB"], "txmicro"), ([], "txmicro")):
            resource = self.make("otlp", *kinds)._provider.resource
            self.assertEqual(resource.attributes["service.name"], name)
