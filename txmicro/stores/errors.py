"""What can go wrong in a store."""

from __future__ import annotations

from txmicro.errors import JobError


class StoreError(JobError):
    """The store did not do it; ``retryable`` where that may pass: no database, a locked file, a full disk.

    HTTP clients get no word of it: it has the database's own text.
    """

    http_status = 503
    public = False


class StoreTimeout(StoreError):
    """There was no answer in time. What was to be stored may be stored: it is there once, if it is tried again."""

    http_status = 504
    public = True
    retryable = True


class DocumentTooLarge(StoreError):
    """The encoded document is larger than a store takes."""

    http_status = 413
    public = True


class DocumentTooDeep(StoreError):
    """The document is nested deeper than a store takes."""

    http_status = 400
    public = True
