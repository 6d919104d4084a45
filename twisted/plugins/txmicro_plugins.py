"""Names the daemons; what they are stands in :mod:`txmicro.daemons.tap`, which is imported when one is started."""

from twisted.application.service import ServiceMaker

txmicro_process = ServiceMaker(
    "txmicro", "txmicro.daemons.tap.process", "Broker, SystemManager and workers in one process.", "txmicro"
)
txmicro_manager = ServiceMaker(
    "txmicro-manager",
    "txmicro.daemons.tap.manager",
    "The SystemManager, who knows who is on the bus.",
    "txmicro-manager",
)
txmicro_worker = ServiceMaker(
    "txmicro-worker", "txmicro.daemons.tap.worker", "Workers of one or more types.", "txmicro-worker"
)
txmicro_broker = ServiceMaker(
    "txmicro-broker", "txmicro.daemons.tap.broker", "The embedded broker, for one machine.", "txmicro-broker"
)
