"""The movies: a REST worker, a pilot, a worker with a database, and one that writes the log.

``GET`` and ``POST /movies/`` arrive at the REST worker (WA). It asks the pilot (WD), who knows what to do with a
request, and forwards it to the DB worker (WB). The answer goes from there straight back to the REST worker::

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
    """Asks the pilot, and answers with what comes back."""

    type = "WA"

    def routes(self, app: Klein) -> None:
        """There is one path."""
        app.route("/movies/")(self.movies)

    async def movies(self, request: LimitedRequest) -> bytes:
        """Find movies, or store one. Errors are answered by the base class."""
        if request.method == b"GET":
            job = {"method": "GET", **rest.query(request)}
            return request.json(await self.ask(request, "WD:*", job))
        if request.method == b"POST":
            job = {"method": "POST", "params": rest.document(request)}
            return request.json(await self.ask(request, "WD:*", job), 201)
        raise NotFound("movies take GET and POST")


class PilotWorker(Worker):
    """Decides who does what."""

    type = "WD"

    async def do_job(self, job: Job) -> Forward:
        """Movies that are asked for and movies that are new both go to the database."""
        if isinstance(job.data, dict) and job.data.get("method") in ("GET", "POST"):
            return Forward("WB:*", job.data)
        raise BadRequest(f"the pilot knows no way for {job.data!r:.100}")


class DBWorker(db.DBWorker):
    """Keeps the movies."""

    type = "WB"
    indexes = ("title", "year")


class LoggerWorker(logger.LoggerWorker):
    """Writes what the others log."""

    type = "WC"
