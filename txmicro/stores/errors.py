"""What can go wrong in a store."""

from __future__ import annotations

from txmicro.errors import JobError


class StoreError(JobError):
    """The store did not do it; ``retryable`` where that may pass: no database, a locked file, a full disk."""


class StoreTimeout(StoreError):
    """There was no answer in time. What was to be stored may be stored: it is there once, if it is tried again."""

    retryable = True


class DocumentTooLarge(StoreError):
    """The encoded document is larger than a store takes."""


class DocumentTooDeep(StoreError):
    """The document is nested deeper than a store takes."""
