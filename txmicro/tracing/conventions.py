"""Names of attributes: OpenTelemetry's semantic conventions, and those of txmicro.

The conventions for messaging are in development, and their constants move between releases of the package. So the names
are here, and a test compares them with the package.

- Messaging: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
- RabbitMQ: https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/
- HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
- Databases: https://opentelemetry.io/docs/specs/semconv/database/database-spans/
"""

from __future__ import annotations

from typing import Final

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
TEMPLATE: Final = "messaging.destination.template"
ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
GROUP: Final = "messaging.consumer.group.name"
CLIENT: Final = "messaging.client.id"
MESSAGE: Final = "messaging.message.id"
CONVERSATION: Final = "messaging.message.conversation_id"
ERROR_TYPE: Final = "error.type"

METHOD: Final = "http.request.method"
ORIGINAL_METHOD: Final = "http.request.method_original"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
PATH: Final = "url.path"
SCHEME: Final = "url.scheme"
SERVER: Final = "server.address"
PORT: Final = "server.port"

DATABASE: Final = "db.system.name"
COLLECTION: Final = "db.collection.name"
DATABASE_OPERATION: Final = "db.operation.name"

# Of txmicro
LANE: Final = "txmicro.job.lane"
ATTEMPT: Final = "txmicro.job.attempt"
WAIT: Final = "txmicro.job.wait"
OUTCOME: Final = "txmicro.job.outcome"
LINK: Final = "txmicro.link"

RABBITMQ: Final = "rabbitmq"

METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY")
)
OTHER_METHOD: Final = "_OTHER"
"""The value for a method that is not one of :data:`METHODS`: clients can send any."""
