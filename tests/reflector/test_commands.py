"""`wanggan reflector run | check-config` as a person starts them."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import stamp
from contract.throughput import Report, Start
from reflector import config
from reflector.commands import main
from reflector.config import ConfigError
from tests.reflector import inside
from tests.reflector.peer import Peer

EXAMPLE = Path(__file__).parents[2] / "deploy/reflector.example.toml"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "wanggan", "reflector", "run", "--port", "0", "--http-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.fullmatch(r"reflector: listening on 127\.0\.0\.1: TCP (\d+), UDP (\d+), HTTP (\d+)\n", line)
    assert found, line
    tcp, udp, http = map(int, found.groups())
    assert tcp == udp, "one number for throughput and STAMP"
    with urllib.request.urlopen(f"http://127.0.0.1:{http}/generate_204", timeout=10) as answer:
        assert answer.status == 204
    with socket.create_connection(("127.0.0.1", tcp), timeout=10) as connection:
        assert b'"nonce"' in connection.recv(4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(stamp.pack_request(stamp.Request(7, 0)), ("127.0.0.1", udp))
        reply = stamp.unpack_reply(sock.recv(100))
        assert reply is not None
        assert (reply.sequence, reply.sender_sequence) == (0, 7)
    process.send_signal(number)
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


async def test_told_to_stop_it_lets_end_what_runs_and_refuses_what_is_new(tmp_path: Path) -> None:
    with inside.running(tmp_path) as reflector:
        async with Peer(reflector.tcp) as control, Peer(reflector.tcp) as data:
            await data.join(await control.admitted(duration_s=1.5, byte_cap=400_000_000))
            await control.say(Start(start=True))
            flow = asyncio.ensure_future(data.download())
            await asyncio.sleep(0.3)
            reflector.process.terminate()
            await asyncio.sleep(0.3)
            async with Peer(reflector.tcp) as late:
                assert (await late.refused(agent="late")).error == "draining"
            assert (await control.hear(Report)).sent_bytes == await flow
        assert await asyncio.to_thread(reflector.process.wait, 5) == 0
        assert len(reflector.errors.read_text().splitlines()) == 1


async def test_told_to_it_reads_its_keys_again_and_what_runs_goes_on(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"

    def write(text: str) -> None:
        keys.write_text(text)
        keys.chmod(0o600)

    async def told(reflector: inside.Inside, words: str) -> None:
        reflector.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while words not in reflector.errors.read_text():
                await asyncio.sleep(0.01)

    old, new = "a key of lib-01 once", "a key of lib-01 now."
    write(f'lib-01 = ["{old}"]\n')
    with inside.running(tmp_path, 'keys_file = "keys.toml"\n[limits]\npause_s = 0\n') as reflector:
        async with Peer(reflector.tcp) as control, Peer(reflector.tcp) as data:
            admitted = await control.admitted(key=old.encode(), duration_s=1.5)
            write(f'lib-01 = ["{new}"]\nlib-02 = ["{new}"]\n')
            await told(reflector, "keys read again: 2 agents")
            await data.join(admitted)
            await control.say(Start(start=True))
            flow = asyncio.ensure_future(data.download())
            assert (await control.hear(Report)).sent_bytes == await flow, "a test that was admitted before"
        for text, words in (("lib-01 = [", "not TOML"), ('lib-01 = ["short"]\n', "of length >= 16")):
            write(text)
            await told(reflector, words)
            assert (
                reflector.errors.read_text()
                .splitlines()[-1]
                .startswith(f"reflector: keys not taken, the old ones hold: keys_file: {keys}: ")
            )
        async with Peer(reflector.tcp) as late:
            assert (await late.refused(key=old.encode())).error == "bad_token"
        async with Peer(reflector.tcp) as control:
            await control.admitted(agent="lib-02", key=new.encode())


async def test_stamp_may_have_its_registered_port_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with inside.running(tmp_path, f"stamp_port = {port}\n") as reflector:
        for place in (port, reflector.udp):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.sendto(stamp.pack_request(stamp.Request(7, 0)), ("127.0.0.1", place))
                assert stamp.unpack_reply(sock.recv(100)) is not None


def test_a_taken_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["run", "--port", str(port)]) == 1
    said = f"reflector: cannot listen on 127.0.0.1 port {port} (TCP): Address already in use\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--port", "70000"], "'70000' is not a port (0 to 65535)"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--listen", "0.0.0.0"], "give keys_file, or set open (--open) if that is meant"),
        (["run", "--listen", "everywhere"], "listen: 'everywhere' is not an IP address"),
        (["run", "--config", "/nonexistent.toml"], "/nonexistent.toml: No such file or directory"),
        (["check-config", "/nonexistent.toml"], "/nonexistent.toml: No such file or directory"),
    ],
)
def test_configuration_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


MISTAKES = {
    'listn = "::"': "unknown field `listn`; known keys: listen, port,",
    "port = 70000": "port: expected `int` <= 65535",
    'listen = "::"': "listen: :: can be reached from other machines",
    "port = 65535": "port: there is none after 65535 for HTTP; take a lower one, or give http_port",
    "open = true\n[limits]\nslots = 4": "limits: unknown field `slots`; known keys: capacity_mbps,",
    "open = true\n[limits]\nper_test_mbps = 2000": "limits.per_test_mbps: more than capacity_mbps",
    "open = true\n[limits]\nduration_s = 60": "limits.duration_s: expected `float` <= 15.0",
    'keys_file = "none.toml"': "keys_file: {folder}/none.toml: no such file; make it: install -m 600 /dev/null ",
    'keys_file = "open.toml"': "keys_file: {folder}/open.toml can be read by others; run: chmod 600 {folder}/open.toml",
    'keys_file = "short.toml"': "keys_file: {folder}/short.toml: [...][0]: expected",
    'portal_key_file = "short.toml"': "portal_key_file: {folder}/short.toml: its first line has under 16 characters",
    "port = ": "not TOML",
}


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_named_with_its_path_and_its_fix(text: str, tmp_path: Path) -> None:
    (tmp_path / "open.toml").write_text('venue-001 = ["0123456789abcdef"]\n')
    (tmp_path / "open.toml").chmod(0o644)
    (tmp_path / "short.toml").write_text('venue-001=["s"]\n')
    (tmp_path / "short.toml").chmod(0o600)
    file = tmp_path / "reflector.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    wanted = MISTAKES[text].replace("{folder}", str(tmp_path))
    assert str(caught.value).removeprefix(f"{file}: ").startswith(wanted), str(caught.value)
    assert '"s"' not in str(caught.value), "a key is never said"


def test_the_example_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "reflector.toml"
    file.write_text(EXAMPLE.read_text())
    for name, text in (
        ("keys.toml", 'venue-001 = ["an old key of some length", "a new key of some length"]\n'),
        ("portal.key", "the portal's key of some length\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    assert main(["check-config", str(file)]) == 0
    assert "1 agents: ok" in capsys.readouterr().out
    keys = config.keys(config.load(file))
    assert keys == {"venue-001": (b"an old key of some length", b"a new key of some length")}
