"""What one agent costs its box: memory, CPU, disk writes, and the time until its first record is stored.

    python -m bench.footprint --minutes 12

The real `wanggan agent run` on the default venue schedule (deploy/agent.example.toml), with a real broker and a real
collector, in a network namespace of its own, so that its probes reach only the targets made here. Exit 1 when a target
is missed.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from bench.collector import collector_files
from bench.programs import Broker, Program, listens, python

MIB = 2**20
DAY_S = 86_400
TARGETS = {"rss_mib": 40.0, "cpu_percent": 1.0, "written_mb_per_day": 5.0, "first_record_s": 5.0}
SAVED_S = 600
"""Small state is saved this often: a shorter window may hold one saving or none."""


def agent_file(folder: Path, *, broker_port: int, reflector_port: int, dns_port: int) -> Path:
    """The example configuration, with the targets of this namespace in the place of its own."""
    example = tomllib.loads((Path(__file__).parent.parent / "deploy/agent.example.toml").read_text())
    mqtt = {"host": "127.0.0.1", "port": broker_port, "tls": False}
    for name, target in example["targets"].items():
        host = f"127.0.0.{10 + list(example['targets']).index(name)}"
        if "url" in target:
            target["url"] = f"http://127.0.0.1:{reflector_port}/"
        else:
            target["host"] = "127.0.0.1" if name == "core" else host
        if name == "core":
            target["port"] = reflector_port
        if "key_file" in target:
            (folder / target["key_file"]).touch(mode=0o600)
    for resolver in example["resolvers"].values():
        resolver |= {"address": "127.0.0.1", "port": dns_port}
    for job in example["jobs"]:
        if job["probe"] == "dns":
            job["expect"] = ["192.0.2.0/24"]
    top = {"agent": example["agent"], "state": str(folder / "agent"), "version": 1, "interface": "lo"}
    tables = {"mqtt": mqtt}
    tables |= {f"targets.{name}": target for name, target in example["targets"].items()}
    tables |= {f"resolvers.{name}": resolver for name, resolver in example["resolvers"].items()}
    lines = [*_pairs(top)]
    for name, table in tables.items():
        lines += [f"[{name}]", *_pairs(table)]
    for job in example["jobs"]:
        lines += ["[[jobs]]", *_pairs(job)]
    file = folder / "agent.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]


class Names(asyncio.DatagramProtocol):
    """A resolver to whom every name has the address 192.0.2.7."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        head = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 7])
        self._transport.sendto(head + data[12:end] + answer, addr)


async def measure(folder: Path, minutes: float, engine: str) -> dict[str, Any]:
    """Run everything for so long; the figures."""
    loop = asyncio.get_running_loop()
    names, _ = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    dns_port = names.get_extra_info("sockname")[1]
    broker = Broker(folder)
    store_file = folder / "store.db"
    places = {"venue-001": {"interface": "lo", "venue": "library", "network": "wifi"}}
    http_port, reflector_port = 8080, 8862
    config = collector_files(
        folder, broker_port=broker.port, influx_url=None, store_file=store_file, http_port=http_port, places=places
    )
    collector = Program(
        "collector",
        python("wanggan", "collector", "run", "--config", str(config)),
        folder,
        ready=listens(http_port),
    )
    reflector = Program(
        "reflector",
        python("wanggan", "reflector", "run", "--port", str(reflector_port)),
        folder,
        ready=listens(reflector_port),
    )
    settings = agent_file(folder, broker_port=broker.port, reflector_port=reflector_port, dns_port=dns_port)
    agent = Program("agent", python("wanggan", "agent", "run", "--config", str(settings)), folder)
    try:
        for server in (broker, collector, reflector):
            await server.start()
        began = time.monotonic()
        await agent.start()
        while not (stored := _count(store_file, "agent")) and time.monotonic() - began < 60:
            await asyncio.sleep(0.02)
        first_s = time.monotonic() - began
        if not stored:
            raise RuntimeError(f"no record stored in 60 s: {agent.log.read_text()[-2000:]}")
        await asyncio.sleep(15)
        return {"first_record_s": round(first_s, 2)} | await _watch(agent, folder, store_file, minutes * 60)
    finally:
        names.close()
        await agent.stop()
        for server in (collector, reflector, broker):
            await server.stop()


async def _watch(agent: Program, folder: Path, store_file: Path, seconds: float) -> dict[str, Any]:
    """Figures of so many seconds; `writes` are (second, bytes written since the last, size of the outbox's log)."""
    before = {probe: _count(store_file, probe) for probe in ("agent", "latency", "dns", "web")}
    cpu_s, written, began = agent.cpu_s(), _written(agent.pid), time.monotonic()
    start_written = written
    wal = folder / "agent" / "outbox.db-wal"
    stamp, told, writes = _stamp(wal), written, []
    rss: list[int] = []
    while time.monotonic() - began < seconds:
        await asyncio.sleep(0.5)
        rss.append(agent.rss_bytes())
        if (now := _written(agent.pid)) != told or _stamp(wal) != stamp:
            writes.append((round(time.monotonic() - began), now - told, _stamp(wal)[1]))
            told, stamp = now, _stamp(wal)
    wall_s = time.monotonic() - began
    written = _written(agent.pid) - written
    # The program writes every 10 min whatever happens: a window shorter than that would tell too little or too much.
    per_day = written * DAY_S / max(wall_s, SAVED_S)
    return {
        "window_s": round(wall_s),
        "rss_mib": round(max(rss) / MIB, 1),
        "rss_first_mib": round(rss[0] / MIB, 1),
        "rss_last_mib": round(rss[-1] / MIB, 1),
        "cpu_percent": round(100 * (agent.cpu_s() - cpu_s) / wall_s, 2),
        "written_at_start_kb": round(start_written / 1000),
        "written_kb": round(written / 1000, 1),
        "writes": writes,
        "written_mb_per_day": round(per_day / 1e6, 2),
        "threads": len(list(Path(f"/proc/{agent.pid}/task").iterdir())),
        "descriptors": len(list(Path(f"/proc/{agent.pid}/fd").iterdir())),
        "records": {probe: _count(store_file, probe) - count for probe, count in before.items()},
    }


def _count(store_file: Path, probe: str) -> int:
    try:
        with closing(sqlite3.connect(f"file:{store_file}?mode=ro", uri=True, timeout=5)) as database:
            return int(database.execute(f'SELECT count(*) FROM "{probe}"').fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def _written(pid: int) -> int:
    """Bytes that the process has caused to be written to disk."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def _stamp(file: Path) -> tuple[int, int]:
    return (file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else (0, 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.footprint", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of idle life; from 10 on the disk figure is whole")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if not arguments.inside:
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        again = python("bench.footprint", "--inside", *(sys.argv[1:] if argv is None else argv))
        return subprocess.run(["unshare", *rights, "--net", "--", *again], check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
    with tempfile.TemporaryDirectory(prefix="footprint-", dir="/var/tmp") as folder:  # a real disk, not a tmpfs
        figures = asyncio.run(measure(Path(folder), arguments.minutes, "sqlite"))
    figures["missed"] = [name for name, most in TARGETS.items() if figures[name] > most]
    for name, value in figures.items():
        print(f"{name:20} {value}" + (f"   (at most {TARGETS[name]:g})" if name in TARGETS else ""))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
