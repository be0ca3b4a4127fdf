"""What this machine's own files say about the network around it."""

import socket
from pathlib import Path

import pytest

from wanggan.network import Gateway, default_gateway, free_port, resolvers, taken

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def routes(folder: Path, *lines: str) -> Path:
    file = folder / "route"
    file.write_text(HEADER + "".join(f"{line}\t0\t0\t0\n" for line in lines))
    return file


def test_the_default_route_with_the_lowest_metric_wins(tmp_path: Path) -> None:
    file = routes(
        tmp_path,
        "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000",
        "eth0\t00000000\tFE01000A\t0003\t0\t0\t100\t00000000",
        "eth0\t0001000A\t00000000\t0001\t0\t0\t100\t00FFFFFF",
    )
    assert default_gateway(file) == Gateway("eth0", "10.0.1.254")


@pytest.mark.parametrize(
    "line",
    [
        "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000",  # no gateway: a point-to-point link
        "eth0\t00000000\t0101A8C0\t0002\t0\t0\t0\t00000000",  # not up
        "tun0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000080",  # half of the internet, as VPNs do
        "",
    ],
)
def test_what_is_no_default_gateway(line: str, tmp_path: Path) -> None:
    assert default_gateway(routes(tmp_path, line)) is None


def test_no_file_no_gateway_no_resolver(tmp_path: Path) -> None:
    assert default_gateway(tmp_path / "none") is None
    assert resolvers(tmp_path / "none") == []


def test_resolvers_in_order_each_once_and_at_most_three(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes(
        b"# nameserver 192.0.2.1\nsearch example\nnameserver 192.0.2.53\nnameserver\t2001:db8::53\n"
        b"nameserver 192.0.2.53\nnameserver bad\xff\nnameserver\nnameserver 192.0.2.54\nnameserver 192.0.2.55\n"
    )
    assert resolvers(file) == ["192.0.2.53", "2001:db8::53", "192.0.2.54"]


def test_a_port_is_free_until_somebody_listens() -> None:
    port = free_port()
    assert not taken("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert taken("127.0.0.1", port)
