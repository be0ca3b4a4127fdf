"""How venues stand: the newest scores and verdicts that perception has stored, and the newest report's files."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from contract.series import SCORE, VERDICT
from store.interface import Store, StoreError

EVERY_S: Final = 60.0
"""Read anew so often, while someone looks: perception writes every five minutes."""
PATIENCE_S: Final = 0.5
"""A page does not wait longer for it."""
DEADLINE_S: Final = 15.0
DAY_S: Final = 86_400
TREND_DAYS: Final = 15
VERDICT_S: Final = 3 * 3600.0
"""A verdict that is older says nothing of now."""
REPORT: Final = re.compile(
    r"(?P<week>\d{4}-W\d{2})(?:-r(?P<revision>\d{1,4}))?\.(?P<lang>zh|en)\.(?:html|pdf|docx|xlsx)"
)
"""Names of a report's files; drafts are none."""

WIDTH: Final = 60
HEIGHT: Final = 20
LOW: Final = 40.0
"""Scores that are worse look alike: venues differ in the upper half."""


class DayScore(Struct, kw_only=True):
    """One day's index; null when it was not rated."""

    at: datetime
    """The local midnight that it begins with."""
    ppi: float | None


class ScoreView(Struct, kw_only=True):
    """How a venue's network is rated: the newest day, and the days before it."""

    network: str
    profile: str
    ppi: float | None
    """0-100; null: not rated (不评)."""
    level: str | None
    """`优` `良` `中` `差`."""
    change: float | None
    """Points against the day before; null when either is not rated."""
    days: list[DayScore]
    """Two weeks, oldest first; the last one is still running."""


class VerdictView(Struct, kw_only=True):
    """Which segment of a venue's network is to blame in its newest hour."""

    network: str
    at: datetime
    segment: str
    """`none`: all is well, or nothing is known; the sentence says which."""
    confidence: float | None
    zh: str
    en: str


class _Day(NamedTuple):
    time_ns: int
    ppi: float | None
    level: str | None


