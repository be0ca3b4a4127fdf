"""What a week says: gaps, one venue, none, a change of profile, a holiday, a year's end."""

import re
from dataclasses import replace
from datetime import date

import pytest

from perception import profiles
from perception.calendar import Calendar
from perception.report import docx, html, names, pdf, xlsx
from perception.report.facts import Facts, gathered
from perception.report.measures import Measure
from perception.report.model import Report
from perception.report.printed import printed
from perception.week import Week
from tests.perception.report import weeks

HOLIDAY = Calendar.model_validate(
    {"holidays": [{"from": date(2026, 10, 1), "to": date(2026, 10, 7)}], "workdays": [date(2026, 10, 10)]}
)


def text_of(report: Report) -> str:
    return re.sub(r"<[^>]+>", " ", html.render(report, "zh").decode())


def table(report: Report, title: str) -> list[list[str]]:
    found = [
        block.rows  # type: ignore[union-attr]
        for section in printed(report, "zh").sections
        for block in section.blocks
        if block.kind == "table" and block.title == title  # type: ignore[union-attr]
    ]
    assert found, title
    return found[0]


def section_of(report: Report, number: int) -> str:
    blocks = printed(report, "zh").sections[number - 1].blocks
    return "\n".join(block.text for block in blocks if block.kind == "line")  # type: ignore[union-attr]


