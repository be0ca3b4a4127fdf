"""Runs inside the virtual machine of test_wifi_life_cycle: a venue's air, and a box with our agent in it.

Four emulated radios. Three are the venue's, in a network namespace of their own behind one bridge: two access points
of one network, and a neighbour's. There are a DHCP server, a resolver, a broker, somebody who acknowledges, and a web
server that is our reflector's portal check, or a captive portal. The fourth radio is the box's.

Every line that starts with ``@`` is for the test: a word, and JSON.
"""

import asyncio
import ctypes
import http.server
import json
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiomqtt
import msgspec

from agent import config, main, once
from contract import portal_check, topics
from contract.codec import decode_batch, encode
from contract.messages import Ack, Status
from contract.topics import agent_of

AGENT = "venue-001"
STATE = Path("/state")
PAYLOADS = Path("/payloads")
LOG = Path("/agent.log")
KEY = Path("/certs/portal.key").read_text().strip().encode()
OWN = "02:00:00:00:01:00"
NETWORK = "10.9.0"
CLONE_NEWNET = 0x40000000
PORTAL = "http://login.venue.test/auth?usermac=02-00-00-00-01-00&apmac=02:00:00:00:03:00&token=s3cr3t-token"

SUPPLICANT = """
ctrl_interface=/run/wpa_supplicant
network={
  ssid="test-lib"
  psk="a word for guests"
  scan_freq=2437 2462
}
network={
  ssid="venue"
  key_mgmt=WPA-EAP
  eap=PEAP
  identity="visitor"
  password="a-secret-word"
  phase2="auth=MSCHAPV2"
  ca_cert="/certs/ca.pem"
  scan_freq=2437 2462
}
"""
ACCESS_POINT = """
interface={interface}
driver=nl80211
ctrl_interface=/run/hostapd
hw_mode=g
channel={channel}
"""
PSK = "bridge=br0\nssid=test-lib\nwpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase=a word for guests\n"
EAP = """
bridge=br0
ssid=venue
wpa=2
wpa_key_mgmt=WPA-EAP
rsn_pairwise=CCMP
ieee8021x=1
eap_server=1
eap_user_file=/eap_users
ca_cert=/certs/ca.pem
server_cert=/certs/server.pem
private_key=/certs/server.key
"""
USERS = '* PEAP\n"visitor" MSCHAPV2 "a-secret-word" [2]\n'
BROKER = """
listener 8883 10.9.0.1
certfile /certs/server.pem
keyfile /certs/server.key
allow_anonymous true
user root
"""
LEASE = """#!/bin/sh
case $1 in
  deconfig) ip addr flush dev $interface; ip link set $interface up;;
  bound|renew)
    ip addr flush dev $interface
    ip addr add $ip/24 dev $interface
    ip route add default via $router dev $interface
    echo "nameserver $dns" > /etc/resolv.conf;;
esac
"""
TOP = """
agent = "venue-001"
state = "/state"
version = 1
interface = "wlan1"
[mqtt]
host = "10.9.0.1"
ca_file = "/certs/ca.pem"
[wifi]
manager = "wpa"
[targets.check]
role = "core"
host = "check.test"
key_file = "/certs/portal.key"
[targets.gateway]
role = "gateway"
host = "10.9.0.1"
"""
JOIN = '[[jobs]]\nprobe = "wifi_join"\ntarget = "check"\nperiod_s = 3600\n'
JOIN_AGAIN = JOIN + "fresh = false\n"
LIVE = """
[[jobs]]
probe = "wifi_link"
period_s = 2
[[jobs]]
probe = "wifi_scan"
period_s = 5
[[jobs]]
probe = "portal"
target = "check"
internet_expected = false
period_s = 3
[[jobs]]
probe = "latency"
target = "gateway"
packets = 5
period_s = 5
[[jobs]]
probe = "agent"
period_s = 5
"""


def say(word: str, what: Any = None) -> None:
    """One line for the test; returns when the serial port has sent it."""
    os.write(1, f"@ {word} {json.dumps(what)}\n".encode())
    termios.tcdrain(1)


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


