"""`wanggan reflector run` as a person starts it."""

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from reflector.commands import main


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "wanggan", "reflector", "run", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stderr is not None
    line = process.stderr.readline()
    port = int(line.rsplit(" ", 1)[1])
    assert line == f"reflector: listening on 127.0.0.1 port {port}\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/generate_204", timeout=10) as answer:
        assert answer.status == 204
    process.send_signal(number)
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


def test_a_taken_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["run", "--port", str(port)]) == 1
    assert capsys.readouterr().err == f"reflector: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--listen", "0.0.0.0"], "add --open if that is meant"),
        (["run", "--listen", "everywhere"], "'everywhere' is not an IP address"),
        (["run", "--port", "70000"], "'70000' is not a port (0 to 65535)"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
