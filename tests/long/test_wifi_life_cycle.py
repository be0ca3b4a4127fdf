"""The life of a box at a venue: join with a shared key, join with PEAP, portal, roam, thrown off, nobody in the air.

Real programs on an emulated radio: Debian's kernel with mac80211_hwsim in QEMU, hostapd, wpa_supplicant, iw, and our
agent, which publishes to a broker behind the access points. It proves life cycle and plumbing; it cannot prove radio
numbers, which the emulator makes up, nor a driver's behaviour.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.long.conftest import Say
from tests.long.virtual_machine import Initramfs, Kernel, VirtualMachine, boot, tool

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

LIMIT_S = 300.0
"""Of the whole life, from power on to the last word."""
SILENCE_S = 150.0
VERSION = version("wanggan")
OWN, FIRST, SECOND, NEIGHBOUR = (f"02:00:00:00:{number:02}:00" for number in (1, 0, 2, 3))
PROGRAMS = ("hostapd", "hostapd_cli", "wpa_supplicant", "wpa_cli", "iw", "dnsmasq", "mosquitto")
MODULES = ("ccm", "ctr", "gcm", "cmac", "bridge", "mac80211_hwsim radios=4")
MAIN = """\
mkdir -p /run /etc /var /state
ln -s /run /var/run
ip link set lo up
echo '127.0.0.1 localhost' > /etc/hosts
echo 'root:x:0:0::/:/bin/sh' > /etc/passwd
echo 'root:x:0:' > /etc/group
python3 /wifi_guest.py
"""


@pytest.fixture(scope="module")
def initramfs(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initramfs")
    files = Initramfs(folder / "root")
    files.add_modules(kernel, *MODULES)
    files.add_python("agent", "contract", "msgspec", "aiomqtt", "paho", "pycares", "cffi", "_cffi_backend", "tzdata")
    files.write("/packages/wanggan.dist-info/METADATA", f"Metadata-Version: 2.1\nName: wanggan\nVersion: {VERSION}\n")
    for name in PROGRAMS:
        files.add(Path(tool(name)), f"/bin/{name}")
    # MD4, of which PEAP's inner method is made, is in OpenSSL's legacy provider.
    files.add(next(Path("/usr/lib").glob("*/ossl-modules/legacy.so")))
    authority = trustme.CA()
    certificate = authority.issue_cert("10.9.0.1", "radius.test")
    files.write("/certs/ca.pem", authority.cert_pem.bytes().decode())
    files.write("/certs/server.pem", "".join(blob.bytes().decode() for blob in certificate.cert_chain_pems))
    files.write("/certs/server.key", certificate.private_key_pem.bytes().decode(), mode=0o600)
    files.write("/certs/portal.key", "the portal's key of some length\n", mode=0o600)
    files.add(Path(__file__).with_name("wifi_guest.py"), "/wifi_guest.py")
    return files.pack(folder / "initramfs.cpio", MAIN)


class Story:
    """What the guest has told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    async def hear(self, machine: VirtualMachine, say: Say) -> None:
        """Until its end."""
        began_s = time.monotonic()
        while "end" not in [word for word, _ in self.told]:
            line = await machine.line(SILENCE_S)
            if not line.startswith("@ "):
                continue
            _, word, what = line.split(" ", 2)
            self.told.append((word, json.loads(what)))
            say(f"{time.monotonic() - began_s:6.1f} s  {word}")
            assert word not in ("error", "stuck"), json.dumps(json.loads(what), indent=1).replace("\\n", "\n")

    def all(self, word: str) -> list[Any]:
        return [what for name, what in self.told if name == word]

    def one(self, word: str) -> Any:
        (what,) = self.all(word)
        return what


STAGES = ("scan_ms", "auth_ms", "assoc_ms", "eap_ms", "handshake_ms", "dhcp_ms", "first_dns_ms", "first_byte_ms")


