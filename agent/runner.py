"""Runs the jobs: every scheduled slot ends in exactly one record.

A probe says what it measured or why it could not; everything else of a record is made here: times, deadline, outcome,
validity. A probe that hangs, even one that ignores its cancellation, holds up only its own job.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from agent import sockets
from agent.clock import Clock, utc
from agent.config import Job
from agent.facts import Facts
from agent.hours import ALWAYS_OPEN, Hours
from agent.probe import Context, NameServer, Probe, Progress, Target, failure_in, ignore
from agent.probes import PROBES
from agent.schedule import Slot, label_s, slots
from agent.uplinks import Uplinks
from agent.wifi.watch import Watch
from contract.codec import strip_controls
from contract.record import NO_TARGET, RECORDS, Record
from contract.values import VALUES, Values
from contract.vocabulary import REASONS, Flag, Outcome, Reason

LIGHT_AT_ONCE: Final = 4
DEFERRALS: Final = 3
DEFER_S: Final = 600.0
"""How often, and how long at most, a heavy test waits for other people's traffic to end."""
LOOK_S: Final = 0.25
"""How often a run that has to be alone looks whether nothing runs."""
GRACE_S: Final = 0.5
"""What a probe gets to end after its deadline; then it is left alone."""
STEP_S: Final = 2.0
"""A wall clock that moved this much during a run has made its times worthless."""
MISSED_MAX_S: Final = 3600.0
"""Slots missed longer ago (the machine slept) leave no record: they are simply missing."""
STRIKES: Final = 5
LONGEST_PERIOD_S: Final = 3600.0
_WAKE_S: Final = 60.0
"""Longest single sleep: a machine that was suspended notices the time soon after."""

log = logging.getLogger(__name__)

Submit = Callable[[Record, float], None]
"""Takes a record and its slot on boot time; never blocks."""


_OUTCOMES: Final = {reason: cast(Outcome, outcome) for outcome, reasons in REASONS.items() for reason in reasons}


class _End(Struct):
    """How a run ended."""

    reason: Reason | None = None
    """None is `ok`."""
    detail: str | None = None
    values: Values | None = None
    flags: list[Flag] = []

    @property
    def outcome(self) -> Outcome:
        return _OUTCOMES[self.reason] if self.reason else "ok"


def _no_place() -> _End:
    return _End("busy", "no place before the slot's end")


class _Course:
    """How one job has gone so far.

    Five failures in a row of our own side double the period, up to an hour; network failures never do.
    """

    def __init__(self, period_s: float) -> None:
        self.probe_task: asyncio.Task[Values] | None = None
        self.run_task: asyncio.Task[None] | None = None
        self.reason: Reason | None = None
        """Of the last run; None was `ok`."""
        self._most = max(1, int(LONGEST_PERIOD_S / period_s))
        self._invalid = 0
        self._every = 1
        self._left_out = 0

    @property
    def busy(self) -> bool:
        tasks = (self.run_task, self.probe_task)
        return any(task is not None and not task.done() for task in tasks)

    def leaves_out(self) -> bool:
        """Whether the slot that is due is one of those that the longer period leaves out."""
        if self._left_out < self._every - 1:
            self._left_out += 1
            return True
        self._left_out = 0
        return False

    def note(self, end: _End) -> None:
        self.reason = end.reason
        if end.outcome == "invalid":
            self._invalid += 1
            if self._invalid % STRIKES == 0:
                self._every = min(self._every * 2, self._most)
        else:
            self._invalid, self._every = 0, 1
        self._left_out = 0