class Standing:
    """What was read last; a store that does not answer leaves it as it is."""

    def __init__(self, store: Store, reports: Path | None, *, wall: Callable[[], float] = time.time) -> None:
        """:param reports: the folder of perception's reports; None shows none."""
        self._store = store
        self._folder = reports
        self._wall = wall
        self._task: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self.scores: dict[str, list[ScoreView]] = {}
        """By venue."""
        self.verdicts: dict[str, list[VerdictView]] = {}
        self.reports: list[str] = []
        """Files of the newest week and revision."""

    async def refresh(self) -> None:
        """Read anew unless that was done within the minute; return when read, or when patience is over."""
        if self._task is None:
            if time.monotonic() - self._read_at < EVERY_S:
                return
            self._task = asyncio.create_task(self._read(), name="web: read the scores")
        await asyncio.wait({self._task}, timeout=PATIENCE_S)

    async def close(self) -> None:
        """End a read that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def file(self, name: str) -> Path | None:
        """A report's file; None when that is no name of one, or it is not there."""
        if self._folder is None or REPORT.fullmatch(name) is None:
            return None
        path = self._folder / name
        return path if path.is_file() else None

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                self.reports = await asyncio.to_thread(self._newest)
                self.scores = await self._scores()
                self.verdicts = await self._verdicts()
        except (StoreError, TimeoutError):
            pass  # the page says of the store itself that it is away
        finally:
            self._read_at = time.monotonic()
            self._task = None

    def _newest(self) -> list[str]:
        try:
            names = [entry.name for entry in self._folder.iterdir()] if self._folder else []
        except OSError:
            return []
        found: dict[tuple[str, int], list[str]] = defaultdict(list)
        for name in names:
            parts = REPORT.fullmatch(name)
            if parts:
                found[parts["week"], int(parts["revision"] or 1)].append(name)
        return sorted(found[max(found)]) if found else []

    async def _scores(self) -> dict[str, list[ScoreView]]:
        now_s = self._wall()
        window = (int((now_s - TREND_DAYS * DAY_S) * 1e9), int((now_s + DAY_S) * 1e9))
        days: dict[tuple[str, str, str], list[_Day]] = defaultdict(list)
        fields = ["ppi", "level", "absent"]
        async for block in self._store.columns(SCORE.key, fields, *window, where={"period": "day"}):
            tags = zip(*block.tags[:3], strict=True)
            for time_ns, key, ppi, level, absent in zip(
                block.time_ns, tags, *(block.fields[name] for name in fields), strict=True
            ):
                # What is null now may still hold what a former run wrote: the row says so.
                rated = ppi is not None and "ppi" not in str(absent or "").split(",")
                days[key].append(_Day(time_ns, float(ppi or 0.0) if rated else None, str(level) if rated else None))
        newest: dict[tuple[str, str], tuple[int, str]] = {}
        for (venue, network, profile), found in days.items():
            # Under two profiles, the one that goes on; of equals the first by name.
            last = (found[-1].time_ns, profile)
            before = newest.get((venue, network))
            if before is None or (-last[0], last[1]) < (-before[0], before[1]):
                newest[venue, network] = last
        views: dict[str, list[ScoreView]] = defaultdict(list)
        for (venue, network), (_, profile) in sorted(newest.items()):
            views[venue].append(_view(network, profile, days[venue, network, profile]))
        return views

    async def _verdicts(self) -> dict[str, list[VerdictView]]:
        now_s = self._wall()
        window = (int((now_s - VERDICT_S) * 1e9), int((now_s + DAY_S) * 1e9))
        newest: dict[tuple[str, str], VerdictView] = {}
        fields = ["segment", "confidence", "zh", "en"]
        async for block in self._store.columns(VERDICT.key, fields, *window):
            for time_ns, venue, network, segment, confidence, zh, en in zip(
                block.time_ns, *block.tags[:2], *(block.fields[name] for name in fields), strict=True
            ):
                newest[venue, network] = VerdictView(
                    network=network,
                    at=datetime.fromtimestamp(time_ns / 1e9, UTC),
                    segment=str(segment or "none"),
                    confidence=None if confidence is None else float(confidence),
                    zh=str(zh or ""),
                    en=str(en or ""),
                )
        views: dict[str, list[VerdictView]] = defaultdict(list)
        for (venue, _), view in sorted(newest.items()):
            views[venue].append(view)
        return views


def _view(network: str, profile: str, days: list[_Day]) -> ScoreView:
    """The newest rated day; today is not rated before there is enough of it."""
    rated = [day for day in days if day.ppi is not None]
    last = rated[-1] if rated and len(days) - days.index(rated[-1]) <= 2 else None
    before = rated[-2] if len(rated) > 1 else None
    change = None
    if last is not None and before is not None and last.time_ns - before.time_ns <= 1.5 * DAY_S * 1e9:
        change = (last.ppi or 0.0) - (before.ppi or 0.0)
    return ScoreView(
        network=network,
        profile=profile,
        ppi=last.ppi if last else None,
        level=last.level if last else None,
        change=change,
        days=[DayScore(at=datetime.fromtimestamp(day.time_ns / 1e9, UTC), ppi=day.ppi) for day in days],
    )


def trend(days: list[DayScore]) -> str:
    """A line through the days, from :data:`LOW` (and less) to 100; gaps where a day was not rated."""
    if not days:
        return ""
    end_s = days[-1].at.timestamp()
    path, pen = [], "M"
    for day in days:
        if day.ppi is None:
            pen = "M"
            continue
        x = WIDTH - (end_s - day.at.timestamp()) / ((TREND_DAYS - 1) * DAY_S) * (WIDTH - 4) - 2
        y = HEIGHT - 2 - max(0.0, day.ppi - LOW) / (100 - LOW) * (HEIGHT - 4)
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    # A day alone is a dot: a line of no length with round ends.
    return "".join(path) + ("h0" if len(path) == 1 else "")
