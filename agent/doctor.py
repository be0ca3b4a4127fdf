"""`wanggan agent doctor`: the installer's green light. Each check says what it found and what to do about it.

It disturbs nothing: it never connects as the agent (that would throw the running one off), and joins no network.
"""

import asyncio
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

from agent import certificate, config, icmp, once
from agent.config import Config, ConfigError, Mqtt
from agent.publisher import tls
from agent.sockets import has_address, link
from agent.timekeeper import default_sources
from contract.fields import CERT_ALARM_DAYS
from contract.record import Record
from contract.values import Portal

CONNECT_S: Final = 10.0
REFUSAL_S: Final = 1.5
"""With TLS 1.3 a broker refuses a certificate only after the handshake; it has this long to say so."""

Language = Literal["en", "zh"]
State = Literal["ok", "failed", "unknown", "not needed"]

NAMES: Final[dict[str, tuple[str, str]]] = {
    "configuration": ("configuration", "配置"),
    "permissions": ("permissions", "权限"),
    "clock": ("clock", "时钟"),
    "interface": ("interface", "接口"),
    "radio": ("radio owner", "无线管理"),
    "broker": ("broker", "消息代理"),
    "tls": ("TLS", "TLS"),
    "portal": ("portal", "认证门户"),
    "reflector": ("reflector", "反射端"),
}
STATES: Final[dict[State, tuple[str, str]]] = {
    "ok": ("ok", "正常"),
    "failed": ("FAILED", "失败"),
    "unknown": ("unknown", "未知"),
    "not needed": ("not needed", "不需要"),
}
FIXES: Final[dict[str, tuple[str, str]]] = {
    "configuration": (
        "correct the file, or take the bundle again: wanggan agent install BUNDLE",
        "改正该文件，或重新安装入网包：wanggan agent install BUNDLE",
    ),
    "state": (
        "give the folder to the service's user: chown wanggan: FOLDER (run this as that user, or as root)",
        "把该目录交给服务用户：chown wanggan: 目录（请以该用户或 root 运行本命令）",
    ),
    "ping": (
        "allow pings without privilege: sysctl -w net.ipv4.ping_group_range='0 2147483647'",
        "允许无特权 ping：sysctl -w net.ipv4.ping_group_range='0 2147483647'",
    ),
    "clock": (
        "let a time service run: systemctl enable --now systemd-timesyncd, and name a reachable NTP server",
        "启用时间服务：systemctl enable --now systemd-timesyncd，并配置可达的 NTP 服务器",
    ),
    "certificate": (
        "enrol this agent again on the server: wanggan fleet enrol AGENT --renew",
        "在服务器上重新入网：wanggan fleet enrol AGENT --renew",
    ),
    "interface": (
        "plug it in, or bring it up with an address (ip link, ip address); or correct `interface`",
        "接好网线或启用接口并获取地址（ip link、ip address）；或改正 `interface`",
    ),
    "radio": (
        "let wpa_supplicant run on it with a control socket (ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev)",
        "让 wpa_supplicant 管理该接口并开放控制套接字（ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev）",
    ),
    "broker": (
        "check mqtt.host and mqtt.port, the route, and a firewall on the way (TCP 8883)",
        "检查 mqtt.host、mqtt.port、路由以及途中的防火墙（TCP 8883）",
    ),
    "tls": (
        "the broker's CA and ours must be one, and our certificate not revoked; enrol again if it is",
        "消息代理与本机须使用同一 CA，且证书未被吊销；如已吊销请重新入网",
    ),
    "portal": (
        "have the box's MAC address allow-listed by the portal, or log in once; see `portal_allowed_until`",
        "请门户放行本机 MAC 地址，或登录一次；参见 `portal_allowed_until`",
    ),
    "reflector": (
        "check the core target's host, port and key, and UDP and TCP 8862 on the way",
        "检查 core 目标的主机、端口和密钥，以及途中的 UDP 和 TCP 8862",
    ),
}


class Finding(NamedTuple):
    """What one check has found."""

    check: str
    """A key of :data:`NAMES`."""
    state: State
    found: str
    """In short; technical words, not translated."""
    fix: str | None = None
    """A key of :data:`FIXES`; None where nothing is to be done."""

    def line(self, language: Language) -> str:
        """For people."""
        word = 0 if language == "en" else 1
        text = f"{NAMES[self.check][word]}: {STATES[self.state][word]}: {self.found}"
        return text if self.fix is None else f"{text}\n    -> {FIXES[self.fix][word]}"

    def as_json(self, language: Language) -> dict[str, str | None]:
        """For `--json`."""
        fix = None if self.fix is None else FIXES[self.fix][0 if language == "en" else 1]
        return {"check": self.check, "state": self.state, "found": self.found, "fix": fix}


async def examine(path: Path) -> list[Finding]:
    """Every check, one behind the other: what the first ones say explains the later ones."""
    try:
        settled = config.load(path)
    except ConfigError as error:
        return [Finding("configuration", "failed", str(error), "configuration")]
    findings = [Finding("configuration", "ok", f"{path}: {settled.agent}, {len(settled.jobs)} jobs")]
    checks: list[Callable[[Config], Awaitable[list[Finding]]]] = [
        _permissions, _clock, _interfaces, _radios, _broker, _portal, _reflector,
    ]  # fmt: skip
    for check in checks:
        findings += await check(settled)
    return findings


async def _permissions(settled: Config) -> list[Finding]:
    try:
        os.makedirs(settled.state, exist_ok=True)  # noqa: PTH103 - nothing else runs here
        with tempfile.TemporaryFile(dir=settled.state):
            pass
    except OSError as error:
        return [Finding("permissions", "failed", f"{settled.state}: {error.strerror}", "state")]
    if not icmp.permitted():
        return [Finding("permissions", "failed", "ICMP echo requests are not permitted", "ping")]
    return [Finding("permissions", "ok", f"{settled.state} can be written, pings can be sent")]


