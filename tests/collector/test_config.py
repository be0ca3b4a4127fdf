"""Collector configuration: what is wrong is told in one line, with its path and the fix."""

from pathlib import Path

import pytest

from collector.config import load
from store.register import read
from store.tables import ConfigError

GOOD = """
[mqtt]
host = "127.0.0.1"
tls = false
[store]
engine = "sqlite"
path = "data/store.db"
"""

BAD = {
    "unknown key": (GOOD + "prot = 1\n", "store.prot: unknown key"),
    "a near miss": (GOOD.replace("host", "hots"), "mqtt.hots: unknown key; did you mean host?"),
    "wrong type": (GOOD.replace("tls = false", 'tls = false\nport = "1883"'), "mqtt.port: input should be a valid"),
    "no broker": (GOOD.replace("[mqtt]", "[other]"), "mqtt: missing; add mqtt"),
    "no engine": (GOOD.replace('engine = "sqlite"\n', ""), "store.engine: missing; add engine = 'sqlite' or 'influx'"),
    "odd engine": (GOOD.replace("sqlite", "oracle"), "store.engine: no such engine; one of 'sqlite', 'influx'"),
    "plain text abroad": (GOOD.replace("127.0.0.1", "broker.example"), "mqtt: tls = false is only for a broker on"),
    "key without certificate": (GOOD.replace("tls = false", 'key_file = "a"'), "mqtt: cert_file and key_file belong"),
    "missing secret": (
        GOOD.replace("tls = false", 'tls = false\nuser = "c"\npassword_file = "nowhere"'),
        "mqtt.password_file: ",
    ),
    "certificates to come": (
        GOOD.replace("tls = false", 'ca_file = "/nowhere"'),
        "mqtt.ca_file: /nowhere: No such file or directory; `wanggan fleet init` makes it",
    ),
    "open page": (GOOD + '[web]\nlisten = "0.0.0.0"\n', "web: everyone who reaches 0.0.0.0 could read the page"),
    "odd address": (GOOD + '[web]\nlisten = "page.example"\n', "web.listen: 'page.example' is no IP address"),
    "limit below 0": (
        GOOD + "[limits]\nburst = 0\n",
        "limits.burst: input should be greater than or equal to 1, not '0'",
    ),
    "illegal group": (
        GOOD.replace("tls = false", 'tls = false\nshare_group = "a/#"'),
        "mqtt.share_group: string should",
    ),
    "no TOML": ("[mqtt", "not TOML: "),
}


@pytest.mark.parametrize("mistake", BAD)
def test_one_line_names_path_and_fix(mistake: str, tmp_path: Path) -> None:
    text, message = BAD[mistake]
    file = tmp_path / "collector.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(file)
    lines = str(error.value).splitlines()
    assert any(line.startswith(f"{file}: {message}") for line in lines), lines


def test_file_names_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(GOOD)
    settings = load(file)
    assert settings.state == tmp_path / "state"
    assert settings.sites == tmp_path / "sites.toml"
    assert settings.store.path == tmp_path / "data/store.db"  # type: ignore[union-attr]
    assert settings.web.listen == "127.0.0.1"


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hidden\n")
    secret.chmod(0o644)
    file = tmp_path / "collector.toml"
    file.write_text(GOOD.replace("tls = false", 'tls = false\nuser = "c"\npassword_file = "password"'))
    with pytest.raises(ConfigError, match=r"mqtt.password_file: .*can be read by others; run: chmod 600"):
        load(file)
    secret.chmod(0o600)
    assert load(file).mqtt.password_file == secret


def test_an_open_page_must_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(GOOD + '[web]\nlisten = "::"\nallow_open = true\n')
    assert load(file).web.allow_open


def test_the_examples_are_sound(tmp_path: Path) -> None:
    """But for the certificates that they name."""
    deploy = Path(__file__).parents[2] / "deploy"
    for name in ("ca.pem", "collector.pem", "collector.key"):
        (tmp_path / name).touch(mode=0o600)
    file = tmp_path / "collector.toml"
    file.write_text((deploy / "collector.example.toml").read_text())
    assert load(file).store.engine == "influx"
    assert len(read(deploy / "sites.example.toml").venues) == 3
