"""The twelve sections, each from the facts of the week."""

from perception.report.facts import Facts
from perception.report.model import Report
from perception.report.sections import (
    gov,
    head,
    measures,
    method,
    overview,
    quality,
    ranking,
    shortfalls,
    targets,
    upgrades,
)


def report(facts: Facts, input_sha256: str) -> Report:
    """The week's report, revision 1."""
    return Report(
        head=head.head(facts, input_sha256),
        sections=(
            head.section(),
            overview.highlights(facts),
            overview.overall(facts),
            targets.section(facts),
            ranking.section(facts),
            gov.section(facts),
            shortfalls.section(facts),
            upgrades.section(facts),
            measures.section(facts),
            quality.section(facts),
            method.section(facts),
            method.annex(facts),
        ),
    )
