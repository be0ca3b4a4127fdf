"""The interfaces as ways out: one heavy test at a time, within the day's data budget, and not over other people's
traffic where that is asked. What was spent and how fast it was survive a restart.

The day plan: a test outside the busy hours runs only when, after it, the busy-hour tests that are still to come today
can be paid, too.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from agent import counters
from agent.clock import Clock
from agent.counters import Counters
from agent.hours import Hours
from agent.probe import Settings
from agent.uplink import Uplink
from contract.values import Throughput, Values

BUDGET_MB: Final = 2000
METERED_MB: Final = 100
QUIET_S: Final = 2.0
QUIET_MBPS: Final = 1.0
"""More than this in :data:`QUIET_S` before a test is other people's traffic."""
_RATES_S: Final = 86_400.0
_HOUR_S: Final = 3600.0

log = logging.getLogger(__name__)


class UplinkSettings(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How one interface may be used."""

    metered: bool = False
    """Traffic costs money: tests stay small, and so does the budget."""
    budget_mb_per_day: Annotated[int, Meta(ge=0)] | None = None
    """Megabytes (10^6) of heavy tests, both directions; None: 2,000, metered 100."""
    cross_traffic: Literal["flag", "defer"] = "flag"
    """What to do when others use the interface: measure and flag it, or wait for a better moment."""

    @property
    def budget_bytes(self) -> int:
        usual = METERED_MB if self.metered else BUDGET_MB
        return (usual if self.budget_mb_per_day is None else self.budget_mb_per_day) * 1_000_000


class Course(Struct, kw_only=True, frozen=True):
    """A heavy job, as the day plan sees it."""

    interface: str
    period_s: float
    settings: Settings


class _Rate(Struct, array_like=True):
    """The best of one hour."""

    hour: int
    down_mbps: float | None
    up_mbps: float | None


class _Account(Struct, kw_only=True):
    """What outlives the process, of one interface."""

    day: str = ""
    """Local date of `spent_bytes`."""
    spent_bytes: int = 0
    rates: list[_Rate] = []


class Uplinks:
    """One per agent. Without a `folder` nothing is kept; `count` reads an interface's counters."""

    def __init__(
        self,
        settings: Mapping[str, UplinkSettings],
        hours: Hours,
        *,
        clock: Clock,
        folder: Path | None = None,
        plan: Sequence[Course] = (),
        count: Callable[[str], Counters | None] = counters.read,
    ) -> None:
        self._settings = settings
        self._hours = hours
        self._clock = clock
        self._file = folder / "uplinks.json" if folder else None
        self._plan = plan
        self.count = count
        self._locks: dict[str, asyncio.Semaphore] = {}
        self._loaded_s: dict[str, float] = {}
        self._accounts = self._read()

    def of(self, interface: str) -> Uplink:
        """What a probe is told."""
        rates = self._accounts.get(interface, _Account()).rates
        first = (self._clock.wall() - _RATES_S) / _HOUR_S
        recent = [rate for rate in rates if rate.hour > first]
        return Uplink(
            metered=self._of(interface).metered,
            best_down_mbps=max((rate.down_mbps for rate in recent if rate.down_mbps is not None), default=None),
            best_up_mbps=max((rate.up_mbps for rate in recent if rate.up_mbps is not None), default=None),
        )

    def lock(self, interface: str) -> asyncio.Semaphore:
        """Held by the one heavy test."""
        return self._locks.setdefault(interface, asyncio.Semaphore(1))

    def was_loaded(self, interface: str, since_s: float) -> bool:
        """Whether a heavy test of our own ran there at any moment since `since_s` (boot time)."""
        return self.lock(interface).locked() or self._loaded_s.get(interface, since_s - 1) >= since_s

    async def is_quiet(self, interface: str) -> bool:
        """Whether a test may start as far as others are concerned; looks for :data:`QUIET_S` where that is asked."""
        before = self.count(interface) if self._of(interface).cross_traffic == "defer" else None
        if before is None:
            return True
        await self._clock.sleep(QUIET_S)
        after = self.count(interface)
        return after is None or _moved(before, after) * 8 / QUIET_S / 1e6 <= QUIET_MBPS

    def begin(self, interface: str, settings: Settings) -> "Spending | None":
        """Pay for a test in advance; None when the budget does not allow it."""
        cost = settings.most_bytes(self.of(interface))
        account = self._today(interface)
        if account.spent_bytes + cost + self._reserved_bytes(interface) > self._of(interface).budget_bytes:
            return None
        account.spent_bytes += cost
        self._save()
        return Spending(self, interface, cost)

    def end(self, interface: str, difference_bytes: int, values: Values | None) -> None:
        """Settle: what was paid in advance is corrected by `difference_bytes`, the rates are remembered."""
        account = self._today(interface)
        account.spent_bytes = max(0, account.spent_bytes + difference_bytes)
        if isinstance(values, Throughput):
            self._note(account, values)
        self._loaded_s[interface] = self._clock.boot()
        self._save()

    def _of(self, interface: str) -> UplinkSettings:
        return self._settings.get(interface, UplinkSettings())

    def _today(self, interface: str) -> _Account:
        account = self._accounts.setdefault(interface, _Account())
        day = self._hours.local(self._clock.wall()).date().isoformat()
        if account.day != day:
            account.day, account.spent_bytes = day, 0
        return account

    def _reserved_bytes(self, interface: str) -> int:
        """The cost of today's busy-hour tests that are still to come; nothing is held back from one of them."""
        now_s = self._clock.wall()
        if self._hours.is_busy(now_s):
            return 0
        uplink = self.of(interface)
        return sum(
            course.settings.most_bytes(uplink) * sum(1 for _ in self._hours.busy_slots(now_s, course.period_s))
            for course in self._plan
            if course.interface == interface
        )

    def _note(self, account: _Account, values: Throughput) -> None:
        hour = int(self._clock.wall() // _HOUR_S)
        kept = [rate for rate in account.rates if hour - 24 < rate.hour <= hour]
        if not kept or kept[-1].hour != hour:
            kept.append(_Rate(hour, None, None))
        kept[-1].down_mbps = _greater(kept[-1].down_mbps, values.down_mbps)
        kept[-1].up_mbps = _greater(kept[-1].up_mbps, values.up_mbps)
        account.rates = kept

    def _read(self) -> dict[str, _Account]:
        if self._file is None:
            return {}
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, _Account])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read, the day's budget starts anew: %s", self._file.name, error)
            return {}

    def _save(self) -> None:
        """A disk that refuses is only logged: the budget then holds until the next restart."""
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(self._accounts))
            new.replace(self._file)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._file.name, error)


class Spending:
    """A heavy test's bytes, from the interface's counters: what it cost, whoever caused it."""

    def __init__(self, uplinks: Uplinks, interface: str, paid_bytes: int) -> None:
        self._uplinks = uplinks
        self._interface = interface
        self._paid_bytes = paid_bytes
        self._before = uplinks.count(interface)

    def settle(self, values: Values | None) -> None:
        """Once, when the test is over. What cannot be counted (the interface went away) stays paid."""
        after = self._uplinks.count(self._interface)
        cost = _moved(self._before, after) if self._before and after else self._paid_bytes
        self._uplinks.end(self._interface, cost - self._paid_bytes, values)


def _moved(before: Counters, after: Counters) -> int:
    """Bytes in both directions; an interface that was made anew counts from 0."""
    return sum(b - a if b >= a else b for a, b in zip(before, after, strict=True))


def _greater(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)
