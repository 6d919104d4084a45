"""Document stores.

A document is a dict with text keys, of any values that JSON carries (:mod:`txmicro.protocol.codec`). A store derives
the ``id`` of a document from the key of the job that inserts it. So a job that runs twice, in two workers or after a
crash, stores one document with one id.
"""

from .base import Store
from .errors import DocumentTooDeep, DocumentTooLarge, StoreError, StoreTimeout
from .opening import open_store

__all__ = ["DocumentTooDeep", "DocumentTooLarge", "Store", "StoreError", "StoreTimeout", "open_store"]
