"""The installer's green light: on a box that is ready, and on one where each part in turn is not."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import bundle, commands, doctor
from tests.servers import free_port
from tests.wanggan.enrolled import JOBS, Fleet, serving

AGENT = "box-a"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    found = Fleet(tmp_path_factory.mktemp("fleet"), AGENT)
    with serving(found):
        yield found


@pytest.fixture
def box(fleet: Fleet, tmp_path: Path) -> Path:
    """The installed configuration."""
    bundle.install(fleet.bundle(AGENT), tmp_path / "etc")
    return tmp_path / "etc/agent.toml"


async def states(file: Path) -> dict[str, str]:
    """The worst state of each check."""
    found: dict[str, str] = {}
    for finding in await doctor.examine(file):
        assert finding.state != "failed" or finding.fix in doctor.FIXES
        if found.get(finding.check) != "failed":
            found[finding.check] = finding.state
    return found


async def test_a_box_that_is_ready(box: Path) -> None:
    found = await states(box)
    assert found.pop("clock") in ("ok", "unknown", "failed")  # this machine's own affair
    assert found == {
        "configuration": "ok", "permissions": "ok", "tls": "ok", "interface": "ok", "radio": "not needed",
        "broker": "ok", "portal": "not needed", "reflector": "not needed",
    }  # fmt: skip


async def test_nobody_listens(box: Path) -> None:
    box.write_text(box.read_text().replace("port = ", f"port = {free_port()} # "))
    assert (await states(box))["broker"] == "failed"


async def test_another_authority(box: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    bundle.install(Fleet(tmp_path / "other", AGENT).bundle(AGENT), tmp_path / "others")
    shutil.copy(tmp_path / "others/ca.pem", box.parent / "ca.pem")
    assert (await states(box))["tls"] == "failed"


async def test_a_certificate_that_the_broker_does_not_take(box: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    bundle.install(Fleet(tmp_path / "other", AGENT).bundle(AGENT), tmp_path / "others")
    for name in ("agent.pem", "agent.key"):
        shutil.copy(tmp_path / f"others/{name}", box.parent / name)
    found = await states(box)
    assert (found["broker"], found["tls"]) == ("ok", "failed")


async def test_the_running_agent_stays(fleet: Fleet, box: Path) -> None:
    async with fleet.client(AGENT) as agent, fleet.client("collector") as collector:
        await agent.subscribe(f"wanggan/1/down/{AGENT}/ack")
        await states(box)
        await collector.publish(f"wanggan/1/down/{AGENT}/ack", b"still there", qos=1)
        message = await anext(aiter(agent.messages))
        assert message.payload == b"still there"


@pytest.mark.parametrize(
    ("jobs", "check", "words"),
    [
        ('[[jobs]]\nprobe = "agent"\nperiod_s = 60\ninterface = "none0"\n', "interface", "none0: missing"),
        ('[[jobs]]\nprobe = "wifi_link"\nperiod_s = 60\n', "radio", "no wpa_supplicant there"),
        (
            '[targets.core]\nrole = "core"\nhost = "127.0.0.1"\nport = %d\n'
            '[[jobs]]\nprobe = "latency"\ntarget = "core"\nperiod_s = 60\npackets = 3\n',
            "reflector",
            "core: ",
        ),
    ],
)
async def test_what_is_wrong_is_told(box: Path, jobs: str, check: str, words: str) -> None:
    box.write_text(box.read_text().replace(JOBS, jobs % free_port() if "%d" in jobs else jobs))
    (found,) = [one for one in await doctor.examine(box) if one.check == check]
    assert (found.state, found.fix) == ("failed", check)
    assert words in found.found


async def test_a_state_folder_that_is_none(box: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = box.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("state")]
    box.write_text(text.replace(line, f'state = "{tmp_path}/file"'))
    assert (await states(box))["permissions"] == "failed"


def test_the_command_and_its_languages(
    box: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box.write_text(box.read_text().replace('probe = "agent"', 'probe = "agnet"'))
    assert commands.main(["doctor", "--config", str(box), "--json"]) == 2
    ((found),) = json.loads(capsys.readouterr().out)
    assert (found["check"], found["state"]) == ("configuration", "failed")
    assert "did you mean agent?" in found["found"]
    monkeypatch.setitem(os.environ, "LC_ALL", "zh_CN.UTF-8")
    assert commands.main(["doctor", "--config", str(box)]) == 2
    assert "重新安装入网包" in capsys.readouterr().out
    assert commands.main(["doctor", "--config", str(box), "--lang", "en"]) == 2
    assert "take the bundle again" in capsys.readouterr().out


def test_every_text_is_there_in_both_languages() -> None:
    for texts in (doctor.NAMES, doctor.STATES, doctor.FIXES):
        assert all(en and zh for en, zh in texts.values())
