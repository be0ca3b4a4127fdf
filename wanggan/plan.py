"""What `wanggan up` measures on this machine, and the configuration files that say so."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from wanggan.network import Gateway

AGENT: Final = "local"
"""Id of the one agent."""
VENUE: Final = "this-machine"
COLLECTOR: Final = "collector"
"""The collector's user name at the broker."""

PERIOD_S: Final = 10
PACKETS: Final = 10
LATE_S: Final = 1.0
"""A train of 10 packets at 100 ms is over well before its next slot."""
HEAVY_PERIOD_S: Final = 30
"""Throughput and video share the loopback, and take 13 s together."""
PER_TEST_MBPS: Final = 200
"""What the reflector paces a test to: a page that lives needs no whole core."""
NO_LIMIT: Final = 10**12
"""Data costs nothing on this machine."""
LOOPBACK: Final = "lo"

PUBLIC_SITES: Final = {"gov-cn": "www.gov.cn", "baidu": "www.baidu.com"}
"""Public targets by name: asked only where they can be reached."""
ASKED: Final = "gov-cn"
"""Whose address the resolvers are asked for."""
REACH_S: Final = 3.0


class Plan(NamedTuple):
    """Everything around this machine that will be measured."""

    reflector_port: int
    http_port: int
    """The reflector's."""
    gateway: Gateway | None
    resolvers: Sequence[str]
    public: Sequence[str]
    """Names of :data:`PUBLIC_SITES`."""
    radio: str | None = None
    """An interface that is on Wi-Fi."""

    @property
    def interfaces(self) -> list[str]:
        used = [LOOPBACK, self.gateway.interface if self.gateway else None, self.radio]
        return list(dict.fromkeys(name for name in used if name is not None))

    def describe(self) -> list[str]:
        """For people, one thing each."""
        return [
            "the reflector on this machine",
            *([f"the gateway {self.gateway.address} ({self.gateway.interface})"] if self.gateway else []),
            *([f"the Wi-Fi link of {self.radio}"] if self.radio else []),
            *(f"the resolver {address}" for address in self.resolvers),
            *(PUBLIC_SITES[name] for name in self.public),
        ]


async def reachable(gateway: Gateway | None) -> list[str]:
    """The public sites that answer within :data:`REACH_S`, through the default route."""
    if gateway is None:
        return []
    async with asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task(_answers(host, gateway.interface), name=f"reach {host}")
            for name, host in PUBLIC_SITES.items()
        }
    return [name for name, task in tasks.items() if task.result()]


async def _answers(host: str, interface: str) -> bool:
    from agent.probe import Failure
    from agent.resolver import resolve
    from agent.tcp import connect

    try:
        async with asyncio.timeout(REACH_S):
            addresses = await resolve(host, interface)
            (await connect(addresses[0], 443, interface, REACH_S)).close()
    except (Failure, OSError, TimeoutError):
        return False
    return True


