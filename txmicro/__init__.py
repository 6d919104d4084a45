"""Small workers on one message bus.

What people write with stands here; the modules import each other directly.
"""

__version__ = "0.1.0"

from .errors import JobError, TxmicroError
from .future import JobFuture
from .manager import SystemManager
from .messages import Forward, Job
from .retry import RetryPolicy
from .worker import Worker

__all__ = [
    "Forward",
    "Job",
    "JobError",
    "JobFuture",
    "RetryPolicy",
    "SystemManager",
    "TxmicroError",
    "Worker",
]
