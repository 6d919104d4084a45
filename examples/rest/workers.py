"""A worker that knows prices, and a REST worker that answers HTTP requests by asking it."""

from __future__ import annotations

from klein import Klein

from txmicro import Job, JobError, Worker
from txmicro.web.site import LimitedRequest
from txmicro.workers.rest import RestWorker

CENTS = {"apple": 40, "pear": 50}


class UnknownItem(JobError):
    """An error that an HTTP client gets with the status 404."""

    http_status = 404


class Pricer(Worker):
    """A worker that takes an item and returns its price in cents."""

    type = "Pricer"

    async def do_job(self, job: Job) -> int:
        """Return the price."""
        if job.data not in CENTS:
            raise UnknownItem(f"there is no price for {job.data}")
        return CENTS[job.data]


class Api(RestWorker):
    """A REST worker that answers ``GET /prices/<item>``."""

    type = "Api"

    def routes(self, app: Klein) -> None:
        """Add the paths."""
        app.route("/prices/<item>", methods=["GET"])(self.price)

    async def price(self, request: LimitedRequest, item: str) -> bytes:
        """Send a job and answer with its result. The base class answers errors."""
        cents = await self.ask(request, "Pricer:*", item)
        return request.json({"item": item, "cents": cents})
