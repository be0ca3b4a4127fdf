"""A virtual agent: its records of any window, made of the same structs as a real one's."""

import bisect
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, cast

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from contract.record import RECORDS, Record
from contract.values import Hop, Latency, Path, WifiEvent
from contract.vocabulary import REASONS
from simulator import calendar
from simulator.district import Box
from simulator.probes import PROBES, Result, Run
from simulator.schedule import JITTER_RATIO, Job, jobs, slots
from simulator.streams import Ints, Stream
from simulator.world import State, World

DAY_BYTES: Final = 2_000_000_000
NEVER_ANCHORED_S: Final = 20_000.0
"""A clock that is wrong by more was reset by a restart: those records never learn their time."""
HEAVY: Final = {"throughput": 7.5, "video": 12.0}
"""Heavy probes, and for how many seconds they load the uplink."""
LOADED: Final = frozenset({"latency", "dns", "web", "path", "portal"})
"""What a loaded uplink makes worth a caution."""
_FURTHEST: Final = timedelta(seconds=190)
"""How far from its slot a light test of the schedule may start (5 % of an hour), and some seconds."""
_PAD_MINUTES: Final = 40
"""Slots start up to 5 % of half a day off their time."""
_OUTCOMES: Final = {reason: outcome for outcome, reasons in REASONS.items() for reason in reasons}
_fromtimestamp = datetime.fromtimestamp


def _not_run(result: Result, place: int, reason: str) -> None:
    result.reason[place], result.values[place], result.duration_s[place] = reason, None, 0.0
    result.flags.pop(place, None)


def _untimed(values: Any) -> Any:
    """What is kept of packets that were timed while the wall clock moved."""
    if isinstance(values, Path):
        return replace(values, hops=[Hop(address=hop.address) for hop in values.hops or []])
    if isinstance(values, Latency):
        times = [name for name in values.__struct_fields__ if name.startswith(("rtt_", "rt_pdv", "ipdv"))]
        return replace(values, **dict.fromkeys(times))
    return values