def check_join(told: dict[str, Any], *, eap: bool) -> float:
    """Every stage took time, and together they took the time that passed; the share of it that they explain."""
    record = told["record"]
    assert record["outcome"] == "ok", json.dumps(record)
    assert told["stored"], "published and acknowledged"
    values = record["values"]
    stages = {name: values[name] for name in STAGES}
    assert (stages.pop("eap_ms") is not None) == eap, values
    if eap:
        stages["eap_ms"] = values["eap_ms"]
    assert all(ms > 0 for ms in stages.values()), values
    share = sum(stages.values()) / values["online_ms"]
    assert 0.9 <= share <= 1.001, (share, values)
    assert values["online_ms"] / 1000 < told["round_s"]
    assert values["bssid"] == FIRST
    return float(share)


async def test_a_box_lives_at_a_venue(kernel: Kernel, initramfs: Path, say: Say) -> None:
    story = Story()
    began_s = time.monotonic()
    say("")
    async with boot(kernel, initramfs, memory_mib=1024, cpus=2) as machine:
        await story.hear(machine, say)
    took_s = time.monotonic() - began_s

    psk, peap, again = story.all("joined")
    shares = [check_join(psk, eap=False), check_join(peap, eap=True), check_join(again, eap=False)]
    published, kept = story.one("published"), story.one("kept")

    def records(probe: str) -> list[dict[str, Any]]:
        """Those with values: a run that the agent's end has cut short has none."""
        return [record for record in published if record["probe"] == probe and record["values"]]

    # The first three were led; that one which came by itself after the deauthentication was watched.
    assert [record["target"] for record in records("wifi_join")][:3] == ["check"] * 3
    (back,) = [record for record in records("wifi_join") if record["target"] == "-"]
    assert (back["outcome"], back["values"]["eap_ms"]) == ("ok", None), "a cached key"
    assert back["values"]["scan_ms"] > 0

    portals = [record for record in records("portal") if record["values"]["state"] == "portal"]
    assert portals
    for record in portals:
        assert (record["outcome"], record["reason"], record["values"]["http_status"]) == ("failed", "portal", 302)
        assert record["values"]["portal_host"] == "login.venue.test"

    (roam,) = [record for record in records("wifi_event") if record["values"]["kind"] == "roam"]
    assert (roam["values"]["from_bssid"], roam["values"]["to_bssid"]) == (FIRST, SECOND)
    assert roam["values"]["roam_ms"] > 0
    thrown = [record["values"] for record in records("wifi_event") if record["values"]["reason_code"] == 5]
    assert [(values["from_bssid"], values["local"]) for values in thrown] == [(SECOND, False)]

    links = records("wifi_link")
    assert any(record["outcome"] == "ok" and record["values"]["ssid"] == "venue" for record in links)
    assert any(
        record["probe"] == "wifi_event" and record["values"]["reason_code"] == 3 for record in [*published, *kept]
    )
    assert any(record["probe"] == "wifi_link" and record["reason"] == "not_associated" for record in kept)
    alone = story.one("alone")
    assert (alone["outcome"], alone["reason"], alone["values"]["failed_stage"]) == ("failed", "not_associated", "scan")

    assert NEIGHBOUR in story.one("air"), "a foreign address was there to be found"
    found = story.one("addresses")
    assert {FIRST, SECOND} <= set(found["/payloads"]), "the search finds what is there"
    foreign = {name: set(seen) - {OWN, FIRST, SECOND} for name, seen in found.items()}
    assert {name: seen for name, seen in foreign.items() if seen} == {}
    assert story.one("secrets") == []
    assert not [line for line in story.one("log") if "raised what it should not" in line or "Traceback" in line]

    shown = ", ".join(f"{share:.1%}" for share in shares)
    say(f"stages explain {shown} of the time to be online; roam {roam['values']['roam_ms']:.0f} ms; {took_s:.0f} s")
    assert took_s < LIMIT_S
