"""The names of the daemons. :mod:`txmicro.daemons.tap`, which has the rest, is imported when one is started."""

from twisted.application.service import ServiceMaker

txmicro_process = ServiceMaker(
    "txmicro", "txmicro.daemons.tap.process", "Broker, SystemManager and workers in one process.", "txmicro"
)
txmicro_manager = ServiceMaker(
    "txmicro-manager",
    "txmicro.daemons.tap.manager",
    "The SystemManager, which knows the connected workers.",
    "txmicro-manager",
)
txmicro_worker = ServiceMaker(
    "txmicro-worker", "txmicro.daemons.tap.worker", "Workers of one or more types.", "txmicro-worker"
)
txmicro_broker = ServiceMaker(
    "txmicro-broker",
    "txmicro.daemons.tap.broker",
    "The embedded broker, for a single machine.",
    "txmicro-broker",
)
