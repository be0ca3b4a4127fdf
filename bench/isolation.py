"""Hostile agents against mosquitto with the shipped configuration; and from a bundle to the first stored record.

python -m bench.isolation [--attempts N]
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests.servers import free_port
from tests.wanggan.enrolled import Fleet, serving

HOSTILE: Final = "box-hostile"
VICTIM: Final = "box-victim"
WITH_WILL: Final = 4
"""MQTT 5: disconnect, and publish the will."""
LEAVES: Final = ("records", "status", "reply", "config", "x/y")
GREEDY: Final = ("wanggan/1/down/+/#", "wanggan/#", "#", "wanggan/1/up/#", "$share/g/wanggan/1/down/#", "$SYS/#")
MARK: Final = b"end"


class Watch:
    """Whatever a client hears; `until_mark` returns when everything sent before the mark has come."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._marked = asyncio.Event()
        self._task = asyncio.create_task(self._listen(client), name="watch")

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if message.payload == MARK:
                self._marked.set()
            else:
                self.heard.append((message.topic.value, message.payload))

    async def until_mark(self) -> None:
        async with asyncio.timeout(60):
            await self._marked.wait()

    @property
    def alive(self) -> bool:
        return not self._task.done()

    def end(self) -> None:
        self._task.cancel()


async def attack(fleet: Fleet, attempts: int, chance: random.Random) -> tuple[Counter[str], Counter[str]]:
    """Attempts by kind, and those of them that had any effect."""
    each = attempts // 4
    through: Counter[str] = Counter()
    async with fleet.client("collector") as collector, fleet.client(VICTIM) as victim:
        await collector.subscribe("#")
        await victim.subscribe(f"wanggan/1/down/{VICTIM}/#")
        everything, own = Watch(collector), Watch(victim)
        async with fleet.client(HOSTILE) as hostile:
            for number in range(each):
                root = chance.choice((f"up/{VICTIM}", f"down/{VICTIM}", "down/all", f"down/{HOSTILE}"))
                topic, qos = f"wanggan/1/{root}/{chance.choice(LEAVES)}", chance.choice((0, 1))
                with contextlib.suppress(aiomqtt.MqttCodeError):
                    await hostile.publish(topic, b"publish", qos=qos, retain=bool(number % 2))
            await hostile.publish(f"wanggan/1/up/{HOSTILE}/status", b"a control", qos=1)
        async with fleet.client(HOSTILE) as hostile:
            stolen = Watch(hostile)
            await hostile.subscribe(f"wanggan/1/down/{HOSTILE}/#")
            for _ in range(each):
                leaf = chance.choice(LEAVES)
                with contextlib.suppress(aiomqtt.MqttCodeError):
                    await hostile.subscribe(chance.choice((f"wanggan/1/down/{VICTIM}/{leaf}", *GREEDY)), qos=1)
                await collector.publish(f"wanggan/1/down/{VICTIM}/{leaf}", b"for the victim", qos=1)
            await collector.publish(f"wanggan/1/down/{HOSTILE}/mark", MARK, qos=1)
            await stolen.until_mark()
            through["subscribe to another's"] = _foreign(stolen)
        for number in range(each):
            topic = f"wanggan/1/up/{VICTIM}/{chance.choice(LEAVES)}"
            await _die(fleet, aiomqtt.Will(topic, b"will", qos=chance.choice((0, 1)), retain=bool(number % 2)))
        await _die(fleet, aiomqtt.Will(f"wanggan/1/up/{HOSTILE}/status", b"a control", qos=1))
        for _ in range(each):
            async with fleet.client(HOSTILE, client_id=VICTIM) as taker:
                taken = Watch(taker)
                await collector.publish(f"wanggan/1/down/{VICTIM}/ack", b"for the victim", qos=1)
                await collector.publish(f"wanggan/1/down/{HOSTILE}/mark", b"", qos=0)
            through["take a client id"] += bool(_foreign(taken)) or not own.alive
            taken.end()
        await collector.publish(f"wanggan/1/down/{VICTIM}/mark", MARK, qos=1)
        await victim.publish(f"wanggan/1/up/{VICTIM}/mark", MARK, qos=1)
        await own.until_mark()
        await everything.until_mark()
        through["publish as another"] = sum(payload == b"publish" for _, payload in everything.heard + own.heard)
        through["will as another"] = sum(payload == b"will" for _, payload in everything.heard + own.heard)
        # What a hostile agent may do arrives, and so does everything that is the victim's: else this shows nothing.
        assert sum(payload == b"a control" for _, payload in everything.heard) == 2
        assert len(own.heard) == 2 * each
        for watch in (everything, own, stolen):
            watch.end()
    kinds = ("publish as another", "will as another", "subscribe to another's", "take a client id")
    return Counter(dict.fromkeys(kinds, each)), through


def _foreign(watch: Watch) -> int:
    return sum(f"/{VICTIM}/" in topic for topic, _ in watch.heard)


async def _die(fleet: Fleet, will: aiomqtt.Will) -> None:
    """Connect and leave so that the will is published."""
    with contextlib.suppress(aiomqtt.MqttError):
        async with fleet.client(HOSTILE, will=will) as client:
            client._client.disconnect(reasoncode=ReasonCode(PacketTypes.DISCONNECT, identifier=WITH_WILL))  # type: ignore[no-untyped-call]


def first_record_s(fleet: Fleet) -> float:
    """From the command on the box, given the bundle, until the store has its first record."""
    folder = fleet.folder
    authority = folder / "authority/collector"
    config = folder / "collector.toml"
    config.write_text(
        f'[mqtt]\nhost = "localhost"\nport = {fleet.port}\nca_file = "{authority}/ca.pem"\n'
        f'cert_file = "{authority}/collector.pem"\nkey_file = "{authority}/collector.key"\n'
        f'[store]\nengine = "sqlite"\npath = "store.db"\n[web]\nport = {free_port()}\n'
    )
    wanggan = [sys.executable, "-P", "-m", "wanggan"]
    install = ["agent", "install", str(fleet.bundle(VICTIM)), "--to", str(folder / "etc"), "--run"]
    with (folder / "log").open("wb") as log:
        collector = subprocess.Popen([*wanggan, "collector", "run", "--config", str(config)], stderr=log)
        agent = None
        try:
            _until(lambda: "broker: connected" in (folder / "log").read_text())
            began_s = time.monotonic()
            agent = subprocess.Popen([*wanggan, *install], stderr=log)
            _until(lambda: _rows(folder / "store.db") > 0)
            return time.monotonic() - began_s
        finally:
            for process in (agent, collector):
                if process is not None:
                    process.terminate()
                    process.wait(30)


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen within 60 s")
        time.sleep(0.02)


def _rows(path: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            return int(database.execute("SELECT count(*) FROM agent").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3, help="of bundle to first record")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wanggan-isolation-"))
    try:
        fleet = Fleet(folder, HOSTILE, VICTIM)
        with serving(fleet):
            tried, through = asyncio.run(attack(fleet, arguments.attempts, random.Random(7)))
            for kind, count in tried.items():
                print(f"{kind}: {count} tried, {through[kind]} got through")
            print(f"together: {tried.total()} tried, {through.total()} got through")
            for _ in range(arguments.runs):
                for rest in ("etc", "state", "store.db", "store.db-wal", "store.db-shm"):
                    path = folder / rest
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                print(f"bundle to first stored record: {first_record_s(fleet):.1f} s")
    finally:
        shutil.rmtree(folder)
    if through.total():
        sys.exit(1)


if __name__ == "__main__":
    main()
