"""The `store` table of a configuration: strict, secrets in files, messages that people read."""

from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import TypeAdapter, ValidationError

from store.influx import InfluxStore
from store.interface import StoreMisconfigured
from store.settings import StoreSettings, open_store
from store.sqlite import SqliteStore

URL = {"engine": "influx", "url": "http://127.0.0.1:8086"}


def opened(**settings: Any) -> Any:
    return open_store(TypeAdapter(StoreSettings).validate_python(settings))


async def test_sqlite(tmp_path: Path) -> None:
    store = opened(engine="sqlite", path=str(tmp_path / "x.sqlite"), retention_days=7)
    assert isinstance(store, SqliteStore)
    assert (store.durable, store.ack_hold_s) == (True, 0)
    await store.ensure()
    await store.close()
    assert (tmp_path / "x.sqlite").exists()


def test_influx_and_its_hold() -> None:
    store = opened(**URL)
    assert isinstance(store, InfluxStore)
    assert (store.durable, store.ack_hold_s) == (True, 0)
    victoria = opened(**URL, server="victoriametrics")
    assert (victoria.durable, victoria.ack_hold_s) == (False, 10)
    assert opened(**URL, server="victoriametrics", ack_hold_s=3).ack_hold_s == 3


def test_secrets_come_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    assert opened(**URL, token_file=str(secret))._headers == {"Authorization": "Token s3cret"}
    assert opened(**URL, user="u", password_file=str(secret))._headers == {"Authorization": "Basic dTpzM2NyZXQ="}
    for bad, words in ((b"", "alone, on one line"), (b"a\nb", "alone, on one line"), (b"\xff", "cannot read")):
        secret.write_bytes(bad)
        with pytest.raises(StoreMisconfigured, match=rf"store\.token_file: .*{words}"):
            opened(**URL, token_file=str(secret))
    with pytest.raises(StoreMisconfigured, match=r"store\.password_file: cannot read .*absent"):
        opened(**URL, user="u", password_file=str(tmp_path / "absent"))


def test_a_ca_of_ones_own(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    assert opened(**URL, ca_file=str(ca_file))._tls is not None
    ca_file.write_text("no certificate")
    with pytest.raises(StoreMisconfigured, match=r"store\.ca_file: cannot use"):
        opened(**URL, ca_file=str(ca_file))


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        ({}, "", "Unable to extract tag using discriminator 'engine'"),
        ({"engine": "postgres"}, "", "'engine'"),
        ({"engine": "sqlite"}, "sqlite.path", "Field required"),
        ({"engine": "sqlite", "path": "x", "url": "y"}, "sqlite.url", "Extra inputs are not permitted"),
        ({"engine": "sqlite", "path": "x", "retention_days": 0}, "sqlite.retention_days", "greater than or equal to 1"),
        ({"engine": "influx"}, "influx.url", "Field required"),
        ({**URL, "tokenfile": "x"}, "influx.tokenfile", "Extra inputs are not permitted"),
        ({**URL, "token": "x"}, "influx.token", "Extra inputs are not permitted"),
        ({**URL, "endpoint": "/api/v3/write_lp"}, "influx.endpoint", "Input should be '/api/v2/write' or '/write'"),
        ({**URL, "server": "influx2"}, "influx.server", "Input should be 'influxdb' or 'victoriametrics'"),
        ({**URL, "url": "127.0.0.1:8086"}, "influx.url", "expected http://host:port"),
        ({**URL, "url": "http://"}, "influx.url", "expected http://host:port"),
        ({**URL, "url": "http://u:p@h:1"}, "influx.url", "credentials do not belong here"),
        ({**URL, "url": "http://h:1/?db=x"}, "influx.url", "expected no query"),
        ({**URL, "database": 'x" DROP'}, "influx.database", "should match pattern"),
        ({**URL, "user": "u"}, "influx", "user and password_file belong together"),
        ({**URL, "password_file": "u"}, "influx", "user and password_file belong together"),
        ({**URL, "token_file": "t", "user": "u", "password_file": "p"}, "influx", "either token_file, or user"),
        ({**URL, "timeout_s": 0}, "influx.timeout_s", "greater than 0"),
        ({**URL, "ack_hold_s": -1}, "influx.ack_hold_s", "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        opened(**settings)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == where
    assert words in error["msg"]
    assert "u:p" not in error["msg"]
