"""What a person reads while `wanggan up` runs: a line for trouble and for its end, none for a good start."""

import asyncio
from typing import Any

from wanggan.watch import changes, watch


def overview(
    *jobs: dict[str, Any], broker: str | None = None, store: str | None = None, simulated: bool = False
) -> dict[str, Any]:
    return {
        "simulated": simulated,
        "broker": {"up": broker is None, "reason": broker},
        "store": {"up": store is None, "reason": store},
        "venues": [{"sites": [{"jobs": list(jobs)}]}],
    }


def job(state: str, reason: str | None = None, detail: str | None = None, **more: str) -> dict[str, Any]:
    about = {"probe": "latency", "target": "gateway", "provider": None, "resolver": None}
    return about | {"state": state, "reason": reason, "detail": detail} | more


async def lines_of(*overviews: dict[str, Any] | None) -> list[str]:
    said: list[str] = []
    left = list(overviews)

    async def read() -> dict[str, Any] | None:
        return left.pop(0)

    watching = asyncio.create_task(watch(read, said.append, every_s=0))
    await asyncio.wait({watching})
    assert isinstance(watching.exception(), IndexError)  # the overviews are used up
    return said


async def test_a_good_start_is_one_line() -> None:
    assert await lines_of(
        overview(job("waiting"), job("ok", target="core")), overview(job("ok"), job("ok", target="core"))
    ) == ["all 2 measurements have their first result"]


async def test_without_a_job_there_is_no_first_result() -> None:
    assert await lines_of(overview(), overview()) == []


async def test_a_failure_and_its_end_are_a_line_each_and_are_not_repeated() -> None:
    failed = overview(job("failed", "all_lost", "20 of 20 lost"))
    assert await lines_of(overview(job("ok")), failed, failed, None, failed, overview(job("ok"))) == [
        "all 1 measurements have their first result",
        "latency gateway: failed, all_lost (20 of 20 lost)",
        "latency gateway: ok again",
    ]


async def test_links_are_said_too() -> None:
    assert await lines_of(overview(), overview(broker="connection refused"), overview()) == [
        "broker: down, connection refused",
        "broker: ok again",
    ]


def test_a_job_without_news_is_said() -> None:
    before = {"dns system-1": "ok"}
    assert list(changes(before, {"dns system-1": "no new result"})) == ["dns system-1: no new result"]


async def test_of_a_simulated_district_only_links_are_said() -> None:
    assert await lines_of(
        overview(job("failed", "all_lost"), job("waiting", target="core"), simulated=True),
        overview(job("ok"), job("ok", target="core"), simulated=True),
        overview(job("failed", "timeout"), broker="connection refused", simulated=True),
    ) == ["all 2 measurements have their first result", "broker: down, connection refused"]
