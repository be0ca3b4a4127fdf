"""Some seconds of the fuzzer; `tests/long/test_reflector_fuzz.py` runs it for ten minutes."""

import asyncio
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from contract import stamp
from tests.reflector import fuzz, inside
from tests.reflector.inside import Held, Inside
from tests.reflector.peer import Peer, run_test

GUEST, KEY = "guest-01", b"the key of a good guest"
GROWTH_BYTES = 20_000_000
SETTINGS = """
keys_file = "keys.toml"
portal_key_file = "portal.key"
[limits]
capacity_mbps = 10000
per_test_mbps = 500
pause_s = 0
bytes_per_day = 1000000000000
public_slots = 4
"""


def test_eight_seconds(tmp_path: Path) -> None:
    survive(tmp_path, 8, seed=8862)


def survive(folder: Path, seconds: float, seed: int) -> None:
    """Attack a reflector for so long: good guests are served all the while, and nothing is left of it."""
    keys = {**fuzz.AGENTS, GUEST: KEY}
    for name, text in (
        ("keys.toml", "".join(f'{agent} = ["{key.decode()}"]\n' for agent, key in keys.items())),
        ("portal.key", "the portal's own key\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    with inside.running(folder, SETTINGS) as reflector:
        # What is made once is made now: code paths, buffers, what is remembered of sources.
        asyncio.run(_attacked(reflector, min(5.0, seconds / 4), seed + 1))
        before = _settled(reflector)
        done = asyncio.run(_attacked(reflector, seconds, seed))
        after = _settled(reflector)
        print(f"{sum(done.values())} attacks: {dict(done)}; {before} -> {after}")
        assert set(done) == {attack.__name__ for attack in fuzz.ATTACKS}
        assert after.tasks == before.tasks
        assert after.descriptors == before.descriptors
        assert after.rss_bytes - before.rss_bytes < GROWTH_BYTES
        figures = _metrics(reflector)
        assert "internal_errors" not in figures
        assert reflector.stop() == 0
        listens, _, rest = reflector.errors.read_text().partition("\n")
        assert listens.startswith("reflector: listening on ")
        assert not rest, rest[-5000:]


async def _attacked(reflector: Inside, seconds: float, seed: int) -> dict[str, int]:
    fuzzer = fuzz.Fuzzer(seed, tcp=reflector.tcp, udp=reflector.udp, http=reflector.http)
    attack = asyncio.ensure_future(fuzzer.run(seconds))
    while not attack.done():
        await _visit(reflector)
        await asyncio.sleep(0.2)
    await attack
    return dict(fuzzer.done)


async def _visit(reflector: Inside) -> None:
    """A good guest on each port."""
    for direction in ("down", "up"):
        result = await run_test(reflector.tcp, direction, agent=GUEST, key=KEY, streams=2, duration_s=0.2)  # type: ignore[arg-type]
        assert sum(result.moved) > 100_000
    async with Peer(reflector.tcp) as peer:
        assert (await peer.greeted()).http_port == reflector.http
    await asyncio.to_thread(_echo, reflector.udp)
    await asyncio.to_thread(_portal, reflector.http)


def _echo(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        for number in range(3):  # under a flood some may be lost
            sock.send(stamp.pack_request(stamp.Request(number, time.time_ns())))
        reply = stamp.unpack_reply(sock.recv(100))
        assert reply is not None
        assert reply.sender_sequence in range(3)


def _portal(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/generate_204?n={'n' * 20}", timeout=10) as answer:
        assert answer.status == 204
        assert answer.headers["X-Wanggan-Signature"]


def _metrics(reflector: Inside) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{reflector.http}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _settled(reflector: Inside) -> Held:
    """What it holds when nobody is connected any more."""
    for _ in range(100):
        alone = "wanggan_reflector_connections_open 1\n" in _metrics(reflector)
        time.sleep(0.2)  # this one closes, too
        if alone:
            return reflector.held()
    pytest.fail(f"connections stay: {reflector.held()}\n{_metrics(reflector)}")
