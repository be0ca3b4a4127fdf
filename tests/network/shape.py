"""Shapers and losses on the interfaces of a cable: token buckets (tc-tbf) and exact drops (nft numgen)."""

import json
from typing import Any, NamedTuple

from tests.network.namespaces import Namespace


def truth_mbps(rate_mbps: float) -> float:
    """What TCP can carry at most over a shaped cable: 1448 bytes of 1514 (timestamps on, Ethernet header counted)."""
    return rate_mbps * 1448 / 1514


class Backlog(NamedTuple):
    """A shaper's queue at this moment, and what it counted since it was made."""

    bytes: int
    delay_ms: float
    """That these bytes will wait."""
    sent_bytes: int
    sent_packets: int
    dropped: int
    """Packets for which the queue had no room."""


class Shaper:
    """A token bucket on what leaves by one interface. Its queue holds `latency_ms` at this rate, or `limit_bytes`."""

    def __init__(
        self,
        space: Namespace,
        rate_mbps: float,
        *,
        device: str = "v0",
        burst_bytes: int | None = None,
        latency_ms: float = 50.0,
        limit_bytes: int | None = None,
    ) -> None:
        self._space, self._device = space, device
        self._burst_bytes, self._latency_ms, self._limit_bytes = burst_bytes, latency_ms, limit_bytes
        self.change(rate_mbps)

    def change(self, rate_mbps: float) -> None:
        """Another rate from now on; what waits in the queue stays, and the counters go on."""
        self.rate_mbps = rate_mbps
        # Two packets at least, and 2 ms: a smaller bucket overflows, and loses rate, when a busy machine is late.
        burst = self._burst_bytes or max(3028, int(rate_mbps * 250))
        room = ["limit", str(self._limit_bytes)] if self._limit_bytes else ["latency", f"{self._latency_ms}ms"]
        self._space.tc(
            "qdisc", "replace", "dev", self._device, "root", "handle", "1:", "tbf",
            "rate", f"{rate_mbps * 1000:.0f}kbit", "burst", str(burst), *room,
        )  # fmt: skip

    def backlog(self) -> Backlog:
        (found,) = (
            entry
            for entry in json.loads(self._space.tc("-j", "-s", "qdisc", "show", "dev", self._device))
            if entry["kind"] == "tbf"
        )
        waiting = found["backlog"]
        return Backlog(waiting, waiting * 0.008 / self.rate_mbps, found["bytes"], found["packets"], found["drops"])


def shape(*spaces: Namespace, rate_mbps: float, **settings: Any) -> list[Shaper]:
    """The same shaper on the `v0` of each: both ends of a cable make it symmetric."""
    return [Shaper(space, rate_mbps, **settings) for space in spaces]


class Loss:
    """Drops packets as they arrive at one end of a cable, and counts exactly.

    One in `every` is dropped, in turn or by chance. Super-frames are turned off on the other end's `v0`, so that a
    packet is a packet. `udp_port`: only packets to or from it are looked at.
    """

    def __init__(
        self, source: Namespace, target: Namespace, every: int, *, random: bool = False, udp_port: int | None = None
    ) -> None:
        self._space = target
        source.packets_as_sent("v0")
        kind = "random" if random else "inc"
        only = f"udp dport {udp_port}" if udp_port else ""
        target.nft(
            "add table netdev loss; add counter netdev loss seen; add counter netdev loss dropped;"
            "add chain netdev loss in { type filter hook ingress device v0 priority 0; };"
            f"add rule netdev loss in meta protocol ip {only} counter name seen;"
            f"add rule netdev loss in meta protocol ip {only} numgen {kind} mod {every} == {every - 1}"
            " counter name dropped drop"
        )

    @property
    def seen(self) -> int:
        """Packets that came, the dropped ones among them."""
        return self._counter("seen")

    @property
    def dropped(self) -> int:
        return self._counter("dropped")

    def _counter(self, name: str) -> int:
        found: list[dict[str, Any]] = json.loads(self._space.nft(f"list counter netdev loss {name}"))["nftables"]
        return sum(entry["counter"]["packets"] for entry in found if "counter" in entry)
