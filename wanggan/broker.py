"""The broker of `wanggan up`: mosquitto where there is one, else the one that comes with the package `iotcore`.

Both listen on the loopback alone, take MQTT 5, and ask for a user name and a password.
"""

import base64
import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from contract import topics
from contract.messages import MAX_BYTES

HOST: Final = "127.0.0.1"

_MAX_PACKET_BYTES: Final = 2 * MAX_BYTES
_MEMORY_BYTES: Final = 256 * 2**20
"""Above it mosquitto disconnects who publishes: agents send again."""
_MOSQUITTO_FOLDERS: Final = "/usr/sbin:/usr/local/sbin"
"""Distributions install it where a person's PATH does not look."""


class Broker(NamedTuple):
    """How to start a broker."""

    name: str
    argv: list[str]


def choose(folder: Path, port: int, passwords: Mapping[str, str], *, agent: str, embedded: bool = False) -> Broker:
    """Write the configuration of the broker that this machine has into `folder`.

    `passwords` are by user name; `agent` is the one user who may only do what an agent may (the embedded broker knows
    no such difference). `embedded` leaves mosquitto aside.
    """
    mosquitto = None if embedded else find_mosquitto()
    if mosquitto is None:
        return _embedded(folder, port, passwords)
    return _mosquitto(mosquitto, folder, port, passwords, agent)


def find_mosquitto() -> str | None:
    """Path of mosquitto on PATH or in the usual system folders; None where there is none."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("mosquitto", path=f"{path}{os.pathsep}{_MOSQUITTO_FOLDERS}")


def _mosquitto(program: str, folder: Path, port: int, passwords: Mapping[str, str], agent: str) -> Broker:
    users = write_private(folder / "mosquitto.passwd", "".join(_hashed(*user) for user in passwords.items()))
    rights = write_private(folder / "mosquitto.acl", _rights(passwords, agent))
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous false",
        f"password_file {users}",
        f"acl_file {rights}",
        "persistence false",
        "max_queued_messages 10000",
        f"max_packet_size {_MAX_PACKET_BYTES}",
        f"memory_limit {_MEMORY_BYTES}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    if os.geteuid() == 0:
        # Started by root it would become another user, who cannot read these files.
        lines.append("user root")
    configuration = write_private(folder / "mosquitto.conf", "\n".join(lines) + "\n")
    return Broker("mosquitto", [program, "-c", str(configuration)])


def _hashed(user: str, password: str) -> str:
    """A line of a mosquitto password file, type 7: PBKDF2 with SHA-512 (lib/password_mosq.c)."""
    salt, rounds = secrets.token_bytes(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    salt_text, digest_text = (base64.b64encode(part).decode() for part in (salt, digest))
    return f"{user}:$7${rounds}${salt_text}${digest_text}\n"


def _rights(passwords: Mapping[str, str], agent: str) -> str:
    others = "".join(f"user {user}\ntopic readwrite {topics.ROOT}/#\n\n" for user in passwords if user != agent)
    return (
        f"{others}user {agent}\n"
        f"topic write {topics.up(agent, '#')}\n"
        f"topic read {topics.down(agent, '#')}\n"
        f"topic read {topics.down('all', '#')}\n"
    )


def _embedded(folder: Path, port: int, passwords: Mapping[str, str]) -> Broker:
    users = "\n".join(f"{json.dumps(user)} = {json.dumps(password)}" for user, password in passwords.items())
    configuration = write_private(
        folder / "rumqttd.toml",
        f"""\
id = 0

[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10

[v5.1]
name = "v5"
listen = "{HOST}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {_MAX_PACKET_BYTES}
max_inflight_count = 100
dynamic_filters = true

[v5.1.connections.auth]
{users}
""",
    )
    return Broker("the embedded broker", [sys.executable, "-P", "-m", "wanggan.broker", str(configuration)])


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read; it appears whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
    return path


def main(configuration: str) -> None:
    """Be the embedded broker until a signal ends the process."""
    from iotcore import IotCoreBroker

    # It names every packet an error.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    # The broker runs outside Python, where Python's own signal handlers would never get their turn.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    IotCoreBroker(config_path=configuration).run_forever()


if __name__ == "__main__":
    main(sys.argv[1])
