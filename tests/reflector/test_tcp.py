"""The kernel's struct against what a connection really did, and against `ss`, which reads the same kernel."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from reflector import tcp

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    with here, there:
        yield here, there


def move(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    sender.sendall(b"x" * size)
    left = size
    while left:
        left -= len(receiver.recv(left))


def test_bytes_and_times(pair: Pair) -> None:
    here, there = pair
    move(here, there, 100_000)
    move(there, here, 777)
    info = tcp.info(here)
    assert info is not None
    assert (info.bytes_sent, info.bytes_received, info.bytes_retransmitted) == (100_000, 777, 0)
    assert info.bytes_acked == 100_001, "the side that connected counts its SYN"
    assert 0 < info.min_rtt_us < 1_000_000
    assert info.min_rtt_us <= info.rtt_us


def test_beside_ss(pair: Pair) -> None:
    here, there = pair
    move(here, there, 300_000)
    port = here.getsockname()[1]
    command = ["ss", "-tinO", "state", "established", f"sport = :{port}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    info = tcp.info(here)
    assert info is not None
    said = dict(re.findall(r"(?<![a-z_])(bytes_sent|bytes_acked|minrtt|rtt):([\d.]+)", shown))
    assert info.bytes_sent == int(said["bytes_sent"])
    assert info.bytes_acked == int(said["bytes_acked"])
    assert info.rtt_us == pytest.approx(float(said["rtt"]) * 1000, abs=1)
    assert info.min_rtt_us == pytest.approx(float(said["minrtt"]) * 1000, abs=1)


def test_bbr_only_where_it_is_used(pair: Pair) -> None:
    here, there = pair
    here.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    assert tcp.congestion_control(here) == "reno"
    assert tcp.bbr_info(here) is None
    try:
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
    except OSError as error:
        pytest.skip(f"this kernel offers no bbr: {error}")
    move(here, there, 1_000_000)
    bbr = tcp.bbr_info(here)
    assert bbr is not None
    assert bbr.bandwidth_bytes_s > 1_000_000
    assert 256 <= bbr.pacing_gain <= 1024


def test_the_kernel_keeps_the_rate(pair: Pair) -> None:
    here, there = pair
    tcp.limit_rate(here, 80)
    size = 10_000_000
    sending = threading.Thread(target=here.sendall, args=(bytes(size),))
    started_s = time.monotonic()
    sending.start()
    left = size
    while left:
        left -= len(there.recv(left))
    mbps = size * 8 / 1e6 / (time.monotonic() - started_s)
    sending.join()
    assert 60 < mbps < 85


def test_a_closed_socket_knows_nothing() -> None:
    sock = socket.socket()
    sock.close()
    assert tcp.info(sock) is None
    assert tcp.bbr_info(sock) is None
