"""The ookla provider: its parser, and the real speedtest-cli against a Mini server on a shaped link."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from agent import ookla
from agent.clock import SystemClock
from agent.command import Done
from agent.facts import Facts
from agent.ookla import parse
from agent.probe import Context, Failure, Target
from agent.probes.throughput import ThroughputSettings
from contract.values import Throughput
from tests.agent.lab import when
from tests.network.features import needs
from tests.network.namespaces import Namespace, Program, cable, ip
from tests.network.shape import shape, truth_mbps

pytestmark = pytest.mark.laboratory

MINI = str(Path(__file__).with_name("mini_server.py"))
WHOLE = {
    "download": 95042077.27802806, "upload": 93599498.70282727, "ping": 0.748, "server": {"id": 0},
    "timestamp": "2026-11-25T23:22:00.262622Z", "bytes_sent": 47030272, "bytes_received": 47796480, "share": None,
}  # fmt: skip
"""As speedtest-cli 2.1.3 printed it, places left out."""


def test_rates_and_bytes() -> None:
    values = Throughput()
    assert parse(Done(0, json.dumps(WHOLE), ""), values) == pytest.approx(4.02, abs=0.01)
    assert (values.down_mbps, values.up_mbps) == (pytest.approx(95.042, abs=0.001), pytest.approx(93.599, abs=0.001))
    assert (values.down_bytes, values.up_bytes) == (47796480, 47030272)


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_direction_without_anything_is_null_and_the_other_is_kept(way: str) -> None:
    nothing = {"download": 0.0, "bytes_received": 0} if way == "down" else {"upload": 0, "bytes_sent": 32768}
    values = Throughput()
    with pytest.raises(Failure, match=f"timeout: {way}"):
        parse(Done(0, json.dumps(WHOLE | nothing), ""), values)
    assert [values.down_mbps is None, values.up_mbps is None] == [way == "down", way == "up"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Cannot retrieve speedtest configuration\nERROR: <urlopen error [Errno 111] Connection refused>", "refused"),
        ("ERROR: <urlopen error [Errno 99] Cannot assign requested address>", "unreachable"),
        ("ERROR: <urlopen error [Errno 101] Network is unreachable>", "unreachable"),
        ("ERROR: <urlopen error [Errno 104] Connection reset by peer>", "reset"),
        ("ERROR: <urlopen error timed out>", "timeout"),
        ("ERROR: The read operation timed out", "timeout"),
        ("ERROR: <urlopen error [Errno -2] Name or service not known>", "dns_failed"),
        ("ERROR: HTTP Error 403: Forbidden", "http_status"),
        ("ERROR: Failed to connect to http://10.77.0.2:81/", "http_status"),
        ("ERROR: Malformed speedtest.net configuration: not well-formed (invalid token): line 1, column 0", "portal"),
        ("<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>", "cert_invalid"),
        ("<urlopen error [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)>", "tls_failed"),
        ("Traceback ...\nKeyError: 'server-config'", "internal"),
        ("", "internal"),
    ],
)
def test_its_errors(error: str, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(Done(1, "", error), Throughput())
    assert caught.value.reason == reason


def test_output_that_is_none() -> None:
    whole = json.dumps(WHOLE)
    for text in [*(whole[:cut] for cut in range(0, len(whole) - 1, 11)), "null", "[]", "{}", '{"download": "x"}', "\0"]:
        with pytest.raises(Failure) as caught:
            parse(Done(0, text, ""), Throughput())
        assert caught.value.reason == "internal"


async def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speedtest", None)
    context = Context(
        agent="lib-01",
        interface="lo",
        clock=SystemClock(),
        facts=Facts(),
        timeout_s=60.0,
        target=Target(role="internet", url="http://127.0.0.1/"),
    )
    with pytest.raises(Failure) as caught:
        await ookla.measure(ThroughputSettings(), context)
    assert caught.value.reason == "tool_missing"


# The real thing

inside = needs("tbf", "cubic")


@contextmanager
def mini(seconds: int = 3, certificate: str | None = None) -> Iterator[tuple[Namespace, Namespace, Program]]:
    """A cable to 10.77.0.2, which is the Mini server and www.speedtest.net."""
    with cable() as (here, there):
        words = [certificate] if certificate else []
        server = there.start(sys.executable, MINI, "10.77.0.2", str(seconds), *words, ready="ready")
        here.files(hosts="127.0.0.1 localhost\n10.77.0.2 www.speedtest.net mini.test\n")
        for space in (here, there):
            space.pin("cubic")
        yield here, there, server


def job(folder: Path, target: str) -> str:
    path = folder / "agent.toml"
    path.write_text(
        'agent = "lib-01"\nstate = "state"\ninterface = "v0"\n[mqtt]\nhost = "127.0.0.1"\ntls = false\n'
        f'[targets.web]\nrole = "internet"\n{target}\n'
        '[[jobs]]\nprobe = "throughput"\nprovider = "ookla"\ntarget = "web"\nperiod_s = 3600\n'
    )
    return str(path)


def measure(space: Namespace, folder: Path, target: str = 'url = "http://mini.test/"') -> dict[str, Any]:
    return space.once("throughput", "--config", job(folder, target))


@inside
def test_a_mini_server_against_the_shaped_truth(tmp_path: Path) -> None:
    with mini() as (here, there, _):
        shape(here, rate_mbps=20)
        shape(there, rate_mbps=50)
        end = measure(here, tmp_path)
    assert (end["outcome"], end["provider"], end["target"]) == ("ok", "ookla", "web"), end
    assert end["values"]["down_mbps"] == pytest.approx(truth_mbps(50), rel=0.1)
    assert end["values"]["up_mbps"] == pytest.approx(truth_mbps(20), rel=0.25), "it counts what its own kernel took"


@inside
def test_a_public_server_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("www.speedtest.net", "mini.test")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with mini(1, str(tmp_path / "server.pem")) as (here, there, _):
        shape(here, rate_mbps=50)
        shape(there, rate_mbps=50)
        target = 'host = "www.speedtest.net"'
        distrusted = measure(here, tmp_path, target)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        end = measure(here, tmp_path, target)
    assert (distrusted["outcome"], distrusted["reason"]) == ("failed", "cert_invalid")
    assert end["outcome"] == "ok", end
    assert end["values"]["down_mbps"] == pytest.approx(truth_mbps(50), rel=0.25)


@inside
def test_nobody_there(tmp_path: Path) -> None:
    with mini() as (here, _, _):
        refused = measure(here, tmp_path, 'url = "http://mini.test:81/"')
        silent = measure(here, tmp_path, 'url = "http://10.77.0.99/"')
        nameless = measure(here, tmp_path, 'url = "http://nobody.test/"')
    assert refused["reason"] == "refused"
    assert silent["reason"] in ("timeout", "unreachable")
    assert nameless["reason"] in ("dns_failed", "nxdomain")


@inside
def test_server_that_goes_away_in_the_middle_is_no_slow_line(tmp_path: Path) -> None:
    """speedtest-cli itself says nothing of it: its upload is 0."""
    with mini() as (here, there, server):
        shape(there, rate_mbps=50)
        before = there.counters("v0").tx_bytes
        with when(lambda: there.counters("v0").tx_bytes > before + 5_000_000, server.stop):
            end = measure(here, tmp_path)
    assert (end["outcome"], end["reason"], end["values"]["up_mbps"]) == ("failed", "timeout", None), end
    assert end["detail"] == "up: nothing came through"


@inside
def test_server_that_stalls_is_ended_and_nothing_is_left(tmp_path: Path) -> None:
    with mini() as (here, there, _):
        shape(there, rate_mbps=50)
        before = there.counters("v0").tx_bytes
        with when(lambda: there.counters("v0").tx_bytes > before + 5_000_000, lambda: there.ip("addr", "flush", "v0")):
            end = measure(here, tmp_path, 'url = "http://mini.test/"')
        left = ip("netns", "pids", here.name).split()
    assert (end["outcome"], end["values"]["up_mbps"], left) == ("failed", None, []), end
