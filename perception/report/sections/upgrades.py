"""改造成效: before and after an upgrade, less the change of venues that were not upgraded."""

from collections.abc import Sequence
from datetime import date, timedelta

from perception.report.facts import At, Facts, Setting, VenueFacts
from perception.report.model import Cell, Column, Line, Section, Table, Text, count, figure
from perception.report.sections.ranking import score
from perception.statistics.upgrade import Answer, Effect, Windows, effect, windows
from perception.week import Week

ANSWERS: dict[Answer, Text] = {
    "better": Text("有改善", "better"),
    "no_evidence": Text("无证据", "no evidence"),
    "worse": Text("变差", "worse"),
    "no_control": Text("无对照，不作因果判断", "no control: no claim on the cause"),
    "no_baseline": Text("基线或改造后不足", "baseline or after too short"),
}
SIGNAL: dict[Answer, Text] = {
    "better": Text("；信号增强", "; signal stronger"),
    "worse": Text("；信号减弱", "; weaker"),
}
"""Of the radio: whether anything was renewed, also where users had nothing to gain."""
LEAST_DB = 2.0
NOTE = Text(
    "基线为改造前最多 4 个整周，改造当周不计；效果＝本场所前后之差减去对照场所前后之差，逐日对比，以整周均值为样本，95% 区间为 t 区间。"
    "区间不含 0 且不小于 1 分才称改善或变差；信号为日均 RSSI 的同样计算，不小于 2 dB 才称增强或减弱。",
    "The baseline is up to 4 whole weeks before the upgrade; its own week is left out. Effect: the venue's change less "
    "that of its controls, day against day; 95 % interval by Student's t over weeks. Better or worse is "
    "what excludes 0 and is at least 1 point; signal is the same of the days' mean RSSI, from 2 dB on.",
)


def upgraded(facts: Facts) -> list[tuple[VenueFacts, date]]:
    """Venues that were upgraded, not later than this week, with the local day."""
    found = []
    for network in facts.venues.values():
        for venue in network:
            at = venue.venue.upgraded
            if at is not None:
                day = (at.astimezone(facts.setting.zone) if at.tzinfo else at).date()
                if day <= facts.setting.week.days[-1]:
                    found.append((venue, day))
    return found


def needed(setting: Setting) -> set[date]:
    """Days whose scores the section compares."""
    found: set[date] = set()
    for venue in setting.roll.venues.values():
        if venue.upgraded is not None:
            at = venue.upgraded
            frame = window((at.astimezone(setting.zone) if at.tzinfo else at).date(), setting.week)
            for first, end in frame or ():
                found |= {first + timedelta(days=n) for n in range((end - first).days)}
    return found


def concerned(setting: Setting) -> set[str]:
    """Venues that the section compares: upgraded ones and their controls."""
    upgraded = [venue for venue in setting.roll.venues.values() if venue.upgraded is not None]
    return {slug for venue in upgraded for slug in (venue.slug, *venue.controls)}


def window(day: date, week: Week) -> Windows | None:
    """Whole weeks on either side, up to this week's last day."""
    return windows(day, week.days[-1])


def section(facts: Facts) -> Section:
    """One row an upgraded venue."""
    rows = tuple(_row(facts, venue, day) for venue, day in upgraded(facts))
    table = Table(
        id="upgrades",
        title=Text("改造前后", "Before and after"),
        columns=(
            Column(Text("场所", "Venue"), 2.2, figures=False),
            Column(Text("改造日期", "Upgraded"), 1.2, figures=False),
            Column(Text("基线", "Baseline"), 0.8),
            Column(Text("改造后", "After"), 0.8),
            Column(Text("本周", "This week"), 0.8),
            Column(Text("双重差分［95% 区间］", "Effect [95 %]"), 1.7),
            Column(Text("信号变化［95% 区间］", "Signal [95 %]"), 1.5),
            Column(Text("对照场所数", "Controls"), 0.8),
            Column(Text("结论", "Conclusion"), 1.8, figures=False),
        ),
        rows=rows,
        empty=Text("无已改造场所。", "No venue was upgraded."),
    )
    return Section(8, "upgrades", Text("改造成效", "Upgrades"), (table, Line(NOTE)) if rows else (table,))


def _row(facts: Facts, venue: VenueFacts, day: date) -> tuple[Cell, ...]:
    found = _effect(facts, venue, day)
    signal = _signal(facts, venue, day)
    key = f"{venue.key}/upgrade"
    lo, hi = found.interval
    return (
        venue.name,
        Text.same(day.isoformat()),
        figure(f"{key}/before", "points", found.before),
        figure(f"{key}/after", "points", found.after),
        figure(f"{venue.key}/ppi", "points", venue.ppi, missing="unrated", **_same(venue)),
        figure(f"{key}/effect", "points", found.estimate, missing="few", lo=lo, hi=hi),
        figure(f"{key}/signal", "db", signal.estimate, lo=signal.interval.lo, hi=signal.interval.hi),
        count(f"{key}/controls", found.controls),
        _conclusion(found, signal.answer),
    )


def _conclusion(found: Effect, signal: Answer) -> Text:
    """Without a control that is said first: more weeks would not make it a proof."""
    told, more = [ANSWERS[found.answer]], SIGNAL.get(signal, Text("", ""))
    if found.answer == "no_baseline" and not found.controls:
        told.insert(0, ANSWERS["no_control"])
    return Text("；".join(one.zh for one in told) + more.zh, "; ".join(one.en for one in told) + more.en)


def _same(venue: VenueFacts) -> dict[str, object]:
    """One key has one figure."""
    figure_ = score(venue)
    return {"lo": figure_.lo, "hi": figure_.hi, "mark": figure_.mark}


def _effect(facts: Facts, venue: VenueFacts, day: date) -> Effect:
    def days(slug: str) -> dict[date, float]:
        return dict(facts.stored.days.get(At(slug, venue.network, venue.profile.series), {}))

    controls: Sequence[dict[date, float]] = [days(slug) for slug in _controls(facts, venue)]
    return effect(window(day, facts.setting.week), days(venue.slug), controls)


def _signal(facts: Facts, venue: VenueFacts, day: date) -> Effect:
    """The same of the mean signal, dBm."""
    signals = facts.stored.signals
    controls = [signals.get(slug, {}) for slug in _controls(facts, venue)]
    return effect(window(day, facts.setting.week), signals.get(venue.slug, {}), controls, least=LEAST_DB)


def _controls(facts: Facts, venue: VenueFacts) -> list[str]:
    """Those of the register that were not upgraded themselves."""
    known = {one.slug: one for one in facts.venues[venue.network]}
    return [slug for slug in venue.venue.controls if slug in known and known[slug].venue.upgraded is None]
