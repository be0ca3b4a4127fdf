"""What a record costs the collector: publish -> mosquitto -> collector -> store -> acknowledgement.

    python -m bench.ingest                                  # every store, 1, 10 and 100 records a batch, flat out
    python -m bench.ingest --store influxd --records 10 --rate 500     # 500 batches a second: latencies

CPU is user and system time of the whole collector process (/proc), the status page and everything else included, over
the records that it acknowledged. The sender is a bare socket in a process of its own. Loopback only.
"""

import argparse
import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from bench.programs import Broker, Influx, Program, free_port, python
from contract import topics
from contract.codec import encode
from contract.messages import MAX_BYTES, Batch, BatchId
from contract.record import RECORDS, Record
from contract.values import Dns, Latency, Web, WifiLink

AGENTS = 50
OUTBOX = UUID(int=7)
STORES = ("sqlite", "influxd", "victoria-metrics")
_NUMBER = re.compile(rb'"batch":(\d+)[^}]*?"stored":(\d+)')


class Load(NamedTuple):
    """What the sender does."""

    port: int
    records: int
    batches: int
    rate: float
    """Batches a second; 0 keeps `window` of them unanswered."""
    window: int


def record(number: int, slot: datetime) -> Record:
    """One of the default schedule's: every second one is latency."""
    common: dict[str, Any] = {
        "interface": "wlan0",
        "slot": slot,
        "started_at": slot + timedelta(milliseconds=1204),
        "duration_s": 3.127,
        "outcome": "ok",
    }
    jitter = number % 97 / 100
    match number % 6:
        case 0 | 2 | 4:
            values = Latency(
                method="icmp", sent=60, received=59, duplicates=0, reordered=0, loss_ratio=0.0167,
                rtt_min_ms=1.9 + jitter, rtt_mean_ms=2.4 + jitter, rtt_p50_ms=2.3 + jitter, rtt_p95_ms=3.1 + jitter,
                rtt_p99_ms=4.8 + jitter, rtt_max_ms=5.2 + jitter, rt_pdv_p95_ms=1.2, ipdv_mean_ms=0.31,
                packet_bytes=64, interval_ms=50.0,
            )  # fmt: skip
            target = ("core", "gateway", "internet")[number % 3]
            return RECORDS["latency"](target=target, values=values, **common)
        case 1:
            lookup = Dns(name="www.example.org", rcode="NOERROR", rtt_ms=7.1 + jitter, answers=2, transport="udp")
            return RECORDS["dns"](target="portal", resolver="isp-a", values=lookup, **common)
        case 3:
            page = Web(
                status=200, dns_ms=7.2, tcp_ms=12.4, tls_ms=23.5, ttfb_ms=48.1 + jitter, total_ms=93.7 + jitter,
                bytes=48_213, redirects=0, http_version="1.1", cert_days_left=71.5,
            )  # fmt: skip
            return RECORDS["web"](target="portal", values=page, **common)
    link = WifiLink(ssid="Library", frequency_mhz=5180, channel=36, width_mhz=80, band="5", rssi_dbm=-61.0 - jitter)
    return RECORDS["wifi_link"](target="-", values=link, **common)


