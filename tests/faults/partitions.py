"""A cluster of three RabbitMQ nodes, each in its own network namespace. Links between two nodes can be cut.

A rule of nft in a node's namespace cuts a link: it silently drops the packets in one direction. This needs root, and
the packages iproute2 and nftables.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .cluster import ClusterNode
from .row import Unavailable

HERE = 0
"""The number of the suite's own namespace, with the senders and the workers. The nodes are 1, 2, 3."""
NEEDED = {"ip": "iproute2", "nft": "nftables"}
"""Commands, with the Debian packages that contain them."""
RULES = """
table ip faults {
  set cut { type ipv4_addr . ipv4_addr; }
  chain input { type filter hook input priority 0; ip saddr . ip daddr @cut drop; }
  chain output { type filter hook output priority 0; ip saddr . ip daddr @cut drop; }
}
"""


def run(*command: str, text: str = "") -> None:
    """Run a command with *text* as its input; raise Unavailable, with the command's output, if it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class Network:
    """A bridge, and the network namespaces that are connected to it."""

    def __init__(self, count: int) -> None:
        if os.geteuid():
            raise Unavailable("network namespaces need root")
        missing = [package for command, package in NEEDED.items() if shutil.which(command) is None]
        if missing:
            raise Unavailable(f"packages are missing: {', '.join(missing)}")
        self._bridge = f"flt{os.getpid() % 100_000}"
        self._count = count

    def address(self, end: int) -> str:
        """Return the address of a namespace."""
        return f"10.213.7.{end + 1}"

    def namespace(self, end: int) -> str:
        """Return the name of a node's namespace."""
        return f"{self._bridge}-{end}"

    def open(self) -> None:
        """Create the network; raise Unavailable if that is not permitted."""
        atexit.register(self.close)
        run("ip", "link", "add", self._bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.address(HERE)}/24", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "up")
        for end in range(1, self._count + 1):
            self._hang(end)

    def _hang(self, end: int) -> None:
        name, outside = self.namespace(end), f"{self._bridge}v{end}"
        inside = ("ip", "-n", name)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "way", "netns", name)
        run("ip", "link", "set", outside, "master", self._bridge, "up")
        run(*inside, "addr", "add", f"{self.address(end)}/24", "dev", "way")
        run(*inside, "link", "set", "way", "up")
        run(*inside, "link", "set", "lo", "up")
        self._nft(end, RULES)

    def cut(self, one: int, other: int, *, both: bool = True) -> None:
        """Drop all packets from *one* to the *other*; with *both*, also in the other direction."""
        for way in ((one, other), (other, one)) if both else ((one, other),):
            source, target = map(self.address, way)
            # The receiving end drops them, so the rules of the suite's own namespace need no change.
            self._nft(way[1] or way[0], f"add element ip faults cut {{ {source} . {target} }}")

    def reaches(self, one: int, other: int, port: int) -> bool:
        """Return whether a node can connect to a port of another one."""
        where = (self.address(other), port)
        dial = f"import socket; socket.create_connection({where!r}, 2)"
        inside = ("ip", "netns", "exec", self.namespace(one))
        dialed = subprocess.run((*inside, sys.executable, "-c", dial), capture_output=True, timeout=20)
        return not dialed.returncode

    def heal(self) -> None:
        """Restore all links."""
        for end in range(1, self._count + 1):
            self._nft(end, "flush set ip faults cut")

    def _nft(self, end: int, rules: str) -> None:
        run("ip", "netns", "exec", self.namespace(end), "nft", "-f", "-", text=rules)

    def close(self) -> None:
        """Remove the network, also one that is only partly created."""
        atexit.unregister(self.close)
        names = [("netns", "del", self.namespace(end)) for end in range(1, self._count + 1)]
        for command in (*names, ("link", "del", self._bridge)):
            subprocess.run(("ip", *command), capture_output=True, timeout=20)


class NetworkNode(ClusterNode):
    """A node in a namespace of a :class:`Network`."""

    def __init__(self, directory: Path, network: Network, end: int, epmd: int) -> None:
        super().__init__(directory, epmd)
        self.host = network.address(end)
        self.prefix = ("ip", "netns", "exec", network.namespace(end))
        self.name = f"faults@{_name(end)}"
        self._hosts = {_name(number): network.address(number) for number in (1, 2, 3)}

    def _prepare(self) -> None:
        super()._prepare()
        lines = [
            f'{{host, {{{address.replace(".", ",")}}}, ["{name}"]}}.\n'
            for name, address in self._hosts.items()
        ]
        with (self.directory / "rabbitmq.conf").open("a") as config:
            config.write("loopback_users = none\n")
        (self.directory / "hosts").write_text("".join([*lines, "{lookup, [file, native]}.\n"]))

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"ERL_INETRC": str(self.directory / "hosts")}


def _name(end: int) -> str:
    return f"node{end}"


def make(directories: list[Path], network: Network, epmd: int) -> list[NetworkNode]:
    """Return the nodes of a cluster on *network*; the port *epmd* must be free in its namespaces."""
    nodes = [NetworkNode(directory, network, end, epmd) for end, directory in enumerate(directories, 1)]
    for node in nodes:
        node.peers = list(nodes)
    return nodes
