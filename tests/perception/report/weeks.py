"""Weeks by hand, as the store would give them."""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from perception import profiles
from perception.calendar import Calendar
from perception.report.facts import At, Blame, Counts, Delay, Facts, Fields, Incident, Setting, Stored, gathered
from perception.report.measures import Measure
from perception.report.model import Report, Text
from perception.report.sections import report as report_of
from perception.scoring.ppi import ppi
from perception.scoring.profile import Profile
from perception.week import Week
from store.register import Roll, Sites

ZONE = ZoneInfo("Asia/Shanghai")
WEEK = Week(2026, 47)
WIFI, GOV = profiles.named("wifi-public-2026"), profiles.named("gov-node-2026")
TYPES = ("library", "gov_hall", "park")
VALUES = {
    "access_success_ratio": 0.97, "online_ms": 4700.0, "good_signal_ratio": 0.88, "availability_ratio": 0.995,
    "reach_ratio": 0.99, "down_mbps": 45.0, "up_mbps": 22.0, "rtt_p50_ms": 18.0, "rt_pdv_p95_ms": 14.0,
    "loss_ratio": 0.003, "working_rise_ms": 60.0, "dns_rtt_ms": 24.0, "web_total_ms": 1400.0,
    "web_success_ratio": 0.99, "video_start_s": 1.2, "video_stall_ratio": 0.004, "video_success_ratio": 1.0,
}  # fmt: skip
"""Venue A of the scoring vectors."""


def sites(wifi: int, gov: int, *, upgraded: date | None = None) -> Roll:
    """A register of so many venues, each with one agent. The first has been upgraded, the next two are its controls."""
    tables: dict[str, object] = {"venues": {}, "sites": []}
    venues, boxes = tables["venues"], tables["sites"]
    assert isinstance(venues, dict)
    assert isinstance(boxes, list)
    for number in range(wifi + gov):
        network = "wifi" if number < wifi else "gov"
        slug = f"{network}-{number:02d}"
        kind = TYPES[number % len(TYPES)] if network == "wifi" else "node"
        venues[slug] = {
            "name": {"zh": f"第{number}场所", "en": f"Venue {number}"},
            "type": kind,
            "unit": "区文化和旅游局",
        }
        if number == 0 and upgraded:
            venues[slug] |= {"upgraded": upgraded, "controls": [f"wifi-{n:02d}" for n in range(1, min(3, wifi))]}
        boxes.append({"agent": f"box-{number:02d}", "interface": "wlan0", "from": date(2024, 1, 1), "venue": slug,
                      "network": network})  # fmt: skip
    return Roll(Sites.model_validate(tables))


def week_score(profile: Profile, factor: float = 1.0, *, without: Sequence[str] = ()) -> dict[str, object]:
    """A stored week; `factor` above 1 makes rates better."""
    values: dict[str, float | None] = {name: x * factor if name.endswith("mbps") else x for name, x in VALUES.items()}
    values |= dict.fromkeys(without)
    found = ppi(profile, values)
    row: dict[str, object] = {
        "ppi": found.score, "ppi_lo": None if found.score is None else found.score - 2,
        "ppi_hi": None if found.score is None else found.score + 2, "level": found.level,
        "partial": int(found.partial), "missing": ",".join(found.missing), **found.dimensions, **values,
        "down_busy_mbps": 40.0 * factor, "down_idle_mbps": 50.0 * factor, "iqb_95": 0.57, "bloat_grade": "B",
        "profile_sha": profile.sha256,
    }  # fmt: skip
    row |= {f"{name}_score": score for name, score in found.indicators.items()}
    row |= {f"{name}_n": 0 if value is None else 200 for name, value in values.items()}
    return row