class Runner:
    """One per agent.

    :param submit: gets every record.
    :param uplinks: who may use an interface when; without one every heavy test may run.
    :param hours: the venue's.
    :param watches: those of the radios, by interface.
    :param progress: told how far a run is.
    :param link: the state of an interface; a test gives its own.
    """

    def __init__(
        self,
        agent: str,
        jobs: Sequence[Job],
        *,
        targets: Mapping[str, Target],
        resolvers: Mapping[str, NameServer],
        clock: Clock,
        facts: Facts,
        submit: Submit,
        uplinks: Uplinks | None = None,
        hours: Hours = ALWAYS_OPEN,
        watches: Mapping[str, Watch] | None = None,
        progress: Progress = ignore,
        probes: Mapping[str, Probe] = PROBES,
        link: Callable[[str], sockets.Link] = sockets.link,
        jitter: random.Random | None = None,
    ) -> None:
        self._agent = agent
        self._jobs = jobs
        self._targets = targets
        self._resolvers = resolvers
        self._clock = clock
        self._facts = facts
        self._submit = submit
        self._uplinks = uplinks or Uplinks({}, hours, clock=clock)
        self._hours = hours
        self._watches = watches or {}
        self._progress = progress
        self._probes = probes
        self._link = link
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._light = asyncio.Semaphore(LIGHT_AT_ONCE)
        self._running = 0
        """Light ones."""
        self._stuck: set[asyncio.Task[Values]] = set()

    @property
    def stuck(self) -> int:
        """Probes that did not end when they were told to."""
        return len(self._stuck)

    async def ended(self) -> bool:
        """Whether no probe goes on after it was told to end; each gets a moment."""
        if self._stuck:
            await asyncio.wait(self._stuck, timeout=GRACE_S)
        return not self._stuck

    async def run(self) -> None:
        """Keep the schedule until cancelled; a run that is cut short then is `invalid`, too."""
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                group.create_task(self._keep(job, group), name=f"schedule {_name(job)}")

    async def once(self) -> None:
        """Every job once, now; the slot is the real start."""
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                now_s = self._clock.boot()
                run = self._run(job, Slot(now_s, now_s), _Course(job.period_s), math.inf)
                group.create_task(run, name=f"once {_name(job)}")

    async def _keep(self, job: Job, group: asyncio.TaskGroup) -> None:
        course = _Course(job.period_s)
        for slot in slots(self._agent, job, self._clock, self._jitter):
            while (left_s := slot.start_s - self._clock.boot()) > 0:
                await self._clock.sleep(min(left_s, _WAKE_S))
            if -left_s >= job.period_s:
                self._miss(job, slot, -left_s)
            elif course.busy:
                self._record(job, slot, _End("busy", "the last run has not ended"))
            elif job.during == "open" and not self._hours.is_open(self._clock.wall()):
                self._record(job, slot, _End("quiet_hours", "the venue is closed"))
            elif course.leaves_out():
                self._record(job, slot, _End(course.reason, "left out after repeated faults of our own"))
            else:
                run = self._run(job, slot, course, slot.boot_s + job.period_s)
                course.run_task = group.create_task(run, name=f"run {_name(job)}")

    def _miss(self, job: Job, slot: Slot, late_s: float) -> None:
        if late_s <= MISSED_MAX_S:
            self._record(job, slot, _End("internal", f"missed by {late_s:.0f} s: the machine slept or was overloaded"))
        else:
            log.warning("%s: a slot was missed by %.0f s", _name(job), late_s)

    async def _run(self, job: Job, slot: Slot, course: _Course, until_s: float) -> None:
        """One run, from waiting for its place to its record."""
        asked_s = self._clock.boot()
        run = self._run_heavy if self._probes[job.probe].heavy else self._run_light
        if job.settings.alone():
            run = self._run_alone
        try:
            end, started_s = await run(job, course, until_s)
        except asyncio.CancelledError:
            self._record(job, slot, _End("internal", "the agent was stopped"), asked_s)
            raise
        if end.reason != "busy":
            _log_change(job, course.reason, end)
            course.note(end)
        self._record(job, slot, end, started_s)

    async def _run_light(self, job: Job, course: _Course, until_s: float) -> tuple[_End, float]:
        """How it ended, and when it really started."""
        asked_s = self._clock.boot()
        if not await self._take(self._light, until_s):
            return _no_place(), asked_s
        started_s = self._clock.boot()
        self._running += 1
        try:
            end = await self._measure(job, course)
        finally:
            self._running -= 1
            self._light.release()
        if "interface" in self._probes[job.probe].needs and self._uplinks.was_loaded(job.interface, started_s):
            end.flags.append("cross_traffic")
        return end, started_s

    async def _run_heavy(self, job: Job, course: _Course, until_s: float) -> tuple[_End, float]:
        """The same, alone on its interface, when others leave it alone and the day's data budget allows it."""
        asked_s = self._clock.boot()
        place = self._uplinks.lock(job.interface)
        for _ in range(1 + DEFERRALS):
            if not await self._take(place, until_s):
                return _no_place(), asked_s
            try:
                if await self._uplinks.is_quiet(job.interface):
                    return await self._spend(job, course)
            finally:
                place.release()
            pause_s = self._jitter.uniform(0.1, 1.0) * DEFER_S
            if self._clock.boot() + pause_s > until_s:
                break
            await self._clock.sleep(pause_s)
        return _End("cross_traffic", "others use the interface"), asked_s

    async def _run_alone(self, job: Job, course: _Course, until_s: float) -> tuple[_End, float]:
        """The same, with no heavy test on its interface and no light one anywhere.

        It waits for a moment at which nothing runs, and keeps nobody from starting until then.
        """
        asked_s = self._clock.boot()
        place = self._uplinks.lock(job.interface)
        while self._running or self._light.locked() or place.locked():
            if self._clock.boot() + LOOK_S > until_s:
                return _no_place(), asked_s
            await self._clock.sleep(LOOK_S)
        started_s = self._clock.boot()
        async with contextlib.AsyncExitStack() as places:
            # All are free, so none is waited for.
            for one in (place, *[self._light] * LIGHT_AT_ONCE):
                await places.enter_async_context(one)
            return await self._measure(job, course), started_s

    async def _spend(self, job: Job, course: _Course) -> tuple[_End, float]:
        started_s = self._clock.boot()
        spending = self._uplinks.begin(job.interface, job.settings)
        if spending is None:
            return _End("budget", "today's data is spent, or kept for the busy hours"), started_s
        end: _End | None = None
        try:
            end = await self._measure(job, course)
            return end, started_s
        finally:
            spending.settle(end.values if end else None)

    async def _take(self, place: asyncio.Semaphore, until_s: float) -> bool:
        if not place.locked():
            return await place.acquire()
        taking = asyncio.create_task(place.acquire(), name="take a place")
        try:
            return await self._within(taking, until_s - self._clock.boot())
        finally:
            taking.cancel()

    async def _measure(self, job: Job, course: _Course) -> _End:
        probe = self._probes[job.probe]
        if "interface" in probe.needs:
            match self._link(job.interface):
                case "missing":
                    return _End("no_interface", f"there is no interface {job.interface}")
                case "down":
                    return _End("no_link", f"{job.interface} is down or has no carrier")
        context = Context(
            agent=self._agent,
            interface=job.interface,
            clock=self._clock,
            facts=self._facts,
            timeout_s=job.timeout_s,
            target=self._targets.get(job.target),
            resolver=self._resolvers.get(job.resolver) if job.resolver else None,
            provider=job.provider,
            uplink=self._uplinks.of(job.interface),
            watch=self._watches.get(job.interface),
            progress=self._progress,
        )
        offset_s = self._clock.wall() - self._clock.boot()
        measuring: Coroutine[Any, Any, Values] = _coroutine(probe, job, context)
        course.probe_task = asyncio.create_task(measuring, name=f"probe {_name(job)}")
        end = await self._await_end(course.probe_task, job, context, local="interface" not in probe.needs)
        end.flags = context.flags
        if end.values is None:
            end.values = context.values
        ended_by_network = end.outcome == "failed" or end.reason == "no_interface"
        if ended_by_network and "interface" in probe.needs and self._link(job.interface) != "up":
            end.reason, end.detail = "no_link", f"{job.interface} went down during the run"
        step_s = self._clock.wall() - self._clock.boot() - offset_s
        if abs(step_s) > STEP_S:
            end.reason, end.detail = "clock_step", f"wall clock moved {step_s:+.1f} s during the run"
        return end

    async def _await_end(self, task: asyncio.Task[Values], job: Job, context: Context, *, local: bool) -> _End:
        try:
            in_time = await self._within(task, job.timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            self._watch_stuck(task)
            raise
        if in_time:
            return _end_of(task)
        task.cancel()
        # In real time: it is our own code that has to end, not the network.
        await asyncio.wait({task}, timeout=GRACE_S)
        if not task.done():
            self._watch_stuck(task)
        if local:
            return _End("internal", f"not done within {job.timeout_s:g} s")
        return _End("timeout", f"no end within {job.timeout_s:g} s")

    def _watch_stuck(self, task: asyncio.Task[Values]) -> None:
        self._stuck.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[Values]) -> None:
        self._stuck.discard(task)
        if not task.cancelled():
            task.exception()  # seen: its record was made at its deadline

    async def _within(self, task: asyncio.Task[Any], seconds: float) -> bool:
        """Whether `task` is done within `seconds` of the injected clock; it is left running if not."""
        if seconds == math.inf:
            await asyncio.wait({task})
            return True
        alarm = asyncio.create_task(self._clock.sleep(seconds), name="deadline")
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
        return task.done()

    def _record(self, job: Job, slot: Slot, end: _End, started_s: float | None = None) -> None:
        now_s = self._clock.boot()
        # Read once: two readings differ, and an equal slot and start would get different labels.
        offset_s = self._clock.wall() - now_s
        end = _sound(end, VALUES[job.probe])
        self._submit(
            RECORDS[job.probe](
                target=job.target,
                interface=job.interface,
                provider=job.provider,
                resolver=job.resolver,
                slot=utc(label_s(slot.boot_s, offset_s)),
                started_at=utc(label_s(now_s if started_s is None else started_s, offset_s)),
                duration_s=0.0 if started_s is None else now_s - started_s,
                outcome=end.outcome,
                reason=end.reason,
                detail=strip_controls(end.detail) if end.detail else None,
                flags=end.flags,
                values=end.values,
            ),
            slot.boot_s,
        )


