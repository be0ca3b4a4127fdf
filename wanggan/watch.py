"""What changes while `wanggan up` runs, one line each, from the collector's own overview."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Protocol

from wanggan.processes import Say

EVERY_S: Final = 2.0


class Overviews(Protocol):
    """Where the overview comes from."""

    async def __call__(self) -> dict[str, Any] | None:
        """The newest; None while the collector does not answer."""


async def watch(read: Overviews, say: Say, every_s: float = EVERY_S) -> None:
    """Say what changes until cancelled."""
    known: dict[str, str] = {}
    complete = False
    while True:
        overview = await read()
        if overview is not None:
            now = _states(overview)
            for line in changes(known, now):
                say(line)
            jobs = _jobs(overview)
            if not complete and jobs and _WAITING not in {*now.values(), *(job["state"] for job in jobs)}:
                complete = True
                say(f"all {len(jobs)} measurements have their first result")
            known = now
        await asyncio.sleep(every_s)


def changes(before: dict[str, str], now: dict[str, str]) -> Iterator[str]:
    """What is worth a line: trouble, and its end. A good start is none."""
    for what, state in now.items():
        was = before.get(what, _WAITING)
        if state in (was, _WAITING):
            continue
        if state != _OK:
            yield f"{what}: {state}"
        elif was != _WAITING:
            yield f"{what}: ok again"


_OK: Final = "ok"
_WAITING: Final = "waiting"


def _states(overview: dict[str, Any]) -> dict[str, str]:
    """Everything that can change, by what a person calls it."""
    states = {}
    for link, name in (("broker", "broker"), ("store", "database")):
        up = overview[link]["up"]
        states[name] = _WAITING if up is None else _OK if up else f"down, {overview[link]['reason']}"
    # Of a made-up district hundreds of jobs would be told, each without its venue: they are the page's.
    return states if overview["simulated"] else states | {_name(job): _state(job) for job in _jobs(overview)}


def _jobs(overview: dict[str, Any]) -> list[dict[str, Any]]:
    return [job for venue in overview["venues"] for site in venue["sites"] for job in site["jobs"]]


def _name(job: dict[str, Any]) -> str:
    target = job["target"] if job["target"] != "-" else None
    return " ".join(word for word in (job["probe"], target, job["provider"], job["resolver"]) if word)


def _state(job: dict[str, Any]) -> str:
    if job["state"] in (_OK, _WAITING):
        return str(job["state"])
    if job["state"] == "stale":
        return "no new result"
    detail = f" ({job['detail']})" if job["detail"] else ""
    return f"{job['state']}, {job['reason']}{detail}"
