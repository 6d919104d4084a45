"""The metrics page for Prometheus, ``GET /metrics``."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.web.server import Request

from .site import Answer, PageRoute, header


def metrics_route(registry: CollectorRegistry) -> PageRoute:
    """Return the route of the page with the samples of *registry*."""
    return PageRoute("GET", "/metrics", partial(_metrics, registry))


def _metrics(registry: CollectorRegistry, request: Request) -> Answer:
    """Return the samples of *registry*, in the format that the client accepts."""
    encode, content_type = choose_encoder(header(request, "accept"))
    return Answer(200, content_type, encode(registry))
