"""Every mistake in a configuration is one message that says where and what to do."""

from pathlib import Path

import pytest

from agent import config
from agent.config import ConfigError
from agent.probes.latency import LatencySettings

BAD = sorted((Path(__file__).parent / "data/bad").glob("*.toml"))
EXAMPLE = Path(__file__).parents[2] / "deploy/agent.example.toml"

GOOD = """
agent = "lib-01"
state = "state"
version = 7
interface = "wlan0"
[mqtt]
host = "127.0.0.1"
tls = false
[targets.core]
role = "core"
host = "core.example"
[targets.portal]
role = "service"
url = "https://portal.example:8443/index.html"
[resolvers.city]
address = "192.0.2.53"
[[jobs]]
probe = "latency"
target = "core"
period_s = 60
packets = 60
interval_ms = 50
[[jobs]]
probe = "dns"
target = "portal"
resolver = "city"
interface = "eth0"
period_s = 300.5
timeout_s = 4
[[jobs]]
probe = "agent"
period_s = 60
"""


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_mistake_is_named_with_its_path_and_its_fix(path: Path) -> None:
    expected = path.read_text().splitlines()[0].removeprefix("# ").replace("{folder}", str(path.parent))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value) == f"{path}: {expected}"


def test_sound_configuration(tmp_path: Path) -> None:
    settled = config.parse(GOOD, tmp_path)
    latency, dns, agent = settled.jobs
    assert settled.version == 7
    assert settled.state == str(tmp_path / "state")
    assert latency.settings == LatencySettings(packets=60, interval_ms=50.0)
    assert latency.interface == "wlan0"
    assert latency.timeout_s == 10.0
    assert (dns.interface, dns.period_s, dns.timeout_s) == ("eth0", 300.5, 4.0)
    assert settled.targets["portal"].name == "portal.example"
    assert [(job.probe, job.target, job.role, job.resolver) for job in settled.announced()] == [
        ("latency", "core", "core", None),
        ("dns", "portal", "service", "city"),
        ("agent", "-", None, None),
    ]
    assert agent.target == "-"


def test_same_probe_and_target_with_another_resolver_is_another_job(tmp_path: Path) -> None:
    more = """
    [resolvers.other]
    address = "192.0.2.54"
    [[jobs]]
    probe = "dns"
    target = "portal"
    resolver = "other"
    interface = "eth0"
    period_s = 300
    """
    assert len(config.parse(GOOD + more, tmp_path).jobs) == 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(mode)
    text = GOOD.replace("tls = false", 'tls = false\npassword_file = "password"')
    with pytest.raises(ConfigError) as caught:
        config.parse(text, tmp_path)
    assert str(caught.value) == f"mqtt.password_file: {secret} can be read by others; run: chmod 600 {secret}"
    secret.chmod(0o600)
    assert config.parse(text, tmp_path).mqtt.password_file == str(secret)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        config.load(tmp_path / "none.toml")


def test_named_file_that_is_not_there(tmp_path: Path) -> None:
    for name, fix in (
        ("password_file", "write the password into it"),
        ("ca_file", "the bundle of `wanggan fleet enrol`"),
    ):
        with pytest.raises(ConfigError, match=rf"^mqtt\.{name}: .*/none: No such file or directory; {fix}"):
            config.parse(GOOD.replace("tls = false", f'tls = true\n{name} = "none"'), tmp_path)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(path)


def test_example_is_the_default_venue_schedule(tmp_path: Path) -> None:
    for name in ("ca.pem", "agent.pem", "agent.key", "reflector.key", "portal.key"):
        (tmp_path / name).touch(mode=0o600)
    settled = config.parse(EXAMPLE.read_text(), tmp_path)
    rates = [60 / job.period_s for job in settled.jobs]
    assert 4 < sum(rates) < 7, "about 6 records a minute"
    roles = {settled.targets[job.target].role for job in settled.jobs if job.probe == "latency"}
    assert roles == {"core", "gateway", "internet"}
    assert sum(job.probe == "dns" for job in settled.jobs) == 4
    assert sum(job.probe == "web" for job in settled.jobs) == 2
