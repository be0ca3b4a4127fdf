"""One hour of one probe's raw rows to its rollup rows: pure, and columns all the way.

What counts (contract.series tells the names): values of `ok` slots, and the loss of a slot where nothing came back. A
failed slot is +infinity in the quantiles of times and the value 0 among rates. Slots in a maintenance window are out of
everything but `n` and `planned`. Latency mixes no two methods: the hour's commonest makes the row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.record import NO_TARGET
from contract.series import COUNTS, EXTRA, METRICS, RATES, ROLLUPS, SKETCHED, TIMES, FieldValue
from perception.rollups.raw import Floats, Ints, Raw
from perception.sketch import LARGEST, keys
from store.point import Point

HOUR_NS: Final = 3600 * 10**9
SLOT_NS: Final = 300 * 10**9
"""Availability is judged by slots of five minutes."""
SLOTS: Final = HOUR_NS // SLOT_NS

GOOD_RSSI_DBM: Final = -65.0
GOOD_SNR_DB: Final = 20.0
"""A good signal is above both: operators' acceptance of public Wi-Fi."""

PLANNED: Final = frozenset({"quiet_hours", "suppressed"})
"""Reasons of slots that were left out by plan."""

Tags = tuple[str, ...]
"""In the order of :data:`contract.series.ROLLUP_TAGS`."""
Window = tuple[int, int]
"""From, and until before; nanoseconds."""

_OK, _FAILED, _INVALID, _SKIPPED, _OUT = range(5)
_LABELS: Final = {"portal": "portal.", "wifi_join": "stage.", "wifi_event": "event."}
_LOSSES: Final = frozenset({"loss_ratio", "loss_up_ratio", "loss_down_ratio"})

Bools = NDArray[np.bool_]


class LocalHour(NamedTuple):
    """An hour as people there live it."""

    busy: int
    """1 in busy hours."""
    hour: int
    """0-23."""
    dow: int
    """1-7, Monday is 1."""


def _no_windows(venue: str, target: str) -> Sequence[Window]:
    return ()


def _by_name(agent: str, target: str) -> bool:
    return target == "gateway"


@dataclass(frozen=True)
class Facts:
    """What the rows themselves do not say."""

    hour_ns: int
    """Start of the hour."""
    local: Callable[[str, str], LocalHour]
    """By venue and network."""
    expected: Mapping[str, Mapping[Tags, int]] = field(default_factory=dict)
    """By probe and series, slots that the announced jobs put into the hour; also of agents that are silent."""
    maintenance: Callable[[str, str], Sequence[Window]] = _no_windows
    """By venue and target."""
    is_gateway: Callable[[str, str], bool] = _by_name
    """Whether an agent's target is its first hop: that tells nothing of what lies behind it."""


def roll(probe: str, raw: Raw, facts: Facts) -> list[Point]:
    """The hour's rows of a probe, those of silent series included, in the order of their tags."""
    groups = _Groups(probe, raw, facts)
    columns = groups.columns()
    rows = list(zip(*columns, strict=True)) if groups.tags else []
    key = ROLLUPS[probe].key
    points = [Point(key, tags, facts.hour_ns, row) for tags, row in zip(groups.tags, rows, strict=True)]
    return points + groups.availability() if probe == "latency" else points


def emptied(probe: str, tags: Tags, hour_ns: int, local: LocalHour, **extra: FieldValue) -> Point:
    """The row of a series without records in the hour: written over what a former run left there. `extra` are fields
    that say something all the same."""
    table = ROLLUPS[probe]
    nothing: dict[str, FieldValue] = {**dict.fromkeys(COUNTS, 0), "reasons": "", **local._asdict()}
    for metric in METRICS[probe]:
        nothing |= {f"{metric}_n": 0, f"{metric}_sum": 0.0}
        if metric in SKETCHED.get(probe, ()):
            nothing[f"{metric}_sketch"] = "0;"
    nothing |= {name: "" if kind == "str" else 0 for name, kind in EXTRA.get(probe, {}).items()}
    nothing |= extra
    return Point(table.key, tags, hour_ns, tuple(nothing.get(name) for name in table.fields))


