"""A cluster of three RabbitMQ nodes on loopback, with an epmd of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.support.rabbitmq import HOST, Node, free_port

EPMD = "epmd"


class ClusterNode(Node):
    """A node that connects to its peers by name.

    :param epmd: the port of the epmd that they share. Set ``peers`` before the start.
    """

    peers: list[ClusterNode]

    def __init__(self, directory: Path, epmd: int) -> None:
        super().__init__(directory, "faults")
        self._epmd = epmd

    def _prepare(self) -> None:
        super()._prepare()
        names = "".join(
            f"cluster_formation.classic_config.nodes.{number} = {peer.name}\n"
            for number, peer in enumerate(self.peers, 1)
        )
        with (self.directory / "rabbitmq.conf").open("a") as config:
            config.write(
                "cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config\n"
                f"{names}"
                "cluster_partition_handling = pause_minority\n"
            )


async def leader(node: Node, queue: str) -> str:
    """Return the name of the node that leads the quorum queue *queue*, as *node* reports it; empty: none leads."""
    listed = await node.ctl("list_queues", "--formatter", "json", "name", "leader")
    found = [about["leader"] for about in json.loads(listed) if about["name"] == queue]
    return str(found[0] or "") if found else ""


async def online(node: Node, queue: str) -> int:
    """Return how many members of the quorum queue *queue* are online, as *node* reports. It needs a majority."""
    listed = await node.ctl("list_queues", "--formatter", "json", "name", "online")
    return sum(len(about["online"] or ()) for about in json.loads(listed) if about["name"] == queue)


class Cluster:
    """A cluster of RabbitMQ nodes.

    :ivar nodes: its nodes; the first one is to be started first.
    """

    def __init__(self, directories: list[Path]) -> None:
        port = free_port()
        environ = {"PATH": os.environ.get("PATH", os.defpath), "ERL_EPMD_ADDRESS": HOST}
        self._epmd = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", EPMD, "-port", str(port)],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.nodes = [ClusterNode(directory, port) for directory in directories]
        for node in self.nodes:
            node.peers = self.nodes

    def close(self) -> None:
        """Stop the epmd that the nodes share. The nodes are killed separately."""
        with suppress(ProcessLookupError):
            self._epmd.send_signal(signal.SIGKILL)
        self._epmd.wait()