def start(*words: str) -> "subprocess.Popen[bytes]":
    """A program whose output nobody reads but in need: the last lines of `/NAME.log`."""
    log = Path(f"/{words[0]}.log").open("ab")  # noqa: SIM115
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_for(happened: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    end_s = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end_s:
            tails = {path.name: path.read_text(errors="replace")[-1500:] for path in Path("/").glob("*.log")}
            say("stuck", {"waiting for": what, "logs": tails})
            sys.exit(1)
        time.sleep(0.05)


# The venue


class Web(http.server.BaseHTTPRequestHandler):
    """Our reflector's portal check, or a captive portal in its place."""

    portal = False

    def do_GET(self) -> None:
        nonce = parse_qs(urlsplit(self.path).query).get("n", [""])[0]
        if self.portal:
            self.send_response(302)
            self.send_header("Location", PORTAL)
        else:
            self.send_response(204)
            signature = portal_check.sign(KEY, nonce, self.headers["Host"].partition(":")[0])
            self.send_header(portal_check.SIGNATURE_HEADER, signature)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


async def collect() -> None:
    """Keep every payload, and answer `stored`."""
    tls = aiomqtt.TLSParameters(ca_certs="/certs/ca.pem")
    async with aiomqtt.Client(f"{NETWORK}.1", 8883, protocol=aiomqtt.ProtocolVersion.V5, tls_params=tls) as client:
        await client.subscribe(topics.up("+", "#"), qos=1)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            with PAYLOADS.open("ab") as file:
                file.write(message.payload + b"\n")
            topic = str(message.topic)
            if topic.endswith("/status"):
                outbox, batch, stored = msgspec.json.decode(message.payload, type=Status).outbox, None, 0
            else:
                found = decode_batch(message.payload).batch
                outbox, batch, stored = found.outbox, found.batch, len(found.records)
            ack = Ack(outbox=outbox, batch=batch, at=datetime.now(UTC), stored=stored)
            await client.publish(topics.down(agent_of(topic), "ack"), encode(ack))


def venue(orders: socket.socket) -> None:
    """The other process: everything behind the air. Obeys one word at a time."""
    ctypes.CDLL(None).unshare(CLONE_NEWNET)
    lines = orders.makefile("rw")
    lines.write("in\n")
    lines.flush()
    lines.readline()  # the radios have come
    for words in ("ip link set lo up", "brctl addbr br0", f"ip addr add {NETWORK}.1/24 dev br0", "ip link set br0 up"):
        run(*words.split())
    start("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
          "--user=root", "--interface=br0", "--no-ping", "--dhcp-authoritative", "--dhcp-leasefile=/leases",
          f"--dhcp-range={NETWORK}.50,{NETWORK}.60", f"--address=/check.test/{NETWORK}.1")  # fmt: skip
    start("mosquitto", "-c", "/mosquitto.conf")
    threading.Thread(target=http.server.ThreadingHTTPServer((f"{NETWORK}.1", 80), Web).serve_forever).start()
    wait_for(lambda: listens(8883), "the broker")
    threading.Thread(target=lambda: asyncio.run(collect())).start()
    points: dict[str, subprocess.Popen[bytes]] = {}

    def switch_on(interface: str, channel: int, rest: str) -> None:
        file = Path(f"/hostapd-{interface}.conf")
        file.write_text(ACCESS_POINT.format(interface=interface, channel=channel) + rest)
        points[interface] = start("hostapd", str(file))
        wait_for(lambda: Path(f"/run/hostapd/{interface}").exists(), f"the access point {interface}")
        status = ("hostapd_cli", "-i", interface, "status")
        wait_for(lambda: "state=ENABLED" in run(*status), f"the beacons of {interface}")

    def switch_off(*interfaces: str) -> None:
        for interface in interfaces:
            points[interface].terminate()
            points.pop(interface).wait()

    for line in lines:
        match line.strip():
            case "neighbour":
                switch_on("wlan3", 6, "ssid=neighbour\n")
            case "psk":
                switch_on("wlan0", 6, PSK)
            case "eap":
                switch_off("wlan0")
                switch_on("wlan0", 6, EAP)
            case "second":
                switch_on("wlan2", 11, EAP)
            case "portal":
                Web.portal = True
            case "deauth":
                run("hostapd_cli", "-i", "wlan2", "deauthenticate", OWN, "reason=5")
            case "off":
                switch_off("wlan0", "wlan2")
        lines.write("done\n")
        lines.flush()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((f"{NETWORK}.1", port)) == 0


class Venue:
    """The venue as the box's side sees it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            venue(theirs)
            os._exit(0)
        theirs.close()
        self._lines = ours.makefile("rw")
        self._lines.readline()
        for phy in ("phy0", "phy2", "phy3"):
            run("iw", "phy", phy, "set", "netns", str(pid))
        self("radios")

    def __call__(self, order: str) -> None:
        """Returns when it is done."""
        self._lines.write(order + "\n")
        self._lines.flush()
        if order != "radios" and self._lines.readline() != "done\n":
            wait_for(lambda: False, f"the venue to do {order}", 0)


# The box


def join(jobs: str) -> None:
    """One round of the agent, published and acknowledged."""
    began_s = time.monotonic()
    for record, stored in child(lambda: [[json.loads(encode(r)), s] for r, s in main.run_once(settled(jobs))]):
        say("joined", {"record": record, "stored": stored, "round_s": time.monotonic() - began_s})


def settled(jobs: str) -> config.Config:
    return config.parse(TOP + jobs, Path("/"))


def child(do: Callable[[], Any]) -> Any:
    """What a process of its own returns: every run of the agent begins anew, without reading its modules again."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as file:
            json.dump(do(), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        return json.load(file)


def live() -> int:
    """The agent at work, until SIGTERM."""
    pid = os.fork()
    if pid == 0:
        try:
            main.run(settled(LIVE))
        finally:
            os._exit(0)
    return pid


def published() -> list[dict[str, Any]]:
    """Every record that has arrived."""
    lines = PAYLOADS.read_bytes().splitlines() if PAYLOADS.exists() else []
    return [record for line in lines for record in json.loads(line).get("records", [])]


def kept() -> Iterable[dict[str, Any]]:
    """Every record that waits on the box's disk, alone or in a batch that was sent in vain."""
    with sqlite3.connect(STATE / "outbox.db") as db:
        for (content,) in db.execute("SELECT content FROM kept ORDER BY id"):
            found = json.loads(content)
            yield from found.get("records", [found])


def has(probe: str, **values: Any) -> bool:
    """Whether such a record has arrived."""
    return any(
        record["probe"] == probe and record["values"] and values.items() <= record["values"].items()
        for record in published()
    )


def status() -> dict[str, str]:
    lines = run("wpa_cli", "-i", "wlan1", "status").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


ADDRESS = re.compile(rb"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}([:-]?)[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4})(?![0-9A-Fa-f])")


def addresses(content: bytes) -> list[str]:
    """Hardware addresses in any spelling; of bare hex only those of these radios, for a number looks like one, too."""
    found = set()
    for match in ADDRESS.finditer(content):
        digits = re.sub(rb"[:-]", b"", match.group()).decode().lower()
        if match[1] or digits.startswith("02000000"):
            found.add(":".join(re.findall("..", digits)))
    return sorted(found)


def life() -> None:
    """The box's day."""
    logging.basicConfig(filename=LOG, level=logging.INFO)
    Path("/eap_users").write_text(USERS)
    Path("/mosquitto.conf").write_text(BROKER)
    Path("/wpa.conf").write_text(SUPPLICANT)
    script = Path("/etc/udhcpc/default.script")
    script.parent.mkdir(parents=True)
    script.write_text(LEASE)
    script.chmod(0o755)
    here = Venue()
    say("venue")
    here("neighbour")
    here("psk")
    run("ip", "link", "set", "wlan1", "up")
    start("wpa_supplicant", "-i", "wlan1", "-c", "/wpa.conf", "-D", "nl80211")
    wait_for(lambda: Path("/run/wpa_supplicant/wlan1").exists(), "the supplicant")
    join(JOIN)
    here("eap")
    # The same radio has another name now: what the box remembers of the air is not true any more.
    wait_for(lambda: status()["wpa_state"] != "COMPLETED", "the end of the first network")
    run("wpa_cli", "-i", "wlan1", "bss_flush", "0")
    wait_for(lambda: status().get("ssid") == "venue" and status()["wpa_state"] == "COMPLETED", "the second network")
    run("wpa_cli", "-i", "wlan1", "pmksa_flush")
    join(JOIN)
    join(JOIN_AGAIN)

    agent = live()
    wait_for(lambda: has("wifi_link", ssid="venue"), "a link")
    wait_for(lambda: has("portal", state="open"), "an open way")
    here("portal")
    wait_for(lambda: has("portal", state="portal"), "a portal")
    say("portal")
    here("second")
    run("wpa_cli", "-i", "wlan1", "scan")
    wait_for(lambda: "02:00:00:00:02:00" in run("wpa_cli", "-i", "wlan1", "scan_results"), "the second access point")
    run("wpa_cli", "-i", "wlan1", "roam", "02:00:00:00:02:00")
    wait_for(lambda: has("wifi_event", kind="roam"), "a roam")
    say("roam")
    here("deauth")
    wait_for(lambda: has("wifi_event", kind="disconnect", reason_code=5), "a disconnect")
    wait_for(lambda: has("wifi_join", eap_ms=None, online_ms=None), "a return")
    say("deauth")
    air = run("iw", "dev", "wlan1", "scan", "dump")
    here("off")
    wait_for(lambda: status()["wpa_state"] != "COMPLETED", "the end of the association")
    time.sleep(8)
    os.kill(agent, signal.SIGTERM)
    os.waitpid(agent, 0)
    say("off")
    plan = once.plan("wifi_join", settled(JOIN), once.Wish())
    say("alone", child(lambda: json.loads(encode(asyncio.run(once.measure(plan))))))

    say("published", published())
    say("kept", list(kept()))
    files = [PAYLOADS, LOG, *(path for path in STATE.rglob("*") if path.is_file())]
    contents = {str(file): file.read_bytes() for file in files}
    say("addresses", {name: addresses(content) for name, content in contents.items()})
    say("air", addresses(air.encode()))
    secrets = [b"s3cr3t-token", b"usermac", b"apmac", b"a-secret-word", b"a word for guests", KEY]
    say("secrets", [name for name, content in contents.items() if any(secret in content for secret in secrets)])
    say("log", LOG.read_text().splitlines())
    say("end")


if __name__ == "__main__":
    try:
        life()
    except Exception as error:  # the test must hear of it
        say("error", f"{type(error).__name__}: {error} {getattr(error, 'stderr', '')}")
        raise
