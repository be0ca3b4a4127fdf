"""Route and path MTU over real routers, beside tracepath."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import errqueue
from agent.probes import path
from tests.network.features import needs
from tests.network.namespaces import Namespace, route

pytestmark = [
    needs("numgen"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

FAR = "10.77.3.2"


@pytest.fixture
def spaces(request: pytest.FixtureRequest) -> Iterator[list[Namespace]]:
    """The near end, three routers, the far end; link 2 is narrow where the test asks for it."""
    mtus: Mapping[int, int] = getattr(request, "param", {})
    with route(3, mtus=mtus) as found:
        yield found


NARROW = pytest.mark.parametrize("spaces", [{2: 1400}], indirect=True)


def tracepath(near: Namespace) -> tuple[list[str | None], int]:
    out = near.run("tracepath", "-n", "-m", "10", FAR)
    hops = dict(re.findall(r"^ *(\d+): +(\S+)", out, re.MULTILINE))
    (mtu,) = re.findall(r"Resume: pmtu (\d+)", out)
    return [None if hops[n] == "no" else hops[n] for n in sorted(hops, key=int)], int(mtu)


def reflect(far: Namespace) -> None:
    far.start(sys.executable, "-m", "wanggan", "reflector", "run", "--open", "--listen", FAR, ready="listening")


WORDS = ("path", "--interface", "v0")


def test_the_hops_are_tracepaths(spaces: list[Namespace]) -> None:
    record = spaces[0].once(*WORDS, "--target", FAR, without="net_raw")
    assert record["outcome"] == "ok", record
    values = record["values"]
    hops, mtu = tracepath(spaces[0])
    assert [hop["address"] for hop in values["hops"]] == hops == ["10.77.0.2", "10.77.1.2", "10.77.2.2", FAR]
    assert values["hop_count"] == 4
    assert all(0 < hop["rtt_ms"] < 100 for hop in values["hops"])
    assert (values["pmtu_bytes"], values["pmtu_blackhole"]) == (mtu, False) == (1500, False)


@NARROW
@pytest.mark.parametrize("target", ["--target", "--server"])
def test_the_mtu_is_tracepaths(spaces: list[Namespace], target: str) -> None:
    """From a host whose port is closed, and from a reflector."""
    if target == "--server":
        reflect(spaces[-1])
    values = spaces[0].once(*WORDS, target, FAR)["values"]
    assert (values["pmtu_bytes"], values["pmtu_blackhole"]) == (tracepath(spaces[0])[1], False) == (1400, False)


@NARROW
def test_a_black_hole_is_found_and_named(spaces: list[Namespace]) -> None:
    """The router in front of the narrow link says nothing."""
    spaces[2].silence_icmp()
    reflect(spaces[-1])
    values = spaces[0].once(*WORDS, "--server", FAR)["values"]
    assert (values["pmtu_bytes"], values["pmtu_blackhole"]) == (1400, True)


def test_a_silent_router_is_null_and_not_the_end(spaces: list[Namespace]) -> None:
    spaces[2].silence_icmp()
    values = spaces[0].once(*WORDS, "--target", FAR)["values"]
    assert [hop["address"] for hop in values["hops"]] == ["10.77.0.2", None, "10.77.2.2", FAR]
    assert values["hops"][1]["rtt_ms"] is None
    assert values["hop_count"] == 4


def test_a_target_that_says_nothing_has_a_route_and_no_size(spaces: list[Namespace]) -> None:
    spaces[-1].silence_icmp()
    record = spaces[0].once(*WORDS, "--target", FAR)
    values = record["values"]
    assert record["outcome"] == "ok"
    assert [hop["address"] for hop in values["hops"]] == ["10.77.0.2", "10.77.1.2", "10.77.2.2"]
    assert (values["hop_count"], values["pmtu_bytes"], values["pmtu_blackhole"]) == (None, None, None)


def test_nobody_answers(spaces: list[Namespace]) -> None:
    for space in spaces[1:]:
        space.silence_icmp()
    record = spaces[0].once(*WORDS, "--target", FAR)
    assert (record["outcome"], record["reason"]) == ("failed", "all_lost")
    assert record["values"]["hops"] == []


def test_a_router_without_a_way_says_so(spaces: list[Namespace]) -> None:
    spaces[0].ip("route", "add", "10.99.0.0/24", "via", "10.77.0.2")
    record = spaces[0].once(*WORDS, "--target", "10.99.0.1")
    assert (record["outcome"], record["reason"]) == ("failed", "unreachable")
    assert [hop["address"] for hop in record["values"]["hops"]] == ["10.77.0.2"]


def test_the_worst_path_ends_before_its_deadline() -> None:
    """Thirty hops of which every third answers, then a black hole under loopback's own packets."""
    trace_s = 30 / path.AT_ONCE * path.WAIT_S
    search_s = (8 + 1 + 16) * path.WAIT_S
    assert trace_s + search_s < path.PROBE.timeout_s


@given(st.binary(max_size=64))
def test_any_offender_is_an_address_or_none(raw: bytes) -> None:
    found = errqueue._offender(raw)
    assert found is None or ip_address(found)