class VirtualAgent:
    """One box of a district."""

    def __init__(self, world: World, box: Box, *, spare: float = 1) -> None:
        """:param spare: as :func:`simulator.schedule.jobs` takes it."""
        self.box = box
        self._world = world
        self._seed = world.district.seed
        self.jobs = jobs(box, spare)
        self._streams = {
            job: self._stream(job.probe, job.target, job.resolver or "", job.mode or "") for job in self.jobs
        }
        self._own = self._stream("agent")
        kind = box.venue.kind
        opens, closes = (int(part[:2]) + int(part[3:]) / 60 for part in kind.hours.split("-"))
        self._hours = opens, closes
        self._open_days = [calendar.DAYS.index(day) for day in kind.days]

    def records(self, start_ms: int, end_ms: int) -> list[Record]:
        """Every record whose slot lies in [start, end), in the order of the slots."""
        first = start_ms // 60_000 - _PAD_MINUTES
        minutes = np.arange(first, -(-end_ms // 60_000) + _PAD_MINUTES, dtype=np.int64)
        state = self._world.state(self.box.venue, minutes)
        found: list[Record] = []
        for job in self.jobs:
            numbers, slot_ms = slots(self.box, job, start_ms, end_ms)
            if len(numbers):
                found += self._of_job(job, numbers, slot_ms, state, first)
        if self.box.venue.network == "wifi":
            found += self._events(start_ms, end_ms, state, first)
        found.sort(key=attrgetter("slot"))
        self._note_own_load(found, start_ms, end_ms)
        return found

    def _note_own_load(self, records: list[Record], start_ms: int, end_ms: int) -> None:
        """Light measurements beside a heavy test of our own carry a caution, as the runner gives it, however they end;
        `records` are in the order of their slots."""
        slot = attrgetter("slot")
        for start, end in self._heavy(start_ms, end_ms):
            first = bisect.bisect_left(records, start - _FURTHEST, key=slot)
            last = bisect.bisect_right(records, end + _FURTHEST, key=slot)
            for record in records[first:last]:
                if (
                    record.probe in LOADED
                    and record.duration_s > 0
                    and record.started_at < end
                    and start < record.started_at + timedelta(seconds=record.duration_s)
                    and "cross_traffic" not in record.flags
                ):
                    record.flags = [*record.flags, "cross_traffic"]

    def _heavy(self, start_ms: int, end_ms: int) -> list[tuple[datetime, datetime]]:
        """When heavy tests of our own may run in and near a window, as far as schedule and opening hours say."""
        found = []
        for job in self.jobs:
            if job.probe in HEAVY:
                pad_ms = round(job.period_s * 1000 * JITTER_RATIO) + 240_000
                numbers, slot_ms = slots(self.box, job, start_ms - pad_ms, end_ms + pad_ms)
                starts = slot_ms + self._shift_ms(job, numbers)
                if job.mode != "working":
                    starts = starts[self._is_open(starts // 60_000)]
                for at_ms in starts.tolist():
                    start = _fromtimestamp(at_ms / 1000, UTC)
                    found.append((start, start + timedelta(seconds=HEAVY[job.probe])))
        return found

    def _shift_ms(self, job: Job, numbers: Ints) -> Ints:
        spread = 2 * self._streams[job].uniform(numbers, 990_000) - 1
        return np.asarray(np.round(spread * JITTER_RATIO * job.period_s * 1000).astype(np.int64))

    def _is_open(self, minutes: Ints) -> NDArray[np.bool_]:
        hour = calendar.minute_of_day(minutes) / 60
        opens, closes = self._hours
        days = np.isin(calendar.weekday(calendar.local_day(minutes)), self._open_days)
        return np.asarray(days & (hour >= opens) & (hour < closes))

    def _stream(self, *name: str) -> Stream:
        return Stream(self._seed, self.box.agent, *name)

    def _of_job(self, job: Job, numbers: Ints, slot_ms: Ints, state: State, first: int) -> list[Record]:
        stream = self._streams[job]
        start_ms = slot_ms + self._shift_ms(job, numbers)
        there = state.at(start_ms // 60_000 - first)
        result = PROBES[job.probe](Run(self.box, job, numbers, slot_ms, there, stream))
        if job.probe in HEAVY:
            self._decide(job, slot_ms, result)
        self._own_faults(job, numbers, there, result)
        if there.during("clock_wrong").any():
            ends = (start_ms + 1000 * result.duration_s).astype(np.int64) // 60_000
            self._put_right(there, state.at(ends - first), result)
        return self._made(job, slot_ms, start_ms, there, result)

    def _decide(self, job: Job, slot_ms: Ints, result: Result) -> None:
        """By decision not run: the venue is closed, or the day's data is spent."""
        minutes = slot_ms // 60_000
        hour = calendar.minute_of_day(minutes) / 60
        opens, is_open = self._hours[0], self._is_open(minutes)
        for place, (opened, at) in enumerate(zip(is_open.tolist(), hour.tolist(), strict=True)):
            if not opened and job.mode != "working":
                _not_run(result, place, "quiet_hours")
            elif job.mode == "quick" and result.reason[place] is None:
                # At such a rate the budget ends in the course of the day; the tests before it cost about the same.
                values = result.values[place]
                if (values.down_bytes + values.up_bytes) * max(at - opens, 0) > DAY_BYTES:
                    _not_run(result, place, "budget")

    def _own_faults(self, job: Job, numbers: Ints, state: State, result: Result) -> None:
        """What the box does to its own measurements when it has no time for them. A heavy test is judged when it has
        come to its end, so that its values are kept; a light one is missed."""
        starved = state.fault("cpu_starved", "invalid_ratio")
        if not starved.any() or job.probe == "agent":
            return
        stream = self._streams[job]
        hit = stream.uniform(numbers, 990_001) < starved
        busy = stream.uniform(numbers, 990_002) < 0.15
        heavy = job.probe in HEAVY
        for place in np.flatnonzero(hit).tolist():
            if result.reason[place] in ("quiet_hours", "budget"):
                continue
            if busy[place]:
                _not_run(result, place, "busy")
            elif not heavy:
                _not_run(result, place, "internal")
            elif result.reason[place] is None:
                result.reason[place] = "cpu_limited"

    def _put_right(self, state: State, later: State, result: Result) -> None:
        """A wrong clock is put right by a step, which spoils the runs under way: those that end in `later`."""
        stepped = state.during("clock_wrong") & ~later.during("clock_wrong")
        stepped &= state.fault("clock_wrong", "offset_s") <= NEVER_ANCHORED_S
        for place in np.flatnonzero(stepped).tolist():
            if result.duration_s[place] > 0:
                result.reason[place] = "clock_step"
                result.values[place] = _untimed(result.values[place])

    def _made(self, job: Job, slot_ms: Ints, start_ms: Ints, state: State, result: Result) -> list[Record]:
        make: Any = RECORDS[job.probe]
        dead, replayed, unset = state.during("power_cut"), state.during("agent_offline"), state.during("clock_wrong")
        if dead.any() or replayed.any() or unset.any():
            off_s = state.fault("clock_wrong", "offset_s")
            special = list(zip(dead.tolist(), replayed.tolist(), unset.tolist(), off_s.tolist(), strict=True))
        else:
            special = None
        target, interface, provider, resolver = job.target, self.box.interface, job.provider, job.resolver
        found: list[Record] = []
        for place, (slot, start, reason, took, values) in enumerate(
            zip(
                slot_ms.tolist(),
                start_ms.tolist(),
                result.reason.tolist(),
                np.round(result.duration_s, 4).tolist(),
                result.values,
                strict=True,
            )
        ):
            flags = result.flags.get(place, [])
            clock = "synced"
            if special is not None:
                cut, late, wrong, offset_s = special[place]
                if cut:
                    continue
                if wrong and offset_s > NEVER_ANCHORED_S:
                    clock = "none"
                    flags = [*flags, "clock_unsynced"]
                    slot, start = slot - round(1000 * offset_s), start - round(1000 * offset_s)
                elif wrong:
                    # Its time was put right afterwards: the records waited for it.
                    clock = "corrected"
                    flags = [*flags, "clock_corrected"]
                if late or wrong:
                    flags = [*flags, "replayed"]
            found.append(
                make(
                    target=target,
                    interface=interface,
                    provider=provider,
                    resolver=resolver,
                    slot=_fromtimestamp(slot / 1000, UTC),
                    started_at=_fromtimestamp(start / 1000, UTC),
                    duration_s=took,
                    outcome="ok" if reason is None else _OUTCOMES[reason],
                    reason=reason,
                    flags=flags,
                    clock=clock,
                    values=values,
                )
            )
        return found

    def _events(self, start_ms: int, end_ms: int, state: State, first: int) -> list[Record]:
        """Roams and disconnects: the weaker the signal, the more; by blocks of ten minutes."""
        blocks = np.arange(-(-start_ms // 600_000), -(-end_ms // 600_000), dtype=np.int64)
        if not len(blocks):
            return []
        draws = self._own.uniforms(blocks, 4, 990_010)
        weak = state.retry_ratio[(blocks * 10 - first)]
        found: list[Record] = []
        for place in np.flatnonzero(draws[:, 0] < 0.004 + 0.3 * weak**2).tolist():
            at_ms = int(blocks[place]) * 600_000 + int(draws[place, 1] * 599_000)
            if state.during("power_cut")[at_ms // 60_000 - first] or at_ms >= end_ms:
                continue
            roam = draws[place, 2] < 0.6
            values = WifiEvent(
                kind="roam" if roam else "disconnect",
                from_bssid="02:00:00:00:00:01",
                to_bssid="02:00:00:00:00:02" if roam else None,
                roam_ms=round(40 + 200 * float(draws[place, 3]), 3) if roam else None,
                reason_code=None if roam else 4,
                local=None if roam else False,
            )
            at = _fromtimestamp(at_ms / 1000, UTC)
            make = cast(Any, RECORDS["wifi_event"])
            found.append(
                make(
                    target="-",
                    interface=self.box.interface,
                    slot=at,
                    started_at=at,
                    duration_s=0.0,
                    outcome="ok" if roam else "failed",
                    reason=None if roam else "no_link",
                    values=values,
                )
            )
        return found