class _Groups:
    """The rows of one probe and hour, by the rollup series that they belong to."""

    def __init__(self, probe: str, raw: Raw, facts: Facts) -> None:
        self._probe = probe
        self._raw = raw
        self._facts = facts
        self._expected = facts.expected.get(probe, {})
        of_series = [(*tags[:4], *tags[5:]) for tags in raw.tags]  # the interface makes no series of its own
        self.tags = sorted({*of_series, *self._expected})
        self._size = len(self.tags)
        place = {tags: number for number, tags in enumerate(self.tags)}
        self._group = np.array([place[tags] for tags in of_series], np.int64)[raw.series]
        self._inside = self._windows()
        self._outcome = np.where(self._inside, _OUT, raw.outcome)
        outcomes = np.bincount(self._group * 5 + self._outcome, minlength=self._size * 5).reshape(self._size, 5)
        self._outcomes = outcomes
        self._failed: Ints = outcomes[:, _FAILED]
        self._implausible = np.zeros(len(raw), np.bool_)
        self._method = np.zeros(self._size, np.int64)
        self._chosen = np.ones(len(raw), np.bool_)
        if probe == "latency":
            self._choose_method()

    def columns(self) -> list[Sequence[FieldValue]]:
        """A column for each field of the series, in its order."""
        measured: list[Sequence[FieldValue]] = []
        for metric in METRICS[self._probe]:  # first: they find what is implausible
            measured += self._metric(metric)
        return [*self._counts(), *measured, *self._extra()]

    # -- counts

    def _windows(self) -> Bools:
        """Rows whose slot lies in a maintenance window; and, of each group, the share of its hour that does."""
        inside = np.zeros(len(self._raw), np.bool_)
        self._covered = np.zeros(self._size)
        start, end = self._facts.hour_ns, self._facts.hour_ns + HOUR_NS
        for number, tags in enumerate(self.tags):
            windows = self._facts.maintenance(tags[1], tags[3])
            for begin, stop in windows:
                if begin < end and start < stop:
                    slot = self._raw.time_ns
                    inside |= (self._group == number) & (slot >= begin) & (slot < stop)
            self._covered[number] = _covered(windows, start, end) / HOUR_NS
        return inside

    def _counts(self) -> list[Sequence[FieldValue]]:
        outcomes = self._outcomes
        expected = [self._expected.get(tags, 0) for tags in self.tags]
        words = self._raw.words
        left_out = np.array([word in PLANNED for word in words])[self._raw.reason] & (self._outcome == _SKIPPED)
        under_repair = np.maximum(outcomes[:, _OUT], np.rint(np.array(expected, np.float64) * self._covered))
        planned = np.bincount(self._group[left_out], minlength=self._size) + under_repair.astype(np.int64)
        local = [self._facts.local(tags[1], tags[2]) for tags in self.tags]
        return [
            [moment.busy for moment in local],
            [moment.hour for moment in local],
            [moment.dow for moment in local],
            outcomes.sum(axis=1).tolist(),
            (outcomes[:, _OK] + outcomes[:, _FAILED]).tolist(),
            outcomes[:, _OK].tolist(),
            outcomes[:, _FAILED].tolist(),
            outcomes[:, _INVALID].tolist(),
            outcomes[:, _SKIPPED].tolist(),
            planned.tolist(),
            expected,
            self._reasons(),
        ]

    def _reasons(self) -> list[FieldValue]:
        raw = self._raw
        words = [*raw.words, *(f"{_LABELS.get(self._probe, '')}{word}" for word in raw.words)]
        words += ["maintenance", "implausible"]
        told = ~self._inside
        found = [
            (self._group[told], raw.reason[told]),
            (self._group[self._inside], np.full(int(self._inside.sum()), len(words) - 2)),
            (self._group[self._implausible], np.full(int(self._implausible.sum()), len(words) - 1)),
        ]
        if self._probe in _LABELS:
            labelled = told & (raw.label != 0)
            found.append((self._group[labelled], raw.label[labelled] + len(raw.words)))
        both = np.concatenate([group * len(words) + word for group, word in found])
        lists: list[list[str]] = [[] for _ in self.tags]
        for code, count in zip(*(a.tolist() for a in np.unique(both, return_counts=True)), strict=True):
            group, word = divmod(code, len(words))
            if words[word]:
                lists[group].append(f"{words[word]}={count}")
        return [",".join(sorted(names)) for names in lists]

    # -- values

    def _choose_method(self) -> None:
        """Of each group the commonest method; the first by name where two are equally common."""
        label, words = self._raw.label, self._raw.words
        known = (label != 0) & ((self._outcome == _OK) | (self._outcome == _FAILED))
        counts = np.bincount(self._group[known] * len(words) + label[known], minlength=self._size * len(words))
        by_name = sorted(range(len(words)), key=words.__getitem__)
        counts = counts.reshape(self._size, len(words))[:, by_name]
        best = np.array(by_name, np.int64)[counts.argmax(axis=1)] if self._size else np.zeros(0, np.int64)
        self._method = np.where(counts.sum(axis=1) > 0, best, 0)
        self._chosen = (label == 0) | (label == self._method[self._group])

    def _metric(self, metric: str) -> list[Sequence[FieldValue]]:
        probe, raw = self._probe, self._raw
        value = raw.values[metric]
        counts = (self._outcome == _OK) & self._chosen
        if metric in _LOSSES:
            all_lost = np.array([word == "all_lost" for word in raw.words])[raw.reason]
            counts = counts | (all_lost & (self._outcome == _FAILED) & self._chosen)
        if metric == "portal_ms":  # a portal in the way is a failure, and the only one that has a page
            counts = counts | (self._outcome == _FAILED)
        if metric in RATES.get(probe, ()):
            value = np.where(self._outcome == _FAILED, 0.0, value)
            counts = counts | (self._outcome == _FAILED)
        counts &= ~np.isnan(value)
        absurd = counts & (np.abs(value) > LARGEST)
        self._implausible |= absurd
        counts &= ~absurd
        failures = self._failed if metric in TIMES.get(probe, ()) else np.zeros(self._size, np.int64)
        return _distribution(
            self._group[counts], value[counts], failures, self._size, metric in SKETCHED.get(probe, ())
        )

    def _extra(self) -> list[Sequence[FieldValue]]:
        if self._probe == "latency":
            zero = [0] * self._size
            return [[self._raw.words[method] for method in self._method.tolist()], zero, zero]
        if self._probe == "wifi_link":
            rssi, snr = self._raw.values["rssi_dbm"], self._raw.values["snr_db"]
            known = (self._outcome == _OK) & ~np.isnan(rssi) & ~np.isnan(snr)
            good = known & (rssi > GOOD_RSSI_DBM) & (snr > GOOD_SNR_DB)
            return [np.bincount(self._group[rows], minlength=self._size).tolist() for rows in (good, known)]
        return []

    # -- availability

    def availability(self) -> list[Point]:
        """A row with the target `-` for each agent at its venue: five-minute slots with at least two independent
        targets (a gateway is none), and those of them in which at least one answered."""
        homes = sorted({tags[:3] for tags in self.tags if self._independent(tags)})
        if not homes:
            return []
        place = {home: number for number, home in enumerate(homes)}
        home = np.array([place.get(tags[:3], 0) for tags in self.tags], np.int64)
        targets = {name: number for number, name in enumerate(sorted({tags[3] for tags in self.tags}))}
        target = np.array([targets[tags[3]] for tags in self.tags], np.int64)
        counted = np.array([self._independent(tags) for tags in self.tags])
        rows = counted[self._group] & ((self._outcome == _OK) | (self._outcome == _FAILED))
        group = self._group[rows]
        slot = home[group] * SLOTS + np.clip((self._raw.time_ns[rows] - self._facts.hour_ns) // SLOT_NS, 0, SLOTS - 1)
        tried = np.unique(slot * len(targets) + target[group]) // len(targets)
        size = len(homes) * SLOTS
        judged = np.bincount(tried, minlength=size) >= 2
        answered = np.bincount(slot[self._outcome[rows] == _OK], minlength=size) > 0
        n = judged.reshape(-1, SLOTS).sum(axis=1).tolist()
        ok = (judged & answered).reshape(-1, SLOTS).sum(axis=1).tolist()
        return [
            emptied(
                "latency",
                (*at, NO_TARGET, "", ""),
                self._facts.hour_ns,
                self._facts.local(at[1], at[2]),
                avail_5m_ok=ok[number],
                avail_5m_n=n[number],
            )
            for at, number in place.items()
        ]

    def _independent(self, tags: Tags) -> bool:
        return not self._facts.is_gateway(tags[0], tags[3])


def _covered(windows: Sequence[Window], start: int, end: int) -> int:
    """Nanoseconds of [start, end) that lie in any of the windows."""
    covered, reached = 0, start
    for begin, stop in sorted(windows):
        begin, stop = max(begin, reached), min(stop, end)
        if begin < stop:
            covered += stop - begin
            reached = stop
    return covered


def _distribution(group: Ints, value: Floats, failures: Ints, size: int, sketched: bool) -> list[Sequence[FieldValue]]:
    """The columns of one metric: n, sum, min, max, p50, p95 and, where wanted, the sketch."""
    order = np.lexsort((value, group))
    group, value = group[order], value[order]
    n = np.bincount(group, minlength=size)
    start = np.cumsum(n) - n
    # Added in the order of size: the same figure whatever order a store gives the rows in.
    total = np.bincount(group, weights=value, minlength=size)
    columns: list[Sequence[FieldValue]] = [
        n.tolist(),
        total.tolist(),
        _picked(value, start, n > 0),
        _picked(value, start + n - 1, n > 0),
        _quantiles(value, start, n, failures, 0.5),
        _quantiles(value, start, n, failures, 0.95),
    ]
    if sketched:
        columns.append(_sketches(group, value, failures, size))
    return columns


def _picked(value: Floats, place: Ints, where: Bools) -> list[FieldValue]:
    found: list[FieldValue] = [None] * len(where)
    for number in np.flatnonzero(where).tolist():
        found[number] = float(value[place[number]])
    return found


def _quantiles(value: Floats, start: Ints, n: Ints, failures: Ints, p: float) -> list[FieldValue]:
    """By the rule of :mod:`perception.sketch`: linear between ranks (type 7) where all are finite, nearest rank where
    some are failures; None for an infinite one."""
    place = p * np.maximum(n - 1, 0)
    low = np.floor(place).astype(np.int64)
    rank = np.maximum(np.ceil(p * (n + failures) - 1e-9).astype(np.int64) - 1, 0)
    low = np.where(failures > 0, rank, low)
    part = np.where(failures > 0, 0.0, place - low)
    known = low < n
    first = np.where(known, start + low, 0)
    second = np.where(known & (part > 0), first + 1, first)
    if not len(value):
        return [None] * len(n)
    at = value[first]
    found = at + part * (value[second] - at)
    return [number if is_known else None for number, is_known in zip(found.tolist(), known.tolist(), strict=True)]


def _sketches(group: Ints, value: Floats, failures: Ints, size: int) -> list[FieldValue]:
    """Encoded as :meth:`perception.sketch.Sketch.encode` does it; `value` ascends within each group."""
    bucket = keys(value)
    new = np.ones(len(bucket), np.bool_)
    new[1:] = (bucket[1:] != bucket[:-1]) | (group[1:] != group[:-1])
    first = np.flatnonzero(new)
    count = np.diff(np.append(first, len(bucket)))
    parts: list[list[str]] = [[] for _ in range(size)]
    told = zip(group[first].tolist(), bucket[first].tolist(), count.tolist(), strict=True)
    for number, key, times in told:
        parts[number].append(str(key) if times == 1 else f"{key}:{times}")
    return [f"{failed};{','.join(listed)}" for failed, listed in zip(failures.tolist(), parts, strict=True)]