def setting(week: Week, roll: Roll, calendar: Calendar | None = None, **more: object) -> Setting:
    """The two profiles that come with Wanggan."""
    return Setting(
        week=week, zone=ZONE, roll=roll, calendar=calendar or Calendar(), profiles={"wifi": [WIFI], "gov": [GOV]},
        district=Text("某某区", "Some District"), author=Text("区大数据中心", "District Data Centre"),
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def stored(
    made: Setting, *, weeks: int = 4, gaps: Sequence[str] = (), silent: Sequence[str] = (), series: str | None = None
) -> Stored:
    """Scores of this and earlier weeks. Venues in `gaps` have three days and half of their slots, those in `silent`
    nothing at all; `series` is another profile for all weeks but this one."""
    random = np.random.Generator(np.random.PCG64(1))
    by_week: dict[Week, dict[At, Fields]] = {}
    days: dict[At, dict[date, float]] = {}
    hours: dict[Week, dict[At, dict[int, float]]] = {}
    slots: dict[tuple[str, str, str], Counts] = {}
    online: dict[str, tuple[float, int]] = {}
    for place, (slug, _) in enumerate(sorted(made.roll.venues.items())):
        network = slug.split("-")[0]
        profile = made.profiles[network][0]
        part = 0.5 if slug in gaps else 0.0 if slug in silent else 1.0
        for probe, expected in (("latency", 30240), ("dns", 8064), ("wifi_join", 168)):
            if network == "gov" and probe == "wifi_join":
                continue
            n = round(expected * part)
            failed, invalid, skipped = n // 100, n // 200, n // 50
            slots[slug, network, probe] = Counts(
                n=n, ok=n - failed - invalid - skipped, failed=failed, invalid=invalid, skipped=skipped,
                planned=skipped // 2, expected=expected,
                reasons=Counter(timeout=failed, cpu_limited=invalid, quiet_hours=skipped // 2,
                                budget=skipped - skipped // 2),
            )  # fmt: skip
        up, known = online.get(network, (0.0, 0))
        online[network] = (up + 10080 * part, known + 10080)
        if slug in silent:
            continue
        for back in range(weeks):
            week = made.week.shifted(-back)
            at = At(slug, network, series if series and back else profile.series)
            factor = 0.35 + 0.1 * place - (0.05 * back if place == 1 else 0.0)
            row = week_score(profile, factor)
            if slug in gaps and not back:
                row |= {"ppi_lo": None, "ppi_hi": None, "partial": 1}
            by_week.setdefault(week, {})[at] = row
            level = row["ppi"]
            assert isinstance(level, float)
            length = 3 if slug in gaps and not back else 7
            days.setdefault(at, {}).update({day: level + float(random.normal(0, 1)) for day in week.days[:length]})
            if back < 2:
                noise = random.normal(0, 1.5, 24 * length)
                hours.setdefault(week, {})[at] = {hour: level + float(x) for hour, x in enumerate(noise)}
    nodes = [slug for slug in made.roll.venues if slug.startswith("gov") and slug not in silent]
    start_ns = made.week.start_ns(made.zone)
    return Stored(
        weeks=by_week,
        days=days,
        hours=hours,
        slots=slots,
        blame={("wifi-00", "wifi"): {"uplink": Blame(5, Text("核心 80 ms：接入链路。", "Core 80 ms: uplink."))}},
        incidents=[
            Incident(
                venue=slug, network="gov", segment="uplink", start_ns=start_ns + 30 * 3600 * 10**9,
                end_ns=start_ns + 33 * 3600 * 10**9, hours=3, confidence=0.9,
                sentence=Text("网关正常，核心 120 ms：接入链路。", "Gateway fine, core 120 ms: uplink."),
            )
            for slug in nodes[:1]
        ],
        delays={slug: Delay(12.3, 31.0, 10080) for slug in nodes},
        online=online,
        signals={
            slug: {day: -56.0 - (7.0 if slug == "wifi-00" and day < made.week.shifted(-1).monday else 0.0)
                   + 0.1 * (day.toordinal() % 5) for day in of}
            for at, of in days.items() if (slug := at.venue).startswith("wifi")
        },
    )  # fmt: skip


def measures() -> list[Measure]:
    """One done, one overdue, one under way."""
    return [
        Measure(
            venue="wifi-00", action="更换二楼接入点", owner="区图书馆", due=date(2026, 11, 18), done=date(2026, 11, 17)
        ),
        Measure(venue="wifi-01", action="上联扩容至 500 Mbps", owner="运营商", due=date(2026, 11, 20)),
        Measure(action="编制信道规划", owner="区大数据中心", due=date(2026, 12, 20)),
    ]


def facts(
    week: Week = WEEK, *, wifi: int = 6, gov: int = 3, calendar: Calendar | None = None, weeks: int = 4,
    gaps: Sequence[str] = (), silent: Sequence[str] = (), series: str | None = None, **more: object,
) -> Facts:  # fmt: skip
    """Everything about a week that was made up."""
    upgraded = week.monday - timedelta(weeks=2) + timedelta(days=2)
    made = setting(week, sites(wifi, gov, upgraded=upgraded), calendar, measures=measures(), **more)
    return gathered(made, stored(made, weeks=weeks, gaps=gaps, silent=silent, series=series))


def report(week: Week = WEEK, **more: object) -> Report:
    """Its report."""
    return report_of(facts(week, **more), "cd" * 32)  # type: ignore[arg-type]
