"""Path over chains of real routers: hops and MTU beside tracepath, silent routers, black holes, faults."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import errqueue
from agent.clock import SystemClock
from agent.facts import Facts
from agent.probe import Context, Failure, Target
from agent.probes import path
from agent.probes.path import PathSettings
from contract.values import Hop
from contract.values import Path as Route
from tests.agent.lab import when
from tests.network.features import needs
from tests.network.namespaces import Namespace, cable, route

TARGET = "10.77.3.2"
SHORT_QUOTES = str(Path(__file__).with_name("short_quotes.py"))

inside = needs()


@contextmanager
def chain(mtus: Mapping[int, int] | None = None) -> Iterator[list[Namespace]]:
    """Three routers: 10.77.0.2, 10.77.1.2, 10.77.2.2; the far end is 10.77.3.2. IPv6 alike: fd77:N::2."""
    with route(3, mtus=mtus) as spaces:
        for link in range(4):
            for space, device, end in ((spaces[link], "v1" if link else "v0", 1), (spaces[link + 1], "v0", 2)):
                space.ip("addr", "add", f"fd77:{link}::{end}/64", "dev", device, "nodad")
        for place, space in enumerate(spaces):
            space.sysctl("net.ipv6.icmp.ratelimit", "0")
            if 0 < place < 4:
                space.sysctl("net.ipv6.conf.all.forwarding", "1")
            for link in range(4):
                if link > place:
                    space.ip("-6", "route", "add", f"fd77:{link}::/64", "via", f"fd77:{place}::2")
                elif link < place - 1:
                    space.ip("-6", "route", "add", f"fd77:{link}::/64", "via", f"fd77:{place - 1}::1")
        while any(space.ip("-6", "addr", "show", "tentative") for space in spaces):
            time.sleep(0.05)
        yield spaces


def reflector(space: Namespace, folder: Path, address: str = TARGET) -> None:
    file = folder / "reflector.toml"
    file.write_text("open = true\n")
    words = ["-m", "wanggan", "reflector", "run", "--config", str(file), "--listen", address]
    space.start(sys.executable, *words, ready="listening")


def measure(space: Namespace, *words: str) -> dict[str, Any]:
    """The Record of a run without any privilege that sockets know."""
    return space.once("path", "--interface", "v0", *words, without="net_raw")


def addresses(record: dict[str, Any]) -> list[str | None]:
    return [hop["address"] for hop in record["values"]["hops"]]


ROUTERS: list[str | None] = ["10.77.0.2", "10.77.1.2", "10.77.2.2"]
FOUR = [*ROUTERS, TARGET]
SIX = ["fd77::2", "fd77:1::2", "fd77:2::2", "fd77:3::2"]


@inside
@pytest.mark.parametrize(("hops", "target"), [(FOUR, TARGET), (SIX, "fd77:3::2")], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("mtus", [{}, {1: 1400}, {1: 1460, 3: 1350}], ids=["1500", "1400", "1460 and 1350"])
def test_hops_and_mtu_beside_tracepath(hops: list[str], target: str, mtus: dict[int, int]) -> None:
    with chain(mtus) as (here, *_):
        record = measure(here, "--target", target)
        said = here.run("tracepath", "-n", target)
    values = record["values"]
    theirs = re.search(r"Resume: pmtu (\d+) hops (\d+)", said)
    assert theirs is not None
    assert record["outcome"] == "ok"
    assert addresses(record) == hops
    assert (values["pmtu_bytes"], values["hop_count"]) == (int(theirs[1]), int(theirs[2]))
    assert values["pmtu_bytes"] == min([1500, *mtus.values()])
    assert values["pmtu_blackhole"] is False
    assert all(re.search(rf"^ *{n}: +{address} ", said, re.MULTILINE) for n, address in enumerate(hops, 1))
    assert all(0 < hop["rtt_ms"] < 500 for hop in values["hops"])


@inside
@pytest.mark.parametrize("target", [TARGET, "fd77:3::2"])
@pytest.mark.parametrize("mtu", [1400, 1313])
def test_black_hole_is_named_and_its_size_found(tmp_path: Path, target: str, mtu: int) -> None:
    with chain({2: mtu}) as (here, _, router, _, there):
        reflector(there, tmp_path, "::" if ":" in target else TARGET)
        router.nft(
            "add table inet f; add chain inet f out { type filter hook output priority 0; };"
            "add rule inet f out icmp type destination-unreachable icmp code frag-needed drop;"
            "add rule inet f out icmpv6 type packet-too-big drop"
        )
        record = measure(here, "--server", target)
    assert addresses(record) == (SIX if ":" in target else FOUR), "the filter hides nothing else"
    assert (record["values"]["pmtu_bytes"], record["values"]["pmtu_blackhole"]) == (mtu, True)


@inside
def test_black_hole_behind_a_router_that_speaks(tmp_path: Path) -> None:
    with chain({1: 1450, 3: 1320}) as (here, _, _, router, there):
        reflector(there, tmp_path)
        router.silence_icmp()
        record = measure(here, "--server", TARGET)
    assert (record["values"]["pmtu_bytes"], record["values"]["pmtu_blackhole"]) == (1320, True)


@inside
def test_without_a_reflector_a_black_hole_is_not_known() -> None:
    with chain({2: 1400}) as (here, _, router, _, _):
        router.silence_icmp()
        record = measure(here, "--target", TARGET)
    assert record["outcome"] == "ok"
    assert (record["values"]["pmtu_bytes"], record["values"]["pmtu_blackhole"]) == (None, None)


@inside
def test_reflector_on_a_whole_path(tmp_path: Path) -> None:
    with chain() as (here, *_, there):
        reflector(there, tmp_path)
        record = measure(here, "--server", TARGET)
    assert addresses(record) == FOUR
    assert (record["values"]["pmtu_bytes"], record["values"]["pmtu_blackhole"]) == (1500, False)


@inside
def test_a_silent_router_is_a_gap_and_not_the_end() -> None:
    with chain() as (here, _, router, _, _):
        router.silence_icmp()
        record = measure(here, "--target", TARGET)
    assert addresses(record) == ["10.77.0.2", None, "10.77.2.2", TARGET]
    assert record["values"]["hops"][1] == {"address": None, "rtt_ms": None}
    assert record["values"]["hop_count"] == 4


@inside
def test_a_target_that_says_nothing_leaves_its_routers() -> None:
    with chain({1: 1400}) as (here, *_, there):
        there.silence_icmp()
        record = measure(here, "--target", TARGET, "--set", "max_hops=9")
    assert record["outcome"] == "ok"
    assert addresses(record) == ROUTERS
    assert record["values"]["hop_count"] is None, "how many there are to the target is not known"
    assert (record["values"]["pmtu_bytes"], record["values"]["pmtu_blackhole"]) == (1400, None), "a router said so"


@inside
def test_one_run_is_one_flow() -> None:
    with chain() as (here, router, *_):
        router.nft(
            "add table inet f; add set inet f flows { typeof udp sport . udp dport; flags dynamic; };"
            "add chain inet f c { type filter hook prerouting priority 0; };"
            "add rule inet f c ip saddr 10.77.0.1 meta l4proto udp add @flows { udp sport . udp dport }"
        )
        measure(here, "--target", TARGET)
        one = json.loads(router.nft("list set inet f flows"))
        measure(here, "--target", TARGET)
        two = json.loads(router.nft("list set inet f flows"))
    count = [sum(len(entry["set"]["elem"]) for entry in found["nftables"] if "set" in entry) for found in (one, two)]
    assert count == [1, 2]


@inside
def test_routers_that_quote_nothing_of_the_payload() -> None:
    with chain() as (here, *routers, _):
        for link, router in enumerate(routers):
            # The kernel says nothing itself; what the other program says leaves by a socket of its own.
            router.nft(
                "add table ip f; add chain ip f c { type filter hook prerouting priority -300; };"
                "add rule ip f c ip ttl 1 meta l4proto udp drop"
            )
            router.start(sys.executable, SHORT_QUOTES, "v0", f"10.77.{link}.2", ready="ready")
        record = measure(here, "--target", TARGET)
    assert addresses(record) == FOUR


# Faults


@inside
def test_a_router_that_knows_no_way() -> None:
    with chain() as (here, _, router, *_):
        router.ip("route", "del", "10.77.3.0/24")
        router.ip("route", "add", "unreachable", "10.77.3.0/24")
        record = measure(here, "--target", TARGET)
    assert (record["outcome"], record["reason"]) == ("failed", "unreachable")
    assert record["detail"] == "10.77.1.2 says that there is no way"
    assert addresses(record) == ["10.77.0.2"]
    assert record["values"]["hop_count"] is None


@inside
def test_nobody_answers() -> None:
    with cable() as (here, there):
        there.silence_icmp()
        here.ip("route", "add", "10.99.0.0/24", "via", "10.77.0.2")
        silent = measure(here, "--target", "10.99.0.1", "--set", "max_hops=6")
        there.ip("link", "set", "v0", "arp", "off")
        here.ip("neigh", "flush", "dev", "v0")
        no_gateway = measure(here, "--target", "10.99.0.1", "--set", "max_hops=6")
        six = measure(here, "--target", "fd99::1")
    assert (silent["outcome"], silent["reason"], silent["values"]["hops"]) == ("failed", "all_lost", [])
    # Of a socket that is bound to a device Linux tells no ARP failure: it says so by ICMP on `lo`.
    assert (no_gateway["outcome"], no_gateway["reason"]) == ("failed", "all_lost")
    assert (six["outcome"], six["reason"]) == ("failed", "unreachable")


@inside
def test_interface_that_goes_away_in_the_middle() -> None:
    with chain() as (here, router, *_):
        router.nft("add table netdev f; add chain netdev f in { type filter hook ingress device v0 priority 0; }")
        router.nft("add rule netdev f in ip saddr 10.77.0.1 counter")

        def begun() -> bool:
            listed = json.loads(router.nft("list table netdev f"))["nftables"]
            return any(
                part["counter"]["packets"]
                for entry in listed
                for part in entry.get("rule", {}).get("expr", [])
                if "counter" in part
            )

        router.ip("route", "del", "10.77.3.0/24")
        router.ip("route", "add", "blackhole", "10.77.3.0/24")
        with when(begun, lambda: here.ip("link", "del", "v0")):
            record = measure(here, "--target", TARGET)
    assert (record["outcome"], record["reason"]) == ("failed", "no_link")


@inside
def test_what_was_seen_is_kept_at_the_deadline(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        'agent = "lib-01"\nstate = "state"\ninterface = "v0"\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n'
        f'[targets.far]\nrole = "internet"\nhost = "{TARGET}"\n'
        '[[jobs]]\nprobe = "path"\ntarget = "far"\nperiod_s = 3600\ntimeout_s = 1.5\n'
    )
    with chain() as (here, *_, there):
        there.silence_icmp()
        record = here.once("path", "--config", str(config))
    assert (record["outcome"], record["reason"]) == ("failed", "timeout")
    assert addresses(record) == ROUTERS


# In this process


def context(role: Any = "internet", port: int | None = None, host: str = "127.0.0.1") -> Context:
    return Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=60.0,
        target=Target(role=role, host=host, port=port),
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_loopback(host: str) -> None:
    values = await path.measure(PathSettings(), context(host=host))
    assert [hop.address for hop in values.hops or []] == [host]
    assert (values.hop_count, values.pmtu_blackhole) == (1, False)


class SteppingClock(SystemClock):
    """A wall clock that is set while packets are under way."""

    readings = 0

    def wall(self) -> float:
        self.readings += 1
        return super().wall() + (0.5 if self.readings > 5 else 0.0)


async def test_wall_step_voids_the_times_and_keeps_the_hops() -> None:
    at = context()
    at.clock = SteppingClock()
    with pytest.raises(Failure) as caught:
        await path.measure(PathSettings(), at)
    assert caught.value.reason == "clock_step"
    assert isinstance(at.values, Route)
    assert at.values.hops == [Hop(address="127.0.0.1")]


async def test_cancelled_run_leaves_nothing_behind() -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(20):
        task = asyncio.create_task(path.measure(PathSettings(), context(host="127.0.0.1")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


async def test_a_watcher_is_told_of_every_hop() -> None:
    told: list[str] = []
    at = context()
    at.progress = told.append
    await path.measure(PathSettings(), at)
    assert told[0].startswith("hop 1: 127.0.0.1, ")
    assert told[-1].startswith("a packet of ")


@given(st.binary(max_size=64))
def test_any_offender_is_an_address_or_none(raw: bytes) -> None:
    found = errqueue._offender(raw)
    assert found is None or ip_address(found)
