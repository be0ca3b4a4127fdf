"""整改与闭环: what was agreed, who does it, until when, and how much of what was due is done."""

from datetime import date

from perception.report.facts import Facts
from perception.report.measures import Measure
from perception.report.model import Cell, Column, Line, Section, Table, Text, ratio

SHOWN = 60


def section(facts: Facts) -> Section:
    """Open measures, those done lately, and the rate of the last week."""
    monday, sunday = facts.setting.week.monday, facts.setting.week.days[-1]
    measures = [one for one in facts.setting.measures if one.done is None or one.done >= monday]
    due = [one for one in facts.setting.measures if monday <= one.due <= sunday]
    done = [one for one in due if one.done is not None and one.done <= sunday]
    line = Line(
        Text("本周到期的措施，完成率{ratio}。", "Of the measures due this week, {ratio} are done."),
        {"ratio": ratio("measures/done", len(done), len(due))},
    )
    table = Table(
        id="measures",
        title=Text("措施", "Measures"),
        columns=(
            Column(Text("场所", "Venue"), 1.8, figures=False),
            Column(Text("措施", "Measure"), 3.0, figures=False),
            Column(Text("责任", "Responsible"), 1.4, figures=False),
            Column(Text("时限", "Due"), 1.1, figures=False),
            Column(Text("状态", "State"), 1.2, figures=False),
        ),
        rows=tuple(_row(facts, one, sunday) for one in measures),
        limit=SHOWN,
        empty=Text("无登记的整改措施。", "No measure is registered."),
    )
    return Section(9, "measures", Text("整改与闭环", "Measures"), (line, table) if due else (table,))


def _row(facts: Facts, one: Measure, sunday: date) -> tuple[Cell, ...]:
    venue = facts.setting.roll.venues.get(one.venue or "")
    place = (
        Text(venue.name.zh, venue.name.en) if venue else Text.same(one.venue) if one.venue else Text("全区", "District")
    )
    if one.done is not None and one.done <= sunday:
        state = Text(f"已完成（{one.done}）", f"done ({one.done})")
    else:
        state = Text("逾期", "overdue") if one.due <= sunday else Text("进行中", "under way")
    return (place, Text.same(one.action), Text.same(one.owner), Text.same(one.due.isoformat()), state)