def batches(load: Load) -> Iterator[tuple[str, int, bytes]]:
    """Agent, number and payload of every batch; every record has a slot of its own."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now - timedelta(hours=1)
    for number in range(load.batches):
        agent = f"bench-{number % AGENTS:03d}"
        first = number * load.records
        batch = Batch(
            agent=agent,
            outbox=OUTBOX,
            batch=number,
            boot=OUTBOX,
            sent_at=now,
            config_version=1,
            records=[record(n, start + timedelta(microseconds=37 * n)) for n in range(first, first + load.records)],
        )
        payload = encode(batch)
        if len(payload) > MAX_BYTES:
            raise ValueError(f"{load.records} records are {len(payload)} bytes: more than a batch may have")
        yield agent, number, payload


class Sender:
    """A bare MQTT 5 socket: publishes at QoS 0, reads acknowledgements."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._packets = [
            (number, publish(topics.up(agent, "records"), BatchId(OUTBOX, number).encode(), payload))
            for agent, number, payload in batches(load)
        ]
        self._socket = socket.create_connection(("127.0.0.1", load.port))
        self._socket.sendall(_packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x06sender"))
        self._socket.recv(64)
        answers = topics.down("+", "ack").encode()
        subscribe = b"\x00\x01\x00" + struct.pack("!H", len(answers)) + answers + b"\x00"
        self._socket.sendall(_packet(0x82, subscribe))
        self._socket.recv(64)
        self._rest = b""
        self.sent_s: dict[int, float] = {}
        self.waits_ms: list[float] = []
        self.stored = 0

    def run(self) -> dict[str, float]:
        """Send everything, wait until everything is answered."""
        began_s = time.monotonic()
        for place, (number, packet) in enumerate(self._packets):
            if self._load.rate:
                while (wait_s := began_s + place / self._load.rate - time.monotonic()) > 0:
                    self._read(wait_s)
            else:
                while len(self.sent_s) >= self._load.window:
                    self._read(10.0)
            self.sent_s[number] = time.monotonic()
            self._socket.settimeout(60)
            self._socket.sendall(packet)
        while self.sent_s:
            self._read(60.0, must=True)
        took_s = time.monotonic() - began_s
        waits = sorted(self.waits_ms)
        return {
            "records": self.stored,
            "batches_per_s": len(waits) / took_s,
            "records_per_s": self.stored / took_s,
            "p50_ms": waits[len(waits) // 2],
            "p99_ms": waits[len(waits) * 99 // 100],
        }

    def _read(self, timeout_s: float, *, must: bool = False) -> None:
        self._socket.settimeout(timeout_s)
        try:
            data = self._rest + self._socket.recv(1 << 16)
        except TimeoutError:
            if must:
                raise
            return
        now_s = time.monotonic()
        end = 0
        for found in _NUMBER.finditer(data):
            end = found.end()
            sent_s = self.sent_s.pop(int(found[1]), None)
            if sent_s is not None:
                self.waits_ms.append((now_s - sent_s) * 1000)
                self.stored += int(found[2])
        self._rest = data[end:]


def publish(topic: str, correlation: bytes, payload: bytes) -> bytes:
    """A PUBLISH at QoS 0 with Correlation Data."""
    properties = b"\x09" + struct.pack("!H", len(correlation)) + correlation
    name = topic.encode()
    head = struct.pack("!H", len(name)) + name + bytes([len(properties)]) + properties
    return _packet(0x30, head + payload)


def _packet(kind: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([kind]) + length + body


class Victoria(Program):
    """victoria-metrics with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        argv = [
            "victoria-metrics",
            f"-storageDataPath={folder}/vm",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-dedup.minScrapeInterval=1ms",
        ]
        super().__init__("database", argv, folder, ready=self._answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
        except OSError:
            return False
        return True


def configure(folder: Path, broker_port: int, http_port: int, store: str) -> Path:
    """The collector's files."""
    sites = ['[venues.hall]\nname = { zh = "大厅", en = "Hall" }\ntype = "gov_hall"\n']
    sites += [
        f'[[sites]]\nagent = "bench-{number:03d}"\ninterface = "wlan0"\nvenue = "hall"\nnetwork = "wifi"\n'
        "from = 2020-01-01\n"
        for number in range(AGENTS)
    ]
    (folder / "sites.toml").write_text("\n".join(sites))
    config = folder / "collector.toml"
    config.write_text(f"""\
[mqtt]
host = "127.0.0.1"
port = {broker_port}
tls = false
user = "collector"
[store]
{store}
[web]
port = {http_port}
[limits]
messages_per_s = 1000
burst = 10000
queue_mib = 256
""")
    return config


async def measure(store: str, records: int, count: int, rate: float, window: int) -> dict[str, float]:
    """One run in a laboratory of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        broker = Broker(folder, settings=["max_packet_size 1000000", "set_tcp_nodelay true"])
        broker.allow("topic readwrite #\nuser collector\ntopic readwrite #\n")
        database: Influx | Victoria | None = None
        table = f'engine = "sqlite"\npath = "{folder}/store.db"'
        if store == "influxd":
            database = Influx(folder)
            table = f'engine = "influx"\nurl = "{database.url}"\nendpoint = "/write"'
        elif store == "victoria-metrics":
            database = Victoria(folder)
            # The hold would only add 10 s to each answer, and no CPU.
            table = f'engine = "influx"\nurl = "{database.url}"\nserver = "victoriametrics"\nack_hold_s = 0'
        http_port = free_port()
        config = configure(folder, broker.port, http_port, table)
        collector = Program(
            "collector", python("wanggan", "collector", "run", "--config", str(config)), folder,
            ready=lambda: _healthy(http_port),
        )  # fmt: skip
        programs = [broker, *([database] if database else []), collector]
        try:
            for program in programs:
                await program.start()
            load = Load(broker.port, records, count, rate, window)
            argv = python("bench.ingest", "--send", json.dumps(load))
            sender = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
            assert sender.stdout is not None
            assert sender.stdin is not None
            if sender.stdout.readline() != "ready\n":
                raise RuntimeError("the sender did not start")
            idle_s = time.monotonic()
            before_s = collector.cpu_s()
            sender.stdin.write("go\n")
            sender.stdin.flush()
            report: dict[str, float] = json.loads(sender.stdout.readline())
            cpu_s = collector.cpu_s() - before_s
            sender.wait(10)
            report["seconds"] = time.monotonic() - idle_s
            report["cpu_us"] = cpu_s / report["records"] * 1e6
            report["cpu_ratio"] = cpu_s / report["seconds"]
            report["rss_mb"] = collector.rss_bytes() / 1e6
            return report
        except RuntimeError:
            print((folder / "collector.log").read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            for program in reversed(programs):
                await program.stop()


def _healthy(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
    except OSError:
        return False
    return True


async def compare(stores: list[str], sizes: list[int], total: int, rate: float, window: int) -> None:
    print(
        f"{'store':<18}{'records/batch':>14}{'us/record':>11}{'records/s':>11}{'batches/s':>11}"
        f"{'p50 ms':>8}{'p99 ms':>8}{'CPU':>6}{'MB':>7}"
    )
    for store in stores:
        for records in sizes:
            count = max(200, total // records)
            report = await measure(store, records, count, rate, window)
            print(
                f"{store:<18}{records:>14}{report['cpu_us']:>11.1f}{report['records_per_s']:>11.0f}"
                f"{report['batches_per_s']:>11.0f}{report['p50_ms']:>8.0f}{report['p99_ms']:>8.0f}"
                f"{report['cpu_ratio']:>6.0%}{report['rss_mb']:>7.1f}",
                flush=True,
            )


def send(load: Load) -> None:
    sender = Sender(load)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(sender.run()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--store", action="append", choices=STORES)
    parser.add_argument("--records", action="append", type=int, help="of a batch")
    parser.add_argument("--total", type=int, default=100_000, help="records of a run; at least 200 batches")
    parser.add_argument("--rate", type=float, default=0.0, help="batches a second; 0: as fast as they are answered")
    parser.add_argument("--window", type=int, default=200, help="unanswered batches (4 an agent) when there is no rate")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        send(Load(*json.loads(arguments.send)))
    else:
        stores, sizes = arguments.store or list(STORES), arguments.records or [1, 10, 100]
        asyncio.run(compare(stores, sizes, arguments.total, arguments.rate, arguments.window))


if __name__ == "__main__":
    main()
