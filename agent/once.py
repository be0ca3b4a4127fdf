"""One probe, now: the smoke test and the support tool. Needs no configuration."""

import asyncio
import re
import socket
import tomllib
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from agent import config
from agent.clock import SystemClock
from agent.config import Config, ConfigError, Job
from agent.facts import Facts
from agent.hours import ALWAYS_OPEN
from agent.probe import NameServer, Progress, Target, ignore
from agent.probes import PROBES
from agent.runner import Runner
from agent.uplinks import Uplinks, UplinkSettings
from agent.wifi import wireless
from agent.wifi.watch import Watch, Wifi
from contract.fields import AgentId
from contract.record import NO_TARGET, Record

_PERIOD_S: Final = 86_400.0
"""Of a job that runs once: any."""
_PAGE: Final = "https://www.gov.cn/"
"""What web and dns ask for when nothing was named."""
_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_ROUTES: Final = Path("/proc/net/route")


class Plan(NamedTuple):
    """A job and what its names mean."""

    agent: str
    job: Job
    targets: dict[str, Target]
    resolvers: dict[str, NameServer]
    uplinks: dict[str, UplinkSettings]
    wifi: Wifi


class Wish(NamedTuple):
    """The command line."""

    target: str | None = None
    """Name of a configured target, else a host or a URL."""
    server: str | None = None
    """Where to send packets: a reflector, the page's server, or for dns the resolver."""
    interface: str | None = None
    provider: str | None = None
    agent: str | None = None
    """Who measures: the name that the reflector knows the key by."""
    key_file: str | None = None
    """Of the reflector."""
    settings: Sequence[str] = ()
    """The probe's own, each ``name=value``."""


async def measure(plan: Plan, progress: Progress = ignore) -> Record:
    """Run it and return its Record."""
    records: list[Record] = []
    clock = SystemClock()
    interface = plan.job.interface
    watch = Watch(interface, plan.wifi, clock, lambda *_: None) if "lead" in PROBES[plan.job.probe].needs else None
    runner = Runner(
        plan.agent,
        [plan.job],
        targets=plan.targets,
        resolvers=plan.resolvers,
        clock=clock,
        facts=Facts(),
        submit=lambda record, _: records.append(record),
        uplinks=Uplinks(plan.uplinks, ALWAYS_OPEN, clock=clock),
        watches={interface: watch} if watch else None,
        progress=progress,
    )
    watching = asyncio.create_task(watch.run(), name="watch") if watch else None
    try:
        await runner.once()
    finally:
        if watching is not None:
            watching.cancel()
    return records[0]


def plan(probe: str, settled: Config | None, wish: Wish) -> Plan:
    """What the command line asks for: a job of the configuration when that has one, else one made up here.

    :raises ConfigError: when something is missing or makes no sense.
    """
    targets = dict(settled.targets) if settled else {}
    resolvers = dict(settled.resolvers) if settled else {}
    row = _configured(probe, settled, wish.target if wish.target in targets else None)
    row |= dict(_setting(text) for text in wish.settings)
    if wish.provider is not None:
        row["provider"] = wish.provider
    needs = PROBES[probe].needs
    if "resolver" in needs and wish.server is not None:
        resolvers["server"] = _server(wish.server)
        row["resolver"] = "server"
    if wish.target in targets:
        row["target"] = wish.target
    elif ("host" in needs or "url" in needs) and (wish.target or wish.server or "target" not in row):
        if PROBES[probe].heavy and not (wish.target or wish.server or row.get("provider") == "ookla"):
            raise ConfigError(f"{probe} needs a server that is yours to load; give one: --server HOST[:PORT]")
        name, made = _target(probe, wish)
        targets[name] = made
        row["target"] = name
    if "resolver" in needs and "resolver" not in row:
        resolvers["system"] = NameServer(address=_system_resolver())
        row["resolver"] = "system"
    if wish.interface is not None:
        row["interface"] = wish.interface
    elif "interface" not in row:
        radio = next(iter(wireless.radios()), None) if needs & {"radio", "lead"} else None
        row["interface"] = (settled.interface if settled else None) or radio or _interface_of(row, targets, resolvers)
    _check_words(probe, row, targets, resolvers)
    wifi = settled.wifi if settled else Wifi()
    job = config.make_job(row, f"once {probe}", targets, resolvers)
    config.check_lead(job, wifi, f"once {probe}")
    agent = _agent(wish, settled, tokens=PROBES[probe].heavy and wish.key_file is not None)
    return Plan(agent, job, targets, resolvers, settled.uplinks if settled else {}, wifi)


