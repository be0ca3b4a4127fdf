"""A small report by hand: every kind of block, figure and state."""

from datetime import datetime, timedelta, timezone

from perception.report.model import Chart, Column, Curve, Head, Line, ProfileMark, Report, Section, Table, Text, ratio
from perception.report.model import figure as figure_of

LOCAL = timezone(timedelta(hours=8))
HOSTILE = '=HYPERLINK("http://evil.example","x")<script>alert(1)</script>#let x'


def head(revision: int = 1) -> Head:
    return Head(
        district=Text("某某区", "Some District"),
        year=2026,
        week=47,
        start=datetime(2026, 11, 16, tzinfo=LOCAL),
        end=datetime(2026, 11, 23, tzinfo=LOCAL),
        frozen_at=datetime(2026, 11, 23, 6, tzinfo=LOCAL),
        author=Text("区大数据中心", "District Data Centre"),
        profiles=(ProfileMark("wifi-public-2026", 1, "draft-not-official", "ab" * 32),),
        input_sha256="cd" * 32,
        revision=revision,
    )


def report(name: str = "长寿路图书馆", rows: int = 3) -> Report:
    line = Line(
        Text("本周感知度指数为{ppi}，环比{change}。", "The index is {ppi}, week on week {change}."),
        {
            "ppi": figure_of("wifi/ppi", "points", 84.21, lo=82.1, hi=86.3),
            "change": figure_of("wifi/change", "points", -2.3, trend="down"),
        },
    )
    chart = Chart(
        id="weeks",
        title=Text("近四周走势", "Four weeks"),
        labels=("W44", "W45", "W46", "W47"),
        curves=(
            Curve(
                Text("公共无线网络", "Wi-Fi"),
                tuple(figure_of(f"weeks/{i}", "points", value) for i, value in enumerate((80.0, 81.5, None, 84.21))),
            ),
        ),
    )
    states = (None, float("inf"), 7.24)
    table = Table(
        id="ranking",
        title=Text("排名", "Ranking"),
        columns=(
            Column(Text("场所", "Venue"), 3, figures=False),
            Column(Text("接入成功率", "Access")),
            Column(Text("往返时延", "RTT")),
        ),
        rows=tuple(
            (
                Text.same(f"{name}{i}"),
                ratio(f"ranking/{i}/access", 95 + i % 5, 100),
                figure_of(f"ranking/{i}/rtt", "ms", states[i % 3], missing="few"),
            )
            for i in range(rows)
        ),
    )
    return Report(head=head(), sections=(Section(3, "overall", Text("总体得分", "Overall"), (line, chart, table)),))
