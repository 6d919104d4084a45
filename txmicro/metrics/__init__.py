"""The metrics of a process, for Prometheus. :doc:`/howto/metrics` lists them all.

Names and labels are those of MicroServices.js, where it has the metric. The labels:

- ``service``: a worker's type, or ``SystemManager``.
- ``type``: of ``messages_…_total``, the type of a message: ``job``, ``ack``, ``result``, ``worker.new``, …; of
  ``workers_total`` and ``queue_…``, a worker's type.
- ``job_type``: ``interactive`` or ``durable``.
- ``outcome``: of ``jobs_total``, how a run of a handler has ended (:mod:`txmicro.protocol.outcomes`).
- ``target``: the type that the first address of a job names.
- ``error_type``: the name of an error's class.
- ``reason``: why a durable job became a dead letter.
- ``queue``: ``interactive``, ``durable``, ``quarantine`` or ``dead``.

An error is counted once, where it happens, even if nobody awaits the job. That is the worker whose handler failed, or
the sender that gave up the job (``JobTimeout``, ``NoWorkerAvailable``, ``WorkerLost``, ``NotStored``).

Label values come from other programs, too, and each one takes memory here and in Prometheus as long as they run. So a
label has at most :data:`~txmicro.util.prometheus.LIMIT` values; further ones are counted as ``other``.

Values that change with every job are plain numbers (:mod:`txmicro.util.prometheus`). So record only in the reactor's
thread. Metrics of your own, of :meth:`ServiceMetrics.counter` and the like, may be used in any thread.
"""

from .families import DURABLE, INTERACTIVE
from .process import Metrics
from .service import ServiceMetrics

__all__ = ["DURABLE", "INTERACTIVE", "Metrics", "ServiceMetrics"]
