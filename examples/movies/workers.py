"""The movies: a REST worker, a pilot, a worker with a database, and a logger.

The REST worker (WA) takes ``GET`` and ``POST /movies/``, and sends a job to the pilot (WD). The pilot decides which
worker goes on with it, and forwards it to the DB worker (WB). The result goes from there straight to the REST worker::

    client ── HTTP ──▶ WA ── job ──▶ WD ── forward ──▶ WB
              ◀────────────────── result ──────────────┘
"""

from __future__ import annotations

from klein import Klein
from werkzeug.exceptions import NotFound

from txmicro import Forward, Job, Worker
from txmicro.errors import BadRequest
from txmicro.web.site import LimitedRequest
from txmicro.workers import db, logger, rest


class RestWorker(rest.RestWorker):
    """An HTTP server that sends a job to the pilot for each request."""

    type = "WA"

    def routes(self, app: Klein) -> None:
        """Add the path."""
        app.route("/movies/")(self.movies)

    async def movies(self, request: LimitedRequest) -> bytes:
        """Find movies, or store one. The base class answers errors."""
        if request.method == b"GET":
            job = {"method": "GET", **rest.query(request)}
            return request.json(await self.ask(request, "WD:*", job))
        if request.method == b"POST":
            job = {"method": "POST", "params": rest.document(request)}
            return request.json(await self.ask(request, "WD:*", job), 201)
        raise NotFound("expected GET or POST")


class PilotWorker(Worker):
    """A worker that decides which worker does a job."""

    type = "WD"

    async def do_job(self, job: Job) -> Forward:
        """Forward the job to the database, whether it finds movies or stores one."""
        if isinstance(job.data, dict) and job.data.get("method") in ("GET", "POST"):
            return Forward("WB:*", job.data)
        raise BadRequest(f"the job is {job.data!r:.100}: expected an object whose method is GET or POST")


class DBWorker(db.DBWorker):
    """The store of the movies."""

    type = "WB"
    indexes = ("title", "year")


class LoggerWorker(logger.LoggerWorker):
    """A worker that writes the log lines of all workers to a file."""

    type = "WC"
