"""Small workers on one message bus: the public names."""

from .bus.connections import Bus
from .errors import JobError, TxmicroError
from .manager import SystemManager
from .protocol.job import Forward, Job
from .receiving.retry import RetryPolicy
from .sending.future import JobFuture
from .worker import Worker

__all__ = [
    "Bus",
    "Forward",
    "Job",
    "JobError",
    "JobFuture",
    "RetryPolicy",
    "SystemManager",
    "TxmicroError",
    "Worker",
]
