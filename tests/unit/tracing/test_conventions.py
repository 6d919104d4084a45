"""The names of attributes are those of OpenTelemetry's semantic conventions."""

from __future__ import annotations

from opentelemetry.semconv import schemas
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import (
    db_attributes,
    error_attributes,
    http_attributes,
    server_attributes,
    url_attributes,
)
from twisted.trial.unittest import SynchronousTestCase

from txmicro.tracing import conventions
from txmicro.tracing.tracer import SCHEMA


class ConventionTests(SynchronousTestCase):
    def test_each_name_is_known_or_our_own(self) -> None:
        packages = (
            messaging_attributes,
            db_attributes,
            error_attributes,
            http_attributes,
            server_attributes,
            url_attributes,
        )
        known = {value for package in packages for value in vars(package).values() if isinstance(value, str)}
        ours = {
            value
            for name, value in vars(conventions).items()
            if name.isupper() and isinstance(value, str) and "." in value
        }
        self.assertGreater(len(ours), 10)
        self.assertEqual({name for name in ours - known if not name.startswith("txmicro.")}, set())

    def test_the_release_of_the_conventions_is_known(self) -> None:
        self.assertIn(SCHEMA, {schema.value for schema in schemas.Schemas})
