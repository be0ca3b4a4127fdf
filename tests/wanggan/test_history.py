"""The demonstration's past: hours, scores and verdicts as if its raw points had been stored."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from perception.config import load
from perception.progress import ProgressFile
from simulator import district
from wanggan import history
from wanggan.plan import perception_configuration

VENUES = 8


def test_the_past_is_complete_and_the_service_goes_on_from_it(tmp_path: Path) -> None:
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    full, start = end - timedelta(hours=3), end - timedelta(hours=8)
    place = district.build(1, VENUES, VENUES, 0)
    (tmp_path / "sites.toml").write_text(district.register(place))
    (tmp_path / "faults.toml").write_text("")
    config = tmp_path / "perception.toml"
    config.write_text(
        perception_configuration(str(tmp_path), str(tmp_path / "sites.toml"), zh="仿真区", en="Simulated")
    )
    times = {"from": start, "full": full, "to": end, "upgrade": end}
    arguments = ["--config", str(config), "--venues", str(VENUES), "--faults", str(tmp_path / "faults.toml")]
    assert (
        history.main([*arguments, *(word for name, at in times.items() for word in (f"--{name}", at.isoformat()))]) == 0
    )
    with sqlite3.connect(tmp_path / "wanggan.db") as database:

        def ask(query: str) -> list[tuple[int, ...]]:
            return database.execute(query).fetchall()

        assert ask("SELECT count(*) FROM latency") == [(0,)], "no raw points"
        hours = ask("SELECT time, min(n), max(n), min(expected) FROM latency_1h WHERE target = 'core' GROUP BY time")
        assert [(low, high, expected) for _, low, high, expected in hours] == [(12, 12, 12)] * 5 + [(60, 60, 60)] * 3
        ((scored,),) = ask("SELECT count(*) FROM score_1h WHERE period = 'hour' AND completeness = 1")
        assert scored == VENUES * 8
        assert ask("SELECT count(*) FROM verdict_1h") == [(VENUES * 8,)]
    settings = load(config)
    assert ProgressFile(settings.state).read().next_hour_ns == int(end.timestamp()) * 10**9
