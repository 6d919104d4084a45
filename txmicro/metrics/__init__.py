"""The metrics of a process, for Prometheus. Names and labels are those of MicroServices.js, where it has the metric.

==========================================  =========  ===============================================
``microservices_messages_received_total``   counter    by ``service`` and ``type``
``microservices_messages_sent_total``       counter    by ``service`` and ``type``
``microservices_job_errors_total``          counter    by ``service`` and ``error_type``
``microservices_workers_total``             gauge      by ``type``
``microservices_connected_workers``         gauge      only in a process with a SystemManager
``microservices_job_processing_seconds``    histogram  by ``service`` and ``job_type``
``microservices_jobs_total``                counter    by ``service``, ``job_type`` and ``outcome``
``microservices_job_wait_seconds``          histogram  by ``service`` and ``job_type``
``microservices_job_trip_seconds``          histogram  by ``service`` and ``target``
``microservices_job_resends_total``         counter    by ``service`` and ``job_type``
``microservices_dead_letters_total``        counter    by ``service`` and ``reason``
``microservices_pending_jobs``              gauge      by ``service``: jobs sent that have not ended
``microservices_running_jobs``              gauge      by ``service``: jobs whose handler runs
``microservices_held_jobs``                 gauge      by ``service``: jobs received that wait until others have ended
``microservices_broker_blocked``            gauge      1 while the broker accepts no messages from this process
``microservices_queue_jobs``                gauge      by ``type`` and ``queue``; only in a process with a SystemManager
``microservices_queue_consumers``           gauge      by ``type`` and ``queue``; only in a process with a SystemManager
``microservices_queue_oldest_seconds``      gauge      by ``type`` and ``queue``; only in a process with a SystemManager
==========================================  =========  ===============================================

``service`` is a worker's type, or ``SystemManager``. ``type`` is the type of a message: ``job``, ``ack``, ``result``,
``worker.new``, …; of ``workers_total``, it is a worker's type. ``error_type`` is the name of an error's class.
``job_type`` is ``interactive`` or ``durable``. ``reason`` says why a durable job became a dead letter. ``target`` is
the type that a job's first address names. ``queue`` is ``interactive``, ``durable``, ``quarantine`` or ``dead``.

``outcome`` says how a handler's run ended, at the worker that ran it:

=============  =====================================================================
``succeeded``  the job has ended with a result
``failed``     an interactive job has ended with an error
``forwarded``  the job goes on to its next hop
``canceled``   its sender has given the job up
``retried``    a durable job has failed, and is tried again
``dead``       a durable job has failed for the last time, and becomes a dead letter
``returned``   the worker stops; a durable job is returned to the broker
=============  =====================================================================

Three histograms tell where the time goes. A job waits from when it was sent until its handler starts
(``job_wait_seconds``). The handler runs (``job_processing_seconds``). The trip is the time from the send to the end,
with all hops, at the worker that sent the job (``job_trip_seconds``). A wait is the difference between the clocks of
two machines; one below 0 counts as 0. Only the first attempt of a durable job has a wait: later ones start when its
worker's ``retry`` says.

An error is counted once, where it happens, even if nobody awaits the job. That is the worker whose handler failed, or
the sender that gave up the job (``JobTimeout``, ``NoWorkerAvailable``, ``WorkerLost``, ``NotStored``).

Label values come from other programs, too, and each one takes memory here and in Prometheus as long as they run. So a
label has at most :data:`~txmicro.util.prometheus.LIMIT` values; further ones are counted as ``other``.

Values that change with every job are plain numbers (:mod:`txmicro.util.prometheus`). So record only in the reactor's
thread.
"""

from .families import DURABLE, INTERACTIVE
from .process import Metrics
from .service import ServiceMetrics

__all__ = ["DURABLE", "INTERACTIVE", "Metrics", "ServiceMetrics"]
