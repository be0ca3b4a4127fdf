"""The collector's configuration of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def collector_files(
    folder: Path,
    *,
    broker_port: int,
    influx_url: str | None,
    store_file: Path,
    http_port: int,
    places: Mapping[str, Mapping[str, str]],
) -> Path:
    """Write it, with a site register of all agents; `influx_url` None stores in `store_file`.

    `places` are each agent's interface, venue and network.
    """
    register = folder / "sites.toml"
    venues = sorted({place["venue"] for place in places.values()})
    lines: list[str] = []
    for venue in venues:
        lines += _table(f"[venues.{venue}]", {"type": "library"})
        lines += _table(f"[venues.{venue}.name]", {"zh": "图书馆", "en": "Library"})
    for agent, place in places.items():
        lines += _table("[[sites]]", {"agent": agent, "from": "2020-01-01", **place})
    register.write_text("\n".join(lines) + "\n")
    store: dict[str, Any] = {"engine": "sqlite", "path": str(store_file)}
    if influx_url is not None:
        store = {"engine": "influx", "url": influx_url, "endpoint": "/write"}
    config = folder / "collector.toml"
    config.write_text(
        "\n".join(
            [
                f"register = {json.dumps(str(register))}",
                *_table("[mqtt]", {"host": "127.0.0.1", "port": broker_port, "tls": False, "user": "collector"}),
                *_table("[store]", store),
                *_table("[web]", {"listen": "127.0.0.1", "port": http_port}),
            ]
        )
        + "\n"
    )
    return config


def _table(head: str, values: Mapping[str, Any]) -> list[str]:
    return ["", head, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())]
