"""Sockets of the measured interface, and the reasons of their faults."""

import errno
import os
import socket
import sys

import pytest

from agent import sockets
from agent.probe import Failure
from tests.agent.lab import cable


def test_loopback() -> None:
    assert sockets.link("lo") == "up"
    assert "127.0.0.1" in sockets.addresses("lo")
    assert sockets.link("no-such-if") == "missing"
    assert sockets.addresses("no-such-if") == set()


def test_link_and_addresses_inside_a_namespace() -> None:
    say = "from agent import sockets; print(sockets.link('v0'), sorted(sockets.addresses('v0')))"
    with cable() as (here, there):
        here.ip("addr", "add", "10.77.1.1/24", "dev", "v0")
        here.ip("addr", "add", "fd77::1/64", "dev", "v0", "nodad")
        up, addresses = here.run(sys.executable, "-c", say).split(" ", 1)
        there.ip("link", "del", "v0")
        gone = here.run(sys.executable, "-c", say)
    assert up == "up"
    assert "'10.77.0.1', '10.77.1.1'" in addresses
    assert "'fd77::1'" in addresses
    assert gone.startswith("missing []")


def test_bound_to_an_interface_that_has_gone() -> None:
    with socket.socket() as sock, pytest.raises(Failure) as caught:
        sockets.bind(sock, "no-such-if")
    assert caught.value.reason == "no_interface"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.ECONNRESET, "reset"),
        (errno.EPIPE, "reset"),
        (errno.ETIMEDOUT, "timeout"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.ENETDOWN, "no_link"),
        (errno.EPERM, "no_permission"),
        (errno.ENOSPC, "internal"),
    ],
)
def test_reason_of_a_fault(number: int, reason: str) -> None:
    failure = sockets.failure(OSError(number, os.strerror(number)), "connecting")
    assert (failure.reason, failure.detail) == (reason, f"connecting: {os.strerror(number)}")


def test_reason_of_a_fault_without_a_number() -> None:
    assert sockets.failure(TimeoutError(), "reading").reason == "timeout"
    assert sockets.failure(ConnectionResetError("closed"), "reading").reason == "reset"


def test_literal_addresses() -> None:
    assert sockets.numeric("192.0.2.1", 80, "lo") == (socket.AF_INET, ("192.0.2.1", 80))
    family, address = sockets.numeric("fe80::1", 80, "lo")
    assert family == socket.AF_INET6
    assert address[3] == socket.if_nametoindex("lo"), "a link-local address is on the measured interface"