async def _clock(settled: Config) -> list[Finding]:
    now = datetime.now(UTC)
    told = [await source() for source in default_sources()]
    found = [
        Finding("clock", "unknown", f"{now:%Y-%m-%d %H:%M:%S} UTC, no time service tells; the collector's time helps")
    ]
    if True in told:
        found = [Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC, synchronised")]
    elif False in told:
        found = [Finding("clock", "failed", f"{now:%Y-%m-%d %H:%M:%S} UTC, not synchronised", "clock")]
    if settled.mqtt.cert_file is not None:
        found.append(_certificate(Path(settled.mqtt.cert_file), now))
    return found


def _certificate(file: Path, now: datetime) -> Finding:
    expires_at = certificate.expires_at(file)
    if expires_at is None:
        return Finding("tls", "failed", f"{file}: no certificate", "certificate")
    days = (expires_at - now).days
    near = days < CERT_ALARM_DAYS
    said = f"our certificate is good until {expires_at:%Y-%m-%d} ({days} days)"
    return Finding("tls", "failed" if near else "ok", said, "certificate" if near else None)


async def _interfaces(settled: Config) -> list[Finding]:
    return [_interface(name) for name in sorted({job.interface for job in settled.jobs})]


def _interface(name: str) -> Finding:
    state = link(name)
    if state != "up":
        return Finding("interface", "failed", f"{name}: {state}", "interface")
    if not has_address(name):
        return Finding("interface", "failed", f"{name}: up, but has no address", "interface")
    return Finding("interface", "ok", f"{name}: up")


async def _radios(settled: Config) -> list[Finding]:
    if not settled.watched():
        return [Finding("radio", "not needed", "no Wi-Fi jobs")]
    return [_radio(settled, name) for name in settled.watched()]


def _radio(settled: Config, name: str) -> Finding:
    control = Path(settled.wifi.control) / name
    if not control.is_socket():
        return Finding("radio", "failed", f"{control}: no wpa_supplicant there", "radio")
    if not os.access(control, os.W_OK):
        return Finding("radio", "failed", f"{control}: not permitted", "radio")
    return Finding("radio", "ok", f"{name}: wpa_supplicant, {settled.wifi.manager}")


async def _broker(settled: Config) -> list[Finding]:
    mqtt = settled.mqtt
    where = f"{mqtt.host}:{mqtt.port}"
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(mqtt.host, mqtt.port)
        writer.close()
    except TimeoutError:
        return [Finding("broker", "failed", f"{where}: no answer within {CONNECT_S:g} s", "broker")]
    except OSError as error:
        return [Finding("broker", "failed", f"{where}: {error.strerror or error}", "broker")]
    found = Finding("broker", "ok", f"{where}: reached")
    return [found, await _handshake(mqtt)] if mqtt.tls else [found]


async def _handshake(mqtt: Mqtt) -> Finding:
    """TLS up to where a broker would have refused our certificate; no MQTT."""
    writer = None
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(mqtt.host, mqtt.port, ssl=tls(mqtt))
            version = writer.get_extra_info("ssl_object").version()
            try:
                async with asyncio.timeout(REFUSAL_S):
                    if not await reader.read(1):
                        return Finding("tls", "failed", "the broker closes the connection", "tls")
            except TimeoutError:
                pass  # it waits for us to speak: it has taken our certificate
        return Finding("tls", "ok", f"{version}, both sides verified")
    except TimeoutError:
        return Finding("tls", "failed", f"no handshake within {CONNECT_S:g} s", "tls")
    except ssl.SSLCertVerificationError as error:
        return Finding("tls", "failed", f"the broker's certificate: {error.verify_message}", "tls")
    except OSError as error:
        return Finding("tls", "failed", str(error.strerror or error), "tls")
    finally:
        if writer is not None:
            writer.close()


async def _portal(settled: Config) -> list[Finding]:
    record = await _measured(settled, "portal")
    if record is None:
        return [Finding("portal", "not needed", "no portal job")]
    state = record.values.state if isinstance(record.values, Portal) else None
    if state == "open":
        return [Finding("portal", "ok", "open: the internet is reached without a login")]
    return [Finding("portal", "failed", state or _said(record), "portal")]


async def _reflector(settled: Config) -> list[Finding]:
    """One latency test to each core target."""
    names = {job.target for job in settled.jobs if job.probe == "latency"}
    core = sorted(name for name in names if name in settled.targets and settled.targets[name].role == "core")
    if not core:
        return [Finding("reflector", "not needed", "no latency job to a core target")]
    found = []
    for name in core:
        record = await _measured(settled, "latency", name)
        assert record is not None  # its job is there
        fallen = "method_fallback" in record.flags
        good = record.outcome == "ok" and not fallen
        said = "answers pings, but not the reflector's port" if fallen else "reached" if good else _said(record)
        found.append(Finding("reflector", "ok" if good else "failed", f"{name}: {said}", None if good else "reflector"))
    return found


async def _measured(settled: Config, probe: str, target: str | None = None) -> Record | None:
    """One run of a configured job; None where there is none."""
    jobs = [job for job in settled.jobs if job.probe == probe and target in (None, job.target)]
    if not jobs:
        return None
    return await once.measure(once.plan(probe, settled, once.Wish(target=target or jobs[0].target)))


def _said(record: Record) -> str:
    detail = f" ({record.detail})" if record.detail else ""
    return f"{record.outcome}: {record.reason}{detail}"