def _check_words(probe: str, row: dict[str, Any], targets: dict[str, Target], resolvers: dict[str, NameServer]) -> None:
    """What a file would have to name stands on the command line here, and so do the fixes.

    :raises ConfigError: for a key or a resolver that is missing.
    """
    target = targets.get(str(row.get("target")))
    if "key" in PROBES[probe].needs and target is not None and target.key_file is None:
        raise ConfigError(f"{probe} checks a signature; give the reflector's key: --key-file FILE")
    if "resolver" in row and row["resolver"] not in resolvers:
        raise ConfigError(
            f"no resolver is called {row['resolver']!r}; give the one to ask by address: --server ADDRESS"
        )


def _agent(wish: Wish, settled: Config | None, *, tokens: bool) -> str:
    """:raises ConfigError: where a token must name an agent and none is known."""
    name = wish.agent or (settled.agent if settled else None)
    if name is None and tokens:
        raise ConfigError("--key-file is the key of one agent; say of which, as the reflector names it: --agent NAME")
    try:
        return msgspec.convert(name or "once", AgentId)
    except msgspec.ValidationError:
        raise ConfigError(f"--agent {name!r}: write 3 to 32 of a-z, 0-9 and -") from None


def _setting(text: str) -> tuple[str, Any]:
    """``packets=60`` or ``mode=working``: a TOML value, or a bare word."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {text!r}: write name=value")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _configured(probe: str, settled: Config | None, target: str | None) -> dict[str, Any]:
    """The table of the first such job, of `target` when one is named; else an empty one."""
    fitting = [job for job in (settled.jobs if settled else []) if job.probe == probe and target in (None, job.target)]
    row: dict[str, Any] = {"probe": probe, "period_s": _PERIOD_S}
    if fitting:
        job = fitting[0]
        named = {"target": job.target, "interface": job.interface, "provider": job.provider, "resolver": job.resolver}
        row |= {name: value for name, value in named.items() if value is not None}
        row |= {"timeout_s": job.timeout_s}
        row |= {name: getattr(job.settings, name) for name in job.settings.__struct_fields__}
    return row


def _target(probe: str, wish: Wish) -> tuple[str, Target]:
    """A target from a host, a host with a port or a URL, named after the host. A server that is not asked for names is
    a reflector."""
    needs = PROBES[probe].needs
    at_server = wish.server is not None and "resolver" not in needs
    text = wish.server if at_server else wish.target
    if text is None and probe == "latency":
        text = _gateway() or "127.0.0.1"
    text = text or _PAGE
    url = text if "://" in text else f"http://{text}/" if "url" in needs else None
    row: dict[str, Any] = {"role": "core" if at_server and "url" not in needs else "service", "key_file": wish.key_file}
    if url is not None:
        row |= {"url": url, "host": urlsplit(url).hostname, "port": _port_of(url)}
    else:
        row["host"], row["port"] = _host_and_port(text)
    row = {name: value for name, value in row.items() if value is not None}
    host = str(row.get("host", "target"))
    name = re.sub(r"[^a-z0-9._-]", "-", host.lower()).strip("-._")[:60] or "target"
    return name, config.make_target(row, f"target {text!r}", Path())


def _server(text: str) -> NameServer:
    host, port = _host_and_port(text)
    return config.make_name_server({"address": host} | ({"port": port} if port else {}), f"--server {text!r}")


def _host_and_port(text: str) -> tuple[str, int | None]:
    """``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address."""
    if text.count(":") > 1 and not text.startswith("["):
        try:
            return str(IPv6Address(text)), None
        except ValueError:
            raise ConfigError(f"{text!r}: write HOST, HOST:PORT or [IPv6]:PORT") from None
    parts = urlsplit(f"//{text}")
    return parts.hostname or text, _port_of(f"//{text}")


def _port_of(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        raise ConfigError(f"{url.removeprefix('//')!r}: a port is a number from 1 to 65535") from None


def _system_resolver() -> str:
    try:
        lines = _RESOLV_CONF.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1]
    raise ConfigError(f"{_RESOLV_CONF} names no resolver; give one with --server")


def _default_route() -> tuple[str, str] | None:
    """Interface and gateway of the IPv4 default route."""
    try:
        rows = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
    except OSError:
        return None
    for row in rows:
        if row[1] == "00000000" and row[7] == "00000000":
            return row[0], socket.inet_ntoa(bytes.fromhex(row[2])[::-1])
    return None


def _gateway() -> str | None:
    route = _default_route()
    return route[1] if route else None


def _interface_of(row: dict[str, Any], targets: dict[str, Target], resolvers: dict[str, NameServer]) -> str:
    """The one that the kernel would use: `lo` towards this machine, else that of the default route."""
    where = resolvers.get(row.get("resolver", ""))
    target = targets.get(row.get("target", NO_TARGET))
    host = where.address if where else target.name if target else None
    if host == "localhost" or (host or "").startswith("127.") or host == "::1":
        return "lo"
    route = _default_route()
    return route[0] if route else "lo"
