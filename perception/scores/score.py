"""All scores of a venue over some time, under one profile."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from contract.series import INDICATORS, SCORE, FieldValue
from perception.scores.samples import Sample, Venue
from perception.scoring.aim import aim
from perception.scoring.bloat import bloat
from perception.scoring.emodel import mos
from perception.scoring.iqb import iqb
from perception.scoring.ppi import Ppi, ppi, r_factor
from perception.scoring.profile import Indicator, Profile
from perception.scoring.qoo import qoo
from perception.scoring.web_log import web_log
from perception.statistics.busy import combine
from perception.statistics.floors import is_enough
from perception.statistics.intervals import around
from store.point import Point

Period = Literal["hour", "day", "week"]

_RATIOS: Final = frozenset(
    {"access_success_ratio", "good_signal_ratio", "availability_ratio", "reach_ratio", "web_success_ratio"}
    | {"video_success_ratio"}
)
_ANSWERS: Final = frozenset({"dns_rtt_ms", "web_total_ms", "video_start_s"})
"""Times of those that answered: their failures count in a ratio beside them, or not here."""
_PERCENTILES: Final = {90.0: 0.9, 95.0: 0.95, 99.0: 0.99}


def values(venue: Venue, profile: Profile, period: Period) -> dict[str, float | None]:
    """What was measured, by :data:`contract.series.INDICATORS`; +infinity for a time-out, None for what is unknown.

    Ratios are ok of all tests. Times are medians: of joins and of the core's round trip with failures as infinite, of
    names, pages and videos of the answers alone (their failures have a ratio of their own). Loss and stalls are means.
    Rates are means of busy and idle hours, weighed as the profile says; an hour or day that has only one kind takes it.
    """
    found: dict[str, float | None] = {}
    for name in INDICATORS:
        tests = venue.samples[name]
        if name in _RATIOS:
            found[name] = tests.ratio
        elif name in ("down_mbps", "up_mbps"):
            found[name] = _rate(tests, profile, period)
        elif name == "loss_ratio":
            found[name] = tests.mean(_fail_value(profile.indicator(name)))
        elif name == "video_stall_ratio":
            found[name] = tests.mean()
        else:
            found[name] = tests.quantile(0.5, failures=name not in _ANSWERS)
    return found


def score(
    venue: Venue, profile: Profile, period: Period, *, days: Sequence[float] = ()
) -> tuple[dict[str, FieldValue], Ppi]:
    """Every field of :data:`contract.series.SCORE`, and the index; `days` are those of a week, for its interval."""
    measured = values(venue, profile, period)
    counts = {name: venue.samples[name].count for name in INDICATORS}
    # Floors are a week's: an hour cannot have fifty joins.
    rated = ppi(profile, measured, counts=counts if period == "week" else None)
    interval = around(rated.score, days).within(0, 100)
    fields: dict[str, FieldValue] = {
        "ppi": rated.score,
        "ppi_lo": interval.lo,
        "ppi_hi": interval.hi,
        "level": rated.level,
        "partial": int(rated.partial),
        "missing": ",".join(rated.missing),
        **rated.dimensions,
        **measured,
        **{f"{name}_n": counts[name].n for name in INDICATORS},
        **{f"{name}_score": rated.indicators.get(name) for name in _scored()},
        **_rates(venue),
        **_others(venue, profile, measured),
        "profile_sha": profile.sha256,
        "completeness": venue.completeness,
        "validity": venue.slots.validity,
        "n": venue.slots.attempted,
    }
    return fields, rated


def point(
    key: tuple[str, str], profile: Profile, period: Period, time_ns: int, fields: Mapping[str, FieldValue]
) -> Point:
    """As it is stored; `key` is venue and network. What is null or infinite is named, so that no reader takes what a
    former run left in its place."""
    timeouts = [name for name, value in fields.items() if isinstance(value, float) and math.isinf(value)]
    absent = [name for name in SCORE.fields if fields.get(name) is None and name not in ("absent", "timeouts")]
    told = dict(fields) | dict.fromkeys(timeouts) | {"absent": ",".join(absent), "timeouts": ",".join(timeouts)}
    return Point(SCORE.key, (*key, profile.series, period), time_ns, tuple(told.get(name) for name in SCORE.fields))


def _scored() -> list[str]:
    return [name.removesuffix("_score") for name in SCORE.fields if name.endswith("_score")]


def _fail_value(indicator: Indicator | None) -> float | None:
    value = None if indicator is None else indicator.fail_value
    return None if value is None or value == "inf" else float(value)


def _rate(tests: Sample, profile: Profile, period: Period) -> float | None:
    both = combine(tests.busy_mean, tests.idle_mean, profile.busy_idle.w_busy).value
    return tests.mean() if both is None and period != "week" else both


def _rates(venue: Venue) -> dict[str, FieldValue]:
    down, up = venue.samples["down_mbps"], venue.samples["up_mbps"]
    return {
        "down_busy_mbps": down.busy_mean,
        "down_idle_mbps": down.idle_mean,
        "up_busy_mbps": up.busy_mean,
        "up_idle_mbps": up.idle_mean,
    }


def _others(venue: Venue, profile: Profile, measured: Mapping[str, float | None]) -> dict[str, FieldValue]:
    """The scores beside the index."""
    rtt = venue.samples["rtt_p50_ms"]
    percentiles = {
        percentile: rtt.quantile(p, failures=True) if is_enough(rtt.n, p) else None
        for percentile, p in _PERCENTILES.items()
    }
    applications = {
        name: qoo(
            need.requirement(), rtt_ms=percentiles, loss_ratio=measured["loss_ratio"], down_mbps=measured["down_mbps"]
        ).score
        for name, need in profile.qoo.items()
    }
    r = r_factor(profile, measured)
    r = None if r is None else max(0.0, r)
    bufferbloat = bloat(_rise(venue, "loaded_down_rtt_p50_ms"), _rise(venue, "loaded_up_rtt_p50_ms"))
    points = aim(
        rtt_ms=measured["rtt_p50_ms"],
        ipdv_mean_ms=venue.samples["ipdv_mean_ms"].mean(),
        loss_ratio=measured["loss_ratio"],
        down_mbps=measured["down_mbps"],
        rise_ms=measured["working_rise_ms"],
    )
    directions = [mean for mean in (venue.samples[name].mean() for name in ("rpm_down", "rpm_up")) if mean is not None]
    return {
        "iqb_typ": iqb({"core": _line(venue, 0.5)}, use_cases=profile.use_cases()).score,
        "iqb_95": iqb({"core": _line(venue, 0.95)}, use_cases=profile.use_cases()).score,
        "qoo_web": applications.get("web"),
        "qoo_meeting": applications.get("meeting"),
        "rpm": min(directions, default=None),
        "r_factor": r,
        "mos": None if r is None else mos(r),
        "web_mos": web_log(
            measured["web_total_ms"],
            t5_s=profile.web_log.t5_s,
            t1_s=profile.web_log.t1_s,
            failed=measured["web_success_ratio"] == 0,
        ),
        "bloat_rise_ms": bufferbloat.rise_ms,
        "bloat_grade": bufferbloat.grade,
        "aim_streaming": _float(points.streaming.points),
        "aim_gaming": _float(points.gaming.points),
        "aim_rtc": _float(points.rtc.points),
    }


def _line(venue: Venue, p: float) -> dict[str, float | None]:
    """The barometer's four values: rates at their low end, round trip and loss at their high end; None where that
    takes more tests than there are."""

    def at(name: str, q: float) -> float | None:
        tests = venue.samples[name]
        wanted = p == 0.5 or is_enough(tests.n, q)
        return tests.quantile(q, failures=name == "rtt_p50_ms") if wanted else None

    low = round(1 - p, 6)
    return {
        "down_mbps": at("down_mbps", low),
        "up_mbps": at("up_mbps", low),
        "rtt_ms": at("rtt_p50_ms", p),
        "loss_ratio": at("loss_ratio", p),
    }


def _rise(venue: Venue, loaded: str) -> float | None:
    """Mean round trip under load over the idle one; None where it was not measured."""
    under_load, idle = venue.samples[loaded].mean(), venue.samples["idle_rtt_p50_ms"].mean()
    return None if under_load is None or idle is None else under_load - idle


def _float(number: int | None) -> float | None:
    return None if number is None else float(number)
