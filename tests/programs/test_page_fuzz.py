"""Fuzzes the API of a real process, by its own OpenAPI description."""

from __future__ import annotations

from typing import Any

import treq
from openapi_spec_validator import validate

from tests.support.programs import PATIENCE, ProgramTestCase
from tests.support.rabbitmq import free_port

EXAMPLES = 10
"""Requests for each route that are made up, besides those for each limit of each parameter."""


class FuzzTests(ProgramTestCase):
    timeout = 6 * PATIENCE

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.port, broker = free_port(), free_port()
        self.settings |= {
            "TXMICRO_METRICS_PORT": str(self.port),
            "TXMICRO_REST_PORT": "0",
            "TXMICRO_BROKER_LISTEN_PORT": str(broker),
            "TXMICRO_BROKER_URL": f"amqp://127.0.0.1:{broker}",
        }
        self.process = self.twistd("txmicro")
        await self.process.says(r"WD:\S+ is ready")

    async def get(self, path: str) -> Any:
        answer = await treq.get(f"http://127.0.0.1:{self.port}{path}", persistent=False)
        self.assertEqual(answer.code, 200, path)
        return await answer.json()

    async def test_the_api_is_as_described_whatever_is_sent(self) -> None:
        validate(await self.get("/api/openapi.json"))
        await self.run_program("txmicro", "send", "WD:*", '{"method": "DELETE"}', "--durable").ended()
        (letter,) = (await self.get("/api/dead/WD"))["letters"]
        self.assertEqual(letter["error"], "BadRequest")
        fuzzing = self.run_program(
            "schemathesis",
            "run",
            f"http://127.0.0.1:{self.port}/api/openapi.json",
            "--phases=coverage,fuzzing",
            "--exclude-path=/api/events",  # its answer has no end
            f"--max-examples={EXAMPLES}",
            "--generation-deterministic",
            "--no-shrink",
            "--request-timeout=10",
            "--continue-on-failure",
            "--no-color",
        )
        status = await fuzzing.ended(4 * PATIENCE)
        self.assertEqual(status, 0, fuzzing.output)
        self.assertNotIn("Traceback", self.process.output)
        self.assertNotIn("has been blocked", self.process.output)
        await self.get("/health/ready")
        await self.get("/api/overview")
