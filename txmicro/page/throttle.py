"""Counts failed logins by address, and says when the next one is checked."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

FAILURES: Final = 10
"""How many logins may fail at once."""

INTERVAL: Final = 6.0
"""Seconds after which one more may fail."""

ADDRESSES: Final = 10_000
"""The most addresses that are known; then the oldest one is forgotten."""


class Throttle:
    """The failed logins; see the module.

    :param clock: a reactor, or a ``Clock``.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        # When the failures of each address will be forgiven: INTERVAL seconds after the one before.
        self._forgiven: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._forgiven)

    def wait(self, address: str) -> float:
        """Return the seconds until a login from *address* is checked; 0: now."""
        forgiven = self._forgiven.get(_network(address), 0.0)
        wait: float = forgiven - self._clock.seconds() - (FAILURES - 1) * INTERVAL
        return max(0.0, wait)

    def failed(self, address: str) -> None:
        """Count a failed login."""
        now, network = self._clock.seconds(), _network(address)
        self._forgiven[network] = max(self._forgiven.get(network, 0.0), now) + INTERVAL
        self._forgiven.move_to_end(network)
        while self._forgiven and (
            len(self._forgiven) > ADDRESSES or next(iter(self._forgiven.values())) <= now
        ):
            self._forgiven.popitem(last=False)


def _network(address: str) -> str:
    """Return *address*, or the /64 network of an IPv6 address, which one customer of a provider has."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