async def _coroutine(probe: Probe, job: Job, context: Context) -> Values:
    return await probe.measure(job.settings, context)


def _end_of(task: asyncio.Task[Values]) -> _End:
    if task.cancelled():
        return _End("internal", "the probe was cancelled")
    error = task.exception()
    if error is None:
        return _End(values=task.result())
    failure = failure_in(error)
    if failure is not None:
        return _End(failure.reason, failure.detail)
    log.error("a probe raised what it should not", exc_info=error)
    return _End("internal", f"{type(error).__name__}: {error}")


def _sound(end: _End, kind: type[Values]) -> _End:
    """`end`, when the wire can carry its values; else `invalid`: a number that is none would travel as null."""
    values = end.values
    if values is None:
        return end
    if type(values) is not kind:
        return _End("internal", f"{type(values).__name__} is not this probe's type of values", None, end.flags)
    found = msgspec.structs.asdict(values)
    # A server's words may be among them, and the collector would refuse the whole record.
    clean = {name: strip_controls(value, len(value)) for name, value in found.items() if isinstance(value, str)}
    values = msgspec.structs.replace(values, **clean)
    wrong = [name for name, value in found.items() if not _finite(value)]
    if wrong:
        values = msgspec.structs.replace(values, **dict.fromkeys(wrong))
        return _End("internal", f"not a finite number: {', '.join(wrong)}", values, end.flags)
    try:
        msgspec.convert(msgspec.to_builtins(values), kind)
    except msgspec.ValidationError as error:
        return _End("internal", f"outside its bounds: {error}", None, end.flags)
    return msgspec.structs.replace(end, values=values)


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    if isinstance(value, Struct):
        return all(_finite(item) for item in msgspec.structs.astuple(value))
    return True


def _log_change(job: Job, before: Reason | None, end: _End) -> None:
    if end.reason == before:
        return
    if end.reason is None:
        log.info("%s: recovered from %s", _name(job), before)
    else:
        log.warning("%s: %s (%s)", _name(job), end.reason, strip_controls(end.detail or ""))


def _name(job: Job) -> str:
    """For logs and task names."""
    parts = (job.probe, job.target if job.target != NO_TARGET else "", job.provider, job.resolver, job.interface)
    return " ".join(part for part in parts if part)
