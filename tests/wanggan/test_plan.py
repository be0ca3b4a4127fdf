"""The generated configuration is one that the agent takes, and measures what was promised and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

import collector.config
import store.register
from agent.config import Config, parse
from agent.probes import PROBES
from wanggan.network import Gateway
from wanggan.plan import (
    AGENT,
    HEAVY_PERIOD_S,
    PERIOD_S,
    PUBLIC_SITES,
    Plan,
    agent_configuration,
    collector_configuration,
    site_register,
)

ALONE = Plan(reflector_port=8862, http_port=8863, gateway=None, resolvers=[], public=[])
FULL = Plan(8862, 8863, Gateway("eth0", "192.0.2.1"), ["127.0.0.53", "2001:db8::53"], list(PUBLIC_SITES), "wlan0")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / 'odd "name" 密.password'
    file.write_text("x\n")
    file.chmod(0o600)
    return file


def configuration(plan: Plan, secret: Path) -> Config:
    return parse(agent_configuration(plan, 1884, str(secret.parent), str(secret), str(secret)), secret.parent)


def test_alone_it_measures_only_this_machine(secret: Path) -> None:
    config = configuration(ALONE, secret)
    assert {job.probe for job in config.jobs} == {"agent", "latency", "web", "throughput", "video"}
    assert {job.interface for job in config.jobs} == {"lo"}
    assert {target.name for target in config.targets.values()} == {"127.0.0.1"}
    assert config.resolvers == {}


def test_everything_that_is_there_is_measured(secret: Path) -> None:
    config = configuration(FULL, secret)
    jobs = {(job.probe, job.target, job.resolver, job.interface) for job in config.jobs}
    assert jobs == {
        ("agent", "-", None, "lo"),
        ("latency", "reflector", None, "lo"),
        ("web", "reflector", None, "lo"),
        ("throughput", "reflector", None, "lo"),
        ("video", "reflector", None, "lo"),
        ("latency", "gateway", None, "eth0"),
        ("wifi_link", "-", None, "wlan0"),
        ("latency", "gov-cn", None, "eth0"),
        ("latency", "baidu", None, "eth0"),
        ("dns", "gov-cn", "system-1", "lo"),
        ("dns", "gov-cn", "system-2", "eth0"),
    }
    heavy = {job for job in config.jobs if PROBES[job.probe].heavy}
    assert {job.period_s for job in config.jobs if job not in heavy} == {PERIOD_S}
    assert {job.period_s for job in heavy} == {HEAVY_PERIOD_S}
    assert all(job.timeout_s <= PERIOD_S for job in config.jobs if job not in heavy)


def test_every_measured_interface_is_registered() -> None:
    assert ALONE.interfaces == ["lo"]
    assert FULL.interfaces == ["lo", "eth0", "wlan0"]
    assert FULL._replace(radio="eth0").interfaces == ["lo", "eth0"]


def test_what_it_says_is_what_it_does() -> None:
    assert FULL.describe() == [
        "the reflector on this machine",
        "the gateway 192.0.2.1 (eth0)",
        "the Wi-Fi link of wlan0",
        "the resolver 127.0.0.53",
        "the resolver 2001:db8::53",
        "www.gov.cn",
        "www.baidu.com",
    ]


@pytest.mark.parametrize("plan", [ALONE, FULL])
def test_the_collector_takes_its_files_and_knows_every_interface(plan: Plan, secret: Path) -> None:
    folder = secret.parent
    (folder / "sites.toml").write_text(site_register(plan))
    text = collector_configuration(1884, 8080, str(folder), str(secret), str(folder / "sites.toml"))
    (folder / "collector.toml").write_text(text)
    settings = collector.config.load(folder / "collector.toml")
    assert (settings.web.listen, settings.web.port, settings.mqtt.tls) == ("127.0.0.1", 8080, False)
    register = store.register.Register(settings.sites)
    sites = register.sites(datetime.now(UTC))
    assert {(site.agent, site.interface) for site in sites} == {(AGENT, name) for name in plan.interfaces}
