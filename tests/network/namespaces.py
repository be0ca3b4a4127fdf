"""A network of our own: namespaces, cables and routes between them, and programs inside. Needs root and iproute2."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

_NUMBERS = itertools.count()
_FILES = Path("/etc/netns")


class Counters(NamedTuple):
    """What the kernel counted on an interface; a super-frame of the segmentation offload is one packet."""

    rx_packets: int
    rx_bytes: int
    rx_dropped: int
    tx_packets: int
    tx_bytes: int
    tx_dropped: int


class Program:
    """A program that runs in a namespace. What it prints, errors included, is in its log."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- read as long as the program is remembered
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env={**os.environ, **(env or {})}
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    def until(self, ready: str | Callable[[], bool], timeout_s: float = 15.0) -> str:
        """Wait for a text in its log, or until a function says yes; returns the log.

        :raises RuntimeError: when it ended before, or the time is over; with its log.
        """
        deadline = time.monotonic() + timeout_s
        while not (ready in self.log if isinstance(ready, str) else ready()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self.process.args!r} is not ready (exit {self.process.poll()}): {self.log[-2000:]}"
                )
            time.sleep(0.01)
        return self.log

    def wait(self, timeout_s: float = 60.0) -> str:
        """Let it end by itself; it must succeed. Returns its log."""
        code = self.process.wait(timeout_s)
        assert code == 0, f"{self.process.args!r} ended with {code}: {self.log[-2000:]}"
        return self.log

    def stop(self, timeout_s: float = 10.0) -> str:
        """SIGTERM, and SIGKILL when that is not obeyed in time. Returns its log; stopping twice is no error."""
        with suppress(subprocess.TimeoutExpired):
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(timeout_s)
        self.process.kill()
        self.process.wait(10)
        return self.log

    def cpu_s(self) -> float:
        """User and system time since its start, its ended children included; it must still run."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


class Namespace:
    """One network namespace with its loopback up; everything in it ends with it (see :func:`namespace`)."""

    def __init__(self) -> None:
        self.name = f"wg{os.getpid()}-{next(_NUMBERS)}"
        self._programs: list[Program] = []
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        return ip("-netns", self.name, *words)

    def tc(self, *words: str) -> str:
        return _run(["tc", "-netns", self.name, *words])

    def nft(self, rules: str) -> str:
        return self.run("nft", "-j", rules)

    def sysctl(self, name: str, value: str) -> None:
        self.run("sh", "-c", f"echo '{value}' > /proc/sys/{name.replace('.', '/')}")

    # -- programs

    def argv(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, timeout_s: float = 60.0) -> str:
        """What the program printed; it must succeed."""
        return _run(self.argv(*words), timeout_s)

    def start(self, *words: str, env: Mapping[str, str] | None = None, ready: str | None = None) -> Program:
        """Run a program in the background until the namespace ends; `ready` is a text of its log to wait for."""
        program = Program(self.argv(*words), env)
        self._programs.append(program)
        if ready:
            program.until(ready)
        return program

    def once(self, *words: str, without: str | None = None, tries: int = 4) -> dict[str, Any]:
        """The Record of `wanggan agent once`; `without` a capability (``net_raw``) when one is named.

        Where other programs keep this machine busy the agent may say `cpu_limited`, as it should: then again, until
        `tries` are used up.
        """
        for _ in range(tries - 1):
            record = self._once(*words, without=without)
            if record["reason"] != "cpu_limited":
                return record
        return self._once(*words, without=without)

    def _once(self, *words: str, without: str | None) -> dict[str, Any]:
        command = [sys.executable, "-m", "agent", "once", *words, "--json"]
        if without:
            command = ["setpriv", "--bounding-set", f"-{without}", "--inh-caps", f"-{without}", *command]
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=60)
        assert done.stdout, done.stderr
        record: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if record["outcome"] == "ok" else 1)
        return record

    # -- what the network looks like from inside

    def files(self, *, hosts: str | None = None, resolv: str | None = None) -> None:
        """Text of `/etc/hosts` and `/etc/resolv.conf` for programs that are started from now on."""
        folder = _FILES / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("hosts", hosts), ("resolv.conf", resolv)):
            if text is not None:
                (folder / name).write_text(text)

    def pin(self, congestion_control: str) -> None:
        """Let every IPv4 route use `cubic`, `reno` or `bbr`: the namespace's sysctl may refuse, routes do not."""
        for line in self.ip("-4", "route", "show").splitlines():
            words = [word for word in line.split() if word not in ("dead", "linkdown")]  # what it is, not what it has
            self.ip("route", "replace", *words, "congctl", congestion_control)

    def packets_as_sent(self, device: str) -> None:
        """No super-frames on this interface: one packet on it is one packet of the wire."""
        self.ip("link", "set", "dev", device, "gso_max_segs", "1")

    def silence_icmp(self) -> None:
        """Forward as before, but never say why a packet was not: no "time exceeded", no "too big", no echo reply."""
        self.nft(
            "add table inet silence; add chain inet silence out { type filter hook output priority 0; };"
            "add rule inet silence out meta l4proto { icmp, ipv6-icmp } drop"
        )

    def counters(self, device: str) -> Counters:
        (link,) = json.loads(self.ip("-j", "-s", "-s", "link", "show", "dev", device))
        rx, tx = link["stats64"]["rx"], link["stats64"]["tx"]
        return Counters(
            *(rx[name] for name in ("packets", "bytes", "dropped")),
            *(tx[name] for name in ("packets", "bytes", "dropped")),
        )

    def await_up(self, device: str, timeout_s: float = 10.0) -> None:
        """Wait until this interface is up in the kernel's eyes too: it says so up to a second after the cable is in."""
        deadline = time.monotonic() + timeout_s
        while json.loads(self.ip("-j", "link", "show", "dev", device))[0]["operstate"] != "UP":
            assert time.monotonic() < deadline, f"{device} of {self.name} does not come up"
            time.sleep(0.01)

    def close(self) -> None:
        """End its programs, what they left running too, and remove it with its files."""
        for program in self._programs:
            program.stop(timeout_s=2.0)
        while left := ip("netns", "pids", self.name).split():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        shutil.rmtree(_FILES / self.name, ignore_errors=True)
        ip("netns", "del", self.name)


