"""Errors of document stores."""

from __future__ import annotations

from txmicro.errors import JobError


class StoreError(JobError):
    """The store failed to do what it was asked.

    It is ``retryable`` where a later attempt may succeed: no server, a locked file, a full disk. It is not ``public``,
    because its message has the database's own text.
    """

    http_status = 503
    public = False


class StoreTimeout(StoreError):
    """The store did not answer before the deadline.

    An insert may have been stored. Retried with the same key, it is stored once.
    """

    http_status = 504
    public = True
    retryable = True


class DocumentTooLarge(StoreError):
    """The encoded document is larger than a store accepts."""

    http_status = 413
    public = True


class DocumentTooDeep(StoreError):
    """The document is nested deeper than a store accepts."""

    http_status = 400
    public = True
