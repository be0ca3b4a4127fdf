"""The server's compose files: understood by Debian's docker-compose, closed, and with nothing left undeclared."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector import config as collector
from collector.mqtt import KEEPALIVE_S
from contract.messages import MAX_BYTES
from perception import config as perception
from reflector import config as reflector
from store.settings import InfluxSettings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "compose.yaml"
VICTORIA = DEPLOY / "compose.victoriametrics.yaml"
EXAMPLE = DEPLOY / "compose.example.env"


def compose(*files: Path, env: Path = EXAMPLE, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    named = [word for file in files for word in ("-f", str(file))]
    command = ["docker-compose", "--env-file", str(env), *named, "config", *words]
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=DEPLOY, env=clean)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose(BASE, VICTORIA).stdout)["services"]
    return found


@pytest.mark.parametrize("files", [(BASE,), (BASE, VICTORIA)], ids=["base", "with VictoriaMetrics"])
def test_docker_compose_understands_it(files: tuple[Path, ...]) -> None:
    said = compose(*files, words=("-q",))
    assert (said.returncode, said.stderr) == (0, "")


def test_every_variable_is_declared_and_none_is_missed_in_silence(tmp_path: Path) -> None:
    declared = set(re.findall(r"^([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    used: set[str] = set()
    for file in (BASE, VICTORIA):
        text = re.sub(r"#.*", "", file.read_text()).replace("$$", "")
        used |= set(re.findall(r"\$\{([A-Z_]+):\?\}", text))
        assert re.sub(r"\$\{[A-Z_]+:\?\}", "", text).count("$") == 0, "a variable that may be missing"
    assert used == declared
    lacking = tmp_path / "env"
    lacking.write_text(re.sub(r"^WANGGAN_SECRETS=.*$", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    said = compose(BASE, env=lacking, words=("-q",))
    assert said.returncode != 0
    assert "WANGGAN_SECRETS" in said.stderr


def test_grafana_gets_every_variable_that_its_provisioning_takes(services: dict[str, Any]) -> None:
    wanted: set[str] = set()
    for file in (ROOT / "grafana/provisioning").rglob("*.yaml"):
        wanted |= set(re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", file.read_text()))
    given = set(services["grafana"]["environment"])
    # The token comes from its file.
    assert "export WANGGAN_INFLUX_TOKEN" in services["grafana"]["entrypoint"][-1]
    assert wanted - given == {"WANGGAN_INFLUX_TOKEN"}


def test_nothing_but_tls_is_published(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    # What agents measure is plain by nature; the tests ask for signed tokens.
    published.pop("reflector")
    assert published == {
        "mosquitto": [{"published": 8883, "target": 8883}],
        "grafana": [{"published": 443, "target": 3000}],
    }
    assert services["grafana"]["environment"]["GF_SERVER_PROTOCOL"] == "https"
    mosquitto = (DEPLOY / "mosquitto/mosquitto.conf").read_text()
    assert re.findall(r"^listener .*$", mosquitto, re.MULTILINE) == ["listener 8883"]
    assert re.search(r"^require_certificate true$", mosquitto, re.MULTILINE)


def test_the_broker_s_memory_takes_a_hanging_collector_and_stays_below_its_container(services: dict[str, Any]) -> None:
    """200 agents, four batches of 64 KiB in flight each, sent twice before the broker lets go of the collector."""
    text = (DEPLOY / "mosquitto/mosquitto.conf").read_text()
    options = dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    memory = int(options["memory_limit"])
    assert 2 * (200 * 4 * MAX_BYTES) < memory < int(services["mosquitto"]["mem_limit"].removesuffix("m")) * 2**20 / 1.5
    assert int(options["max_keepalive"]) <= 2 * KEEPALIVE_S
    assert int(options["max_packet_size"]) >= MAX_BYTES + 4096
    assert int(options["max_queued_bytes"]) < memory


def test_services_have_no_more_than_they_need(services: dict[str, Any]) -> None:
    assert set(services) == {
        "mosquitto", "influxdb", "victoriametrics", "init", "collector", "perception", "reflector", "grafana",
    }  # fmt: skip
    for name, service in services.items():
        image, _, version = service["image"].rpartition(":")
        assert image, name
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", version), f"{name}: {service['image']} is not pinned"
        assert service["user"].partition(":")[0] not in ("", "0", "root"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("privileged") is None, name
        assert service["healthcheck"].get("test") or name == "init", name
        assert service.get("mem_limit") or name == "init", name
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|TOKEN|SECRET|CERT_KEY", variable)
            assert not secret or not value or str(value).startswith("/run/secrets/"), variable
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            assert mode == ["ro"] or not source.startswith("/"), f"{name}: writes to the host: {target}"


def test_our_own_files_are_where_they_are_mounted(services: dict[str, Any]) -> None:
    outside = ("/srv/wanggan/",)
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("/") and not source.startswith(outside):
                assert Path(source).exists(), source


def test_the_servers_take_their_configurations(tmp_path: Path) -> None:
    """As they are in the containers: secrets and certificates where compose puts them."""
    (tmp_path / "sites.toml").write_text((DEPLOY / "sites.example.toml").read_text())
    for name in ("ca.pem", "collector.pem", "collector.key"):
        (tmp_path / "collector").mkdir(exist_ok=True)
        _private(tmp_path / "collector" / name)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    _private(secrets / "influx.token")
    for name in ("page_password", "portal_key"):
        _private(secrets / name)
    (secrets / "reflector_keys").write_text(f'box-0007 = ["{"k" * 32}"]\n')
    (secrets / "reflector_keys").chmod(0o600)
    for name in ("collector", "collector.victoriametrics", "perception", "reflector"):
        text = (DEPLOY / f"compose/{name}.toml").read_text()
        text = text.replace("/run/secrets", str(secrets)).replace("/run/influx", str(secrets))
        (tmp_path / f"{name}.toml").write_text(text)
    found = collector.load(tmp_path / "collector.toml").store
    assert isinstance(found, InfluxSettings)
    assert found.url == "http://influxdb:8086"
    assert collector.load(tmp_path / "collector.victoriametrics.toml").store.server == "victoriametrics"  # type: ignore[union-attr]
    assert perception.load(tmp_path / "perception.toml").store == found
    assert reflector.load(tmp_path / "reflector.toml").portal_port == 80


def test_images_are_small_and_hold_no_secret() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert [name for _, name in stages] == ["source", "build-server", "build-reflector", "base", "reflector", "server"]
    # What is left in the end is the virtual environment alone.
    last = text.partition(" AS base\n")[2]
    assert "pip install" not in last
    assert json.dumps("/opt/wanggan/bin/wanggan") in last
    assert "USER 10001:10001" in last
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    packages = {init.parent.name for init in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages <= kept
    assert not kept & {"deploy", ".git", "tests"}


def _private(path: Path) -> None:
    path.write_text("a secret of sixteen or more characters\n")
    path.chmod(0o600)