CASES = {
    "whole": weeks.report(),
    "gaps": weeks.report(gaps=["wifi-01", "gov-06"], silent=["wifi-02"]),
    "one": weeks.report(wifi=1, gov=0),
    "none": weeks.report(wifi=0, gov=0),
    "profile": weeks.report(series="wifi-public-2025"),
    "holiday": weeks.report(Week(2026, 40), calendar=HOLIDAY),
    "year": weeks.report(Week(2026, 53)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_format_takes_every_week(name: str) -> None:
    for lang in ("zh", "en"):
        for renderer in (html, pdf, docx, xlsx):
            assert len(renderer.render(CASES[name], lang)) > 5_000  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CASES)
def test_all_twelve_sections_in_order_and_what_must_always_be_said(name: str) -> None:
    report = CASES[name]
    assert [section.number for section in report.sections] == list(range(1, 13))
    assert "本报告为内部监测，非官方排名" in section_of(report, 11)
    assert len(report.sections[1].blocks) <= 5
    assert report.figures()  # no key stands for two figures


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_claimed_that_may_not_be(name: str) -> None:
    text = text_of(CASES[name])
    for word in ("G.1030", "P.1203", "ETSI", "官方得分", "带宽", "抖动", "预计排名"):
        assert word not in text
    assert re.search(r"(?<!不给出)单向(时延|丢包)(?!、单向丢包和容量|和容量)", text) is None


def test_a_week_with_gaps_ranks_no_venue_that_has_too_little() -> None:
    apart = table(CASES["gaps"], "样本不足或不评（不参与排名）")
    assert [row[0] for row in apart] == ["第1场所", "第2场所"]
    assert apart[0][1].endswith("*")
    assert apart[0][4] == "有效率不足 70%"
    assert apart[1][1:] == ["不评", "0.0% (0/38472)", "0.0% (0/38472)", "无得分"]
    ranked = [row[2] for kind in ("政务服务大厅", "公园") for row in table(CASES["gaps"], kind)]
    assert ranked == ["第4场所", "第5场所"]
    low = table(CASES["gaps"], "完整率低于 90% 的场所")
    assert [row[0] for row in low] == ["第2场所", "第6场所", "第1场所"]


def test_three_days_are_too_few_for_an_interval() -> None:
    facts = weeks.facts(gaps=["wifi-01"])
    (venue,) = [venue for venue in facts.venues["wifi"] if venue.slug == "wifi-01"]
    assert len(venue.days) == 3
    assert not venue.is_ranked


@pytest.mark.parametrize("name", CASES)
def test_what_is_missed_among_the_marks_is_what_the_shortfalls_list(name: str) -> None:
    figures = CASES[name].figures()
    missed = 0.0
    for network in ("wifi", "gov"):
        if f"{network}/pass" in figures:
            marks = figures[f"{network}/pass"]
            missed += (marks.denominator or 0) - (marks.numerator or 0)
    rows = table(CASES[name], "未达标的场所与指标")
    assert missed == len(rows)
    assert (figures["short"].value if rows else None) == (missed or None)


def changed(facts: Facts, slug: str, fields: dict[str, object]) -> Facts:
    """Facts of the same week in which a venue's score is another."""
    this = facts.stored.weeks[weeks.WEEK]
    (at,) = [at for at in this if at.venue == slug]
    this[at] = {**this[at], **fields}  # type: ignore[index]
    return gathered(facts.setting, facts.stored)


def test_a_venue_without_an_index_says_what_it_lacks_and_still_misses_its_marks() -> None:
    lacks = weeks.week_score(weeks.WIFI, 0.2, without=["web_total_ms", "web_success_ratio", "video_start_s"])
    facts = changed(
        weeks.facts(), "wifi-04", lacks | {"video_start_s_n": 7, "video_success_ratio_n": 7, "video_stall_ratio_n": 7}
    )
    report = weeks.report_of(facts, "cd" * 32)
    (row,) = table(report, "样本不足或不评（不参与排名）")
    assert row[0] == "第4场所"
    assert row[4] == "不评，某一维度超过三分之一的权重缺失：网页打开用时（p50）未测得、视频卡顿占比样本不足"
    said = "登记场所6个，其中有得分5个（区级得分是其平均），可判定达标6个；其余的原因见“场所排名”。"
    assert said in section_of(report, 3)
    (annex,) = [section for section in report.sections if section.id == "annex"]
    assert next(one for one in annex.figures() if one.key == "wifi/wifi-04/score/web").state == "unknown"
    assert ["第4场所", "下行可用速率"] in [row[:2] for row in table(report, "未达标的场所与指标")]
    assert "登记场所" not in section_of(CASES["whole"], 3)


def test_contracts_stand_as_such_in_place_of_the_mark() -> None:
    facts = weeks.facts()

    def marks(*promised: str) -> dict[str, list[str]]:
        venues = [
            replace(one, promised={"down_mbps": 300.0} if one.slug in promised else {}) for one in facts.venues["gov"]
        ]
        report = weeks.report_of(replace(facts, venues={**facts.venues, "gov": venues}), "cd" * 32)
        return {row[0]: row for row in table(report, "政务网络各指标达标场所")}

    assert marks()["下行可用速率"][2:4] == ["20.0 Mbps", "66.7% (2/3)"]
    assert marks("gov-06", "gov-07", "gov-08")["下行可用速率"][2:4] == ["合同值", "0.0% (0/3)"]
    assert marks("gov-06")["下行可用速率"][2:4] == ["合同值，无合同者 20.0 Mbps", "66.7% (2/3)"]
    assert marks("gov-06")["上行可用速率"][2] == "10.0 Mbps"


def test_a_mark_with_tests_that_are_too_few_is_not_said_to_be_unmeasured() -> None:
    facts = weeks.facts(gov=1)
    few = weeks.week_score(weeks.GOV, without=["down_mbps"]) | {"down_mbps_n": 3}
    (row,) = [
        row
        for row in table(weeks.report_of(changed(facts, "gov-06", few), "cd" * 32), "政务网络各指标达标场所")
        if row[0] == "下行可用速率"
    ]
    assert row[3:6] == ["样本不足"] * 3


def test_sources_of_marks_are_in_the_report_s_language() -> None:
    for profile in (weeks.WIFI, weeks.GOV, profiles.named("wifi-observe-2026")):
        for source in {names.source(indicator.source) for indicator in profile.indicators}:
            assert source.en.isascii(), source
            assert not re.search(r"[a-z]", source.zh), source


def test_an_interval_stays_within_the_scale() -> None:
    facts = weeks.facts(wifi=1, gov=0)
    facts = changed(facts, "wifi-00", {"ppi": 99.5})
    facts.stored.days[next(iter(facts.stored.days))].update(  # type: ignore[attr-defined]
        {day: 99.5 + (3 if day.day % 2 else -3) for day in weeks.WEEK.days}
    )
    lo, hi = gathered(facts.setting, facts.stored).interval("wifi")
    assert lo is not None
    assert 90 < lo < 99.5
    assert hi == 100


def test_what_is_to_be_decided_follows_from_shortfalls_and_measures() -> None:
    def said(*measures: Measure) -> str:
        facts = weeks.facts()
        report = weeks.report_of(replace(facts, setting=replace(facts.setting, measures=measures)), "cd" * 32)
        return section_of(report, 2).splitlines()[-1]

    assert said(*weeks.measures()).startswith("需决策：逾期未完成的整改措施1项")
    short = int(CASES["whole"].figures()["short"].value or 0)
    assert said().startswith(f"需决策：{short}项短板尚无整改措施，首要为第6场所（责任单位：区文化和旅游局）")
    everywhere = [
        Measure(venue=venue, action="整改", owner="运营商", due=date(2026, 12, 20))
        for venue in weeks.facts().setting.roll.venues
    ]
    assert said(*everywhere).endswith("无逾期；本周无需决策事项。")


def test_the_annex_is_on_the_screen_and_named_where_paper_has_no_room() -> None:
    page = html.render(CASES["whole"], "zh").decode()
    annex = page.partition('<section id="annex">')[2]
    assert '<td>第5场所</td><td class="n">' in annex
    assert re.findall(r"<table>(?:(?!</table>|<tr>).)*</table>", page, re.DOTALL) == []
    paper = next(section for section in printed(CASES["whole"], "zh").sections if section.id == "annex")
    assert paper.blocks[0].note == "共 6 行，纸面放不下，见电子表格。"  # type: ignore[union-attr]


def test_one_venue_has_no_tier_and_its_upgrade_has_no_control() -> None:
    (row,) = table(CASES["one"], "图书馆")
    assert row[:2] == ["—", "仅一个场所，不排名"]
    (upgrade,) = table(CASES["one"], "改造前后")
    assert upgrade[7:] == ["0", "无对照，不作因果判断；基线或改造后不足"]
    (upgrade,) = table(weeks.report(wifi=1, gov=0, weeks=8), "改造前后")
    assert upgrade[7:] == ["0", "无对照，不作因果判断"]


def test_a_renewed_radio_is_told_beside_what_users_feel_of_it() -> None:
    report = weeks.report(weeks=8)
    (upgrade,) = table(report, "改造前后")
    assert upgrade[8].endswith("；信号增强")
    signal = report.figures()["wifi/wifi-00/upgrade/signal"]
    assert (signal.unit, signal.value) == ("db", pytest.approx(7, abs=0.2))
    assert signal.lo is not None
    assert signal.lo > 6
    assert "信号" not in table(weeks.report(wifi=1, gov=0, weeks=8), "改造前后")[0][8]


def test_without_venues_nothing_is_rated_and_nothing_is_zero() -> None:
    report = CASES["none"]
    assert "本周无已登记场所，不评" in section_of(report, 2)
    assert "本周无短板" not in text_of(report)
    known = {key for key in report.figures() if not key.startswith("measures/")}
    assert known == set()


def test_no_week_on_week_across_a_change_of_profile() -> None:
    report = CASES["profile"]
    figures = report.figures()
    assert figures["wifi/change"].state == "incomparable"
    assert "上周没有按同一评分方案的得分，无环比" in section_of(report, 3)
    assert figures["wifi/weeks/2026-W46"].state == "unrated"
    assert figures["wifi/weeks/2026-W47"].state == "known"


def test_a_week_before_that_is_not_rated_is_compared_by_the_hours_that_it_has() -> None:
    facts = weeks.facts()
    before = facts.stored.weeks[weeks.WEEK.shifted(-1)]
    for at in [at for at in before if at.network == "wifi"]:
        before[at] = {name: x for name, x in before[at].items() if name != "ppi"}  # type: ignore[index]
    figures = weeks.report_of(facts, "cd" * 32).figures()
    assert figures["wifi/weeks/2026-W46"].state == "unrated"
    assert figures["wifi/weeks/2026-W47"].state == "known"
    assert figures["wifi/change"].state == "known"


def test_the_week_of_overlap_says_both_scores() -> None:
    profile = weeks.WIFI
    old = profile.model_copy(update={"profile": profile.profile.model_copy(update={"id": "wifi-public-2025"})})
    facts = weeks.facts(beside={"wifi": [old]})
    this = facts.stored.weeks[weeks.WEEK]
    for at in [at for at in this if at.network == "wifi"]:
        this[at._replace(profile="wifi-public-2025")] = {"ppi": 70.0}  # type: ignore[index]
    text = section_of(weeks.report_of(facts, "cd" * 32), 3)
    assert "同周另按评分方案 wifi-public-2025 计分：70.0（6个场所）" in text


def test_a_holiday_week_is_compared_with_none_that_is_not() -> None:
    report = CASES["holiday"]
    assert "本周含法定节假日，只与同类周比较" in section_of(report, 3)
    assert "环比无可比" in section_of(report, 2)
    assert report.figures()["wifi/change"].state == "incomparable"
    exchange = weeks.report(Week(2026, 41), calendar=HOLIDAY)
    assert exchange.figures()["wifi/change"].state == "known"  # both have a holiday on a working day


def test_a_week_across_a_years_end_has_both_years_and_the_week_before_it() -> None:
    page = printed(CASES["year"], "zh")
    assert page.issue == "2026年第53期"
    assert page.facts[0] == ("统计周期", "2026年12月28日—2027年1月3日（2026-W53）")
    first = weeks.report(Week(2027, 1))
    assert printed(first, "zh").facts[0][1] == "2027年1月4日—1月10日（2027-W01）"
    assert first.figures()["wifi/change"].state == "known"
    assert set(first.figures()) >= {"wifi/weeks/2026-W53", "wifi/weeks/2027-W01"}


def test_a_shortfall_names_value_mark_weeks_cause_and_owner() -> None:
    rows = table(CASES["whole"], "未达标的场所与指标")
    (row,) = [row for row in rows if row[:2] == ["第0场所", "良好信号占比"]]
    assert row[2:] == ["88.0%", "95.0%", "4 周", "接入链路（5 小时）", "区文化和旅游局"]
    assert [row[5] for row in rows if row[0] == "第1场所"] == ["待查"]


def test_an_upgrade_is_judged_against_its_controls() -> None:
    (row,) = table(weeks.report(weeks=8), "改造前后")
    assert row[7:] == ["2", "无证据；信号增强"]


def test_measures_count_those_that_were_due() -> None:
    assert "完成率50.0% (1/2)" in section_of(CASES["whole"], 9)
    assert [row[4] for row in table(CASES["whole"], "措施")] == ["已完成（2026-11-17）", "逾期", "进行中"]


def test_slots_by_state_add_up() -> None:
    figures = CASES["gaps"].figures()
    for network in ("wifi", "gov"):
        value = {state: figures[f"quality/{network}/{state}"].value or 0 for state in ("expected", "n", "missing")}
        assert value["expected"] == value["n"] + value["missing"]
        parts = sum(
            figures[f"quality/{network}/{state}"].value or 0 for state in ("ok", "failed", "invalid", "skipped")
        )
        assert parts == value["n"]