def agent_configuration(plan: Plan, broker_port: int, state: str, password_file: str, key_file: str) -> str:
    """The agent's TOML."""
    targets: dict[str, dict[str, Any]] = {
        "reflector": {
            "role": "core",
            "host": "127.0.0.1",
            "port": plan.reflector_port,
            "url": f"http://127.0.0.1:{plan.http_port}/",
            "key_file": key_file,
        }
    }
    train = {"packets": PACKETS, "late_s": LATE_S}
    jobs: list[dict[str, Any]] = [
        {"probe": "agent", "interface": LOOPBACK},
        {"probe": "latency", "target": "reflector", "interface": LOOPBACK, **train},
        {"probe": "web", "target": "reflector", "interface": LOOPBACK},
        {"probe": "throughput", "target": "reflector", "interface": LOOPBACK, "period_s": HEAVY_PERIOD_S},
        {"probe": "video", "target": "reflector", "interface": LOOPBACK, "period_s": HEAVY_PERIOD_S, "duration_s": 6},
    ]
    uplink = plan.gateway.interface if plan.gateway else LOOPBACK
    if plan.gateway:
        targets["gateway"] = {"role": "gateway", "host": plan.gateway.address}
        jobs.append({"probe": "latency", "target": "gateway", "interface": uplink, **train})
    if plan.radio:
        jobs.append({"probe": "wifi_link", "interface": plan.radio, "timeout_s": PERIOD_S})
    for name in plan.public:
        targets[name] = {"role": "internet", "host": PUBLIC_SITES[name]}
        jobs.append({"probe": "latency", "target": name, "interface": uplink, **train})
    resolvers = {f"system-{number}": {"address": address} for number, address in enumerate(plan.resolvers, 1)}
    if resolvers:
        targets.setdefault(ASKED, {"role": "internet", "host": PUBLIC_SITES[ASKED]})
    for name, resolver in resolvers.items():
        interface = LOOPBACK if ip_address(resolver["address"]).is_loopback else uplink
        jobs.append({"probe": "dns", "target": ASKED, "resolver": name, "interface": interface})
    return _toml(
        {"agent": AGENT, "state": state, "version": 1},
        {"mqtt": {"host": "127.0.0.1", "port": broker_port, "tls": False, "password_file": password_file}},
        {f"uplinks.{LOOPBACK}": {"budget_mb_per_day": NO_LIMIT}},
        {f"targets.{name}": target for name, target in targets.items()},
        {f"resolvers.{name}": resolver for name, resolver in resolvers.items()},
        jobs=[{"period_s": PERIOD_S} | job for job in jobs],
    )


def reflector_configuration(plan: Plan, keys_file: str) -> str:
    """The reflector's TOML."""
    limits = {"capacity_mbps": 1000, "per_test_mbps": PER_TEST_MBPS, "pause_s": 0, "bytes_per_day": NO_LIMIT}
    return _toml({"port": plan.reflector_port, "http_port": plan.http_port, "keys_file": keys_file}, {"limits": limits})


def reflector_keys(key: str) -> str:
    """The reflector's TOML of keys."""
    return _toml({AGENT: [key]})


def collector_configuration(
    broker_port: int, page_port: int, state: str, password_file: str, register: str, *, simulated: bool = False
) -> str:
    """The collector's TOML."""
    return _toml(
        {"state": f"{state}/collector", "register": register},
        {
            "mqtt": {
                "host": "127.0.0.1",
                "port": broker_port,
                "tls": False,
                "user": COLLECTOR,
                "password_file": password_file,
            },
            "store": {"engine": "sqlite", "path": f"{state}/wanggan.db"},
            "web": {
                "listen": "127.0.0.1",
                "port": page_port,
                "simulated": simulated,
                "reports_folder": f"{state}/reports",
            },
        },
    )


def perception_configuration(state: str, register: str, *, zh: str, en: str) -> str:
    """Perception's TOML; `zh` and `en` are what the report calls the district. Pages and tables alone: they need no
    fonts of this machine."""
    return _toml(
        {"state": f"{state}/perception", "register": register},
        {
            "store": {"engine": "sqlite", "path": f"{state}/wanggan.db"},
            "report": {"folder": f"{state}/reports", "languages": ["zh", "en"], "formats": ["html", "xlsx"]},
            "report.district": {"zh": zh, "en": en},
        },
    )


def site_register(plan: Plan) -> str:
    """The register: this machine is a venue."""
    sites = [
        {"agent": AGENT, "interface": interface, "venue": VENUE, "network": "gov", "from": "2020-01-01"}
        for interface in plan.interfaces
    ]
    return _toml(
        {},
        {f"venues.{VENUE}": {"type": "node"}, f"venues.{VENUE}.name": {"zh": "本机", "en": "This machine"}},
        sites=sites,
    )


def _toml(top: dict[str, Any], *tables: dict[str, dict[str, Any]], **lists: Iterable[dict[str, Any]]) -> str:
    lines = ["# Written by `wanggan up` at every start.", *_pairs(top)]
    for group in tables:
        for name, table in group.items():
            lines += ["", f"[{name}]", *_pairs(table)]
    for name, rows in lists.items():
        for row in rows:
            lines += ["", f"[[{name}]]", *_pairs(row)]
    return "\n".join(lines) + "\n"


def _pairs(table: dict[str, Any]) -> list[str]:
    # Strings, numbers, booleans and flat lists are written alike in JSON and in TOML.
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