@contextmanager
def namespace() -> Iterator[Namespace]:
    space = Namespace()
    try:
        yield space
    finally:
        space.close()


@contextmanager
def cable(*, mtu: int = 1500) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces: 10.77.0.1 on `v0` here, 10.77.0.2 on `v0` there."""
    with namespace() as here, namespace() as there:
        _connect(here, "v0", "10.77.0.1/24", there, "v0", "10.77.0.2/24", mtu)
        yield here, there


@contextmanager
def route(hops: int, *, mtus: Mapping[int, int] | None = None) -> Iterator[list[Namespace]]:
    """Two ends with so many routers between them, in their order.

    Link n joins ``10.77.n.1`` to ``10.77.n.2``; every interface towards the far end is `v1`, towards the near end `v0`,
    and the ends have only one, `v0`. `mtus` of links other than 1500.
    """
    with ExitStack() as stack:
        spaces = [stack.enter_context(namespace()) for _ in range(hops + 2)]
        for link, (near, far) in enumerate(itertools.pairwise(spaces)):
            device = "v1" if link else "v0"
            mtu = (mtus or {}).get(link, 1500)
            _connect(near, device, f"10.77.{link}.1/24", far, "v0", f"10.77.{link}.2/24", mtu)
        for place, space in enumerate(spaces):
            if 0 < place <= hops:
                space.sysctl("net.ipv4.ip_forward", "1")
                space.sysctl("net.ipv4.icmp_ratelimit", "0")
            for link in range(hops + 1):
                if link > place:
                    space.ip("route", "add", f"10.77.{link}.0/24", "via", f"10.77.{place}.2")
                elif link < place - 1:
                    space.ip("route", "add", f"10.77.{link}.0/24", "via", f"10.77.{place - 1}.1")
        yield spaces


def ip(*words: str) -> str:
    return _run(["ip", *words])


def _connect(near: Namespace, device: str, address: str, far: Namespace, other: str, its: str, mtu: int) -> None:
    near.ip("link", "add", device, "type", "veth", "peer", "name", other, "netns", far.name)
    for space, name, own in ((near, device, address), (far, other, its)):
        space.ip("addr", "add", own, "dev", name)
        space.ip("link", "set", name, "mtu", str(mtu), "up")
    for space, name in ((near, device), (far, other)):
        space.await_up(name)


def _run(argv: list[str], timeout_s: float = 60.0) -> str:
    try:
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
    return done.stdout
