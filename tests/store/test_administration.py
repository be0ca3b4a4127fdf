"""Preparing an InfluxDB: 1.x for real, 2.x and 3.x on a scripted server that answers as their manuals say."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from store.administration import Administration, Identity
from store.influx import InfluxStore
from store.interface import StoreError, StoreMisconfigured
from store.settings import InfluxSettings
from tests.servers import Influxd
from tests.store.points import ask, point
from tests.store.scripted import Answer, Request, Scripted


async def prepare(url: str, folder: Path, *, org: str = "", user: str | None = None, **own: Any) -> list[str]:
    settings = InfluxSettings(engine="influx", url=url, org=org, **own)
    admin = folder / "admin"
    admin.write_text("secret of the administrator\n")
    identities = [
        Identity("write", "wanggan", folder / "write.secret"), Identity("read", "wanggan-read", folder / "read.secret")
    ]  # fmt: skip
    token_file = None if user else admin
    async with Administration(settings, token_file=token_file, user=user, password_file=admin) as administration:
        return await administration.prepare(identities)


# 1.x for real


async def test_1_x_gets_databases_retention_and_two_users(tmp_path: Path) -> None:
    server = Influxd(tmp_path, users=True)
    server.start()
    try:
        ask(server.url, "CREATE USER root WITH PASSWORD 'secret of the administrator' WITH ALL PRIVILEGES", "")
        made = await prepare(server.url, tmp_path, user="root")
        assert made == [
            "database wanggan, kept 30 days",
            "database wanggan_1h, kept 1100 days",
            f"user wanggan, password in {tmp_path}/write.secret",
            f"user wanggan-read, password in {tmp_path}/read.secret",
        ]
        for name in ("write.secret", "read.secret"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert await prepare(server.url, tmp_path, user="root") == []

        def store(user: str, file: str) -> InfluxStore:
            password = (tmp_path / file).read_text().strip()
            return InfluxStore(server.url, endpoint="/write", user=user, password=password)

        writer, reader = store("wanggan", "write.secret"), store("wanggan-read", "read.secret")
        assert await writer.write([point(1, sent=1)]) == []
        assert len(await reader.latest("latency", [], since_ns=0)) == 1
        with pytest.raises(StoreMisconfigured, match="403"):
            await reader.write([point(2, sent=1)])
        with pytest.raises(StoreError, match=r"admin|authorized|privilege"):
            await writer._query("CREATE DATABASE more")
        # A lost file: the user is there, and gets another password.
        await reader.close()
        (tmp_path / "read.secret").unlink()
        assert await prepare(server.url, tmp_path, user="root") == [
            f"user wanggan-read, password in {tmp_path}/read.secret"
        ]
        reader = store("wanggan-read", "read.secret")
        assert len(await reader.latest("latency", [], since_ns=0)) == 1
        await reader.close()
        await writer.close()
        with pytest.raises(StoreMisconfigured, match=r"401.*administrator") as caught:
            await prepare(server.url, tmp_path, user="nobody")
        assert "secret of" not in str(caught.value)
    finally:
        server.stop()


# 2.x and 3.x by their manuals


class Influx2:
    """Orgs, buckets, mappings and tokens of a 2.7, as its API v2 answers."""

    def __init__(self, *, refuse: str = "", status: int = 403) -> None:
        self.buckets: dict[str, dict[str, Any]] = {}
        self.mappings: list[dict[str, Any]] = []
        self.tokens: list[dict[str, Any]] = []
        self.refuse, self.status = refuse, status

    def __call__(self, request: Request) -> Answer:
        if request.path == "/ping":
            return Answer(204, headers={"X-Influxdb-Version": "v2.7.12"})
        assert request.headers["authorization"] == "Token secret of the administrator"
        if self.refuse and f"{request.method} {request.path}" == self.refuse:
            return Answer(self.status, '{"code":"forbidden","message":"insufficient permissions"}')
        body = json.loads(request.body) if request.body else {}
        match request.method, request.path:
            case "GET", "/api/v2/orgs":
                found = [{"id": "0a", "name": "district"}] if request.query["org"] == "district" else []
                if not found:
                    return Answer(404, '{"code":"not found","message":"organization name \\"x\\" not found"}')
                return Answer(200, json.dumps({"orgs": found}))
            case "GET", "/api/v2/buckets":
                assert request.query["orgID"] == "0a"
                bucket = self.buckets.get(request.query["name"])
                return Answer(200, json.dumps({"buckets": [bucket] if bucket else []}))
            case "POST", "/api/v2/buckets":
                self.buckets[body["name"]] = body | {"id": f"b{len(self.buckets)}"}
                return Answer(201, json.dumps(self.buckets[body["name"]]))
            case "GET", "/api/v2/dbrps":
                # 2.1 and later list a mapping that nobody made, too.
                found = [one for one in self.mappings if one["database"] == request.query["db"]]
                virtual = {"database": request.query["db"], "bucketID": "b9", "default": True, "virtual": True}
                return Answer(200, json.dumps({"content": found or [virtual]}))
            case "POST", "/api/v2/dbrps":
                self.mappings.append(body)
                return Answer(201, json.dumps(body | {"id": "d"}))
            case "POST", "/api/v2/authorizations":
                self.tokens.append(body)
                return Answer(201, json.dumps(body | {"id": "t", "token": f"token {len(self.tokens)}"}))
        raise AssertionError(f"{request.method} {request.path}")


async def test_2_x_gets_buckets_mappings_and_two_tokens(scripted: Scripted, tmp_path: Path) -> None:
    server = Influx2()
    scripted.script = server
    made = await prepare(scripted.url, tmp_path, org="district", bucket="raw points")
    assert made == [
        "bucket raw points, kept 30 days",
        "mapping of the database wanggan to the bucket raw points",
        "bucket wanggan_1h, kept 1100 days",
        "mapping of the database wanggan_1h to the bucket wanggan_1h",
        f"token wanggan (read and write), in {tmp_path}/write.secret",
        f"token wanggan-read (read), in {tmp_path}/read.secret",
    ]
    assert server.buckets["raw points"]["retentionRules"] == [{"type": "expire", "everySeconds": 30 * 86_400}]
    assert server.mappings[0] == {
        "orgID": "0a", "bucketID": "b0", "database": "wanggan", "retention_policy": "autogen", "default": True,
    }  # fmt: skip
    rights = [
        {(one["action"], one["resource"]["type"], one["resource"]["id"]) for one in token["permissions"]}
        for token in server.tokens
    ]
    both = {(action, "buckets", bucket) for action in ("read", "write") for bucket in ("b0", "b1")}
    assert rights == [both, {one for one in both if one[0] == "read"}]
    assert (tmp_path / "write.secret").read_text() == "token 1\n"
    assert stat.S_IMODE((tmp_path / "read.secret").stat().st_mode) == 0o600
    # Once more: everything is there.
    assert await prepare(scripted.url, tmp_path, org="district", bucket="raw points") == []


async def test_2_x_keeps_for_ever_where_that_is_wished(scripted: Scripted, tmp_path: Path) -> None:
    server = Influx2()
    scripted.script = server
    await prepare(scripted.url, tmp_path, org="district", hours_retention_days=None)
    assert server.buckets["wanggan_1h"]["retentionRules"] == []


async def test_a_database_that_is_mapped_elsewhere_is_a_matter_for_people(scripted: Scripted, tmp_path: Path) -> None:
    server = Influx2()
    server.mappings.append({"database": "wanggan", "bucketID": "other", "default": True})
    scripted.script = server
    with pytest.raises(StoreMisconfigured, match="mapped to another bucket"):
        await prepare(scripted.url, tmp_path, org="district")
    assert not (tmp_path / "write.secret").exists()


@pytest.mark.parametrize(
    "request_", ["GET /api/v2/orgs", "GET /api/v2/buckets", "POST /api/v2/buckets", "GET /api/v2/dbrps",
                 "POST /api/v2/dbrps", "POST /api/v2/authorizations"],
)  # fmt: skip
async def test_what_2_x_refuses_is_told(request_: str, scripted: Scripted, tmp_path: Path) -> None:
    scripted.script = Influx2(refuse=request_)
    with pytest.raises(StoreMisconfigured, match="403: insufficient permissions: is this an administrator") as caught:
        await prepare(scripted.url, tmp_path, org="district")
    assert "secret of" not in str(caught.value)


@pytest.mark.parametrize(("org", "words"), [("", "store.org: missing"), ("nowhere", "no organization 'nowhere'")])
async def test_the_organization_of_2_x(org: str, words: str, scripted: Scripted, tmp_path: Path) -> None:
    scripted.script = Influx2()
    with pytest.raises(StoreMisconfigured, match=words):
        await prepare(scripted.url, tmp_path, org=org)


async def test_2_x_needs_a_token(scripted: Scripted, tmp_path: Path) -> None:
    scripted.script = Influx2()
    with pytest.raises(StoreMisconfigured, match="--admin-token-file"):
        await prepare(scripted.url, tmp_path, user="root", org="district")


async def test_3_x_gets_its_databases(scripted: Scripted, tmp_path: Path) -> None:
    made: list[dict[str, Any]] = []

    def core(request: Request) -> Answer:
        if request.path == "/ping":
            return Answer(200, '{"version":"3.2.1","revision":"x"}')
        assert request.path == "/api/v3/configure/database"
        body = json.loads(request.body)
        if body in made:
            return Answer(409, '{"error":"attempted to create a resource that already exists"}')
        made.append(body)
        return Answer(200)

    scripted.script = core
    assert len(await prepare(scripted.url, tmp_path)) == 2
    assert made == [{"db": "wanggan", "retention_period": "30d"}, {"db": "wanggan_1h", "retention_period": "1100d"}]
    assert await prepare(scripted.url, tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [(Answer(204), "an InfluxDB"), (Answer(200, "<html>"), "an InfluxDB"), (Answer(503, "away"), "away")],
)  # fmt: skip
async def test_something_else(answer: Answer, words: str, scripted: Scripted, tmp_path: Path) -> None:
    scripted.script = lambda request: answer
    with pytest.raises(StoreError, match=words):
        await prepare(scripted.url, tmp_path)


async def test_nobody_answers(scripted: Scripted, tmp_path: Path) -> None:
    scripted.script = lambda request: "hang"
    with pytest.raises(StoreError, match="no answer within"):
        await prepare(scripted.url, tmp_path, timeout_s=0.2)
