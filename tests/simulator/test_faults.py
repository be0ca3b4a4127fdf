"""The fault script is strict, and the truth follows it."""

from pathlib import Path

import msgspec
import pytest

from contract.series import RAW
from simulator.faults import KINDS, SEGMENTS, ScriptError
from simulator.truth import Header, Hour, Injected, truth
from tests.simulator.places import DISTRICT, minute, parse

WIFI = DISTRICT.boxes[0].venue.slug
NODE = next(v.slug for v in DISTRICT.venues if v.network == "gov")
GOOD = {"kind": '"weak_signal"', "venue": f'"{WIFI}"', "start": '"+1h"', "length": '"90m"'}


def script(**changes: str | None) -> str:
    rows = {key: value for key, value in (GOOD | changes).items() if value is not None}
    return "[[faults]]\n" + "\n".join(f"{key} = {value}" for key, value in rows.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": '"weak"'}, "faults[0].kind: no such fault 'weak'; one of weak_signal, interference"),
        ({"kind": None}, "faults[0].kind: missing; add kind = ..."),
        ({"lenght": '"1h"'}, "faults[0].lenght: unknown key; did you mean length?"),
        ({"kind": '["dns_slow"]'}, "faults[0].kind: no such fault ['dns_slow']; one of weak_signal"),
        ({"venue": '"sim-nowhere"'}, "faults[0].venue: no such venue 'sim-nowhere'"),
        ({"venue": "{ a = 1 }"}, "faults[0].venue: no such venue {'a': 1}; the site register names them"),
        ({"venue": '["*"]'}, "faults[0].venue: no such venue '*'; the site register names them; venue = '*' means all"),
        ({"venue": "[]"}, "faults[0].venue: an empty list; name a venue"),
        ({"venue": f'"{NODE}"'}, "is a government node without Wi-Fi; weak_signal needs a Wi-Fi venue"),
        ({"start": "2026-11-18T09:00:00"}, "faults[0].start: a time without an offset; write like"),
        ({"start": '"tomorrow"'}, "faults[0].start: 'tomorrow' is no time; write like"),
        ({"start": "2026-11-18T09:00:30+08:00"}, "faults[0].start: faults begin on whole minutes"),
        ({"start": '"+99999999999d"'}, "faults[0].start: '99999999999d' is no length; write like"),
        ({"start": "2026-11-18"}, "faults[0].start: '2026-11-18' is no time; write like 2026-11-20T09:00:00+08:00"),
        ({"length": "90"}, "faults[0].length: 90 is no length; write like '90m'"),
        ({"length": '"0m"'}, "faults[0].length: nothing; write like '90m', at least '1m'"),
        ({"strength": "1.5"}, "faults[0].strength: 1.5; write a number from 0 to 1"),
        ({"strength": "[0.8, 0.2]"}, "faults[0].strength: [0.8, 0.2]; write a number"),
        ({"strength": "true"}, "faults[0].strength: True; write a number"),
        ({"target": '"news"'}, "faults[0].target: only target_down has one; remove it"),
        ({"kind": '"target_down"', "target": '"gateway"'}, "faults[0].target: no such target 'gateway'; one of core"),
    ],
)
def test_a_mistake_names_its_field_and_the_fix(changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(ScriptError) as error:
        parse(script(**changes))
    assert message in str(error.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ScriptError) as error:
        parse(script(kind='"x"') + "\n" + script(length='"x"') + "\n[other]\n")
    assert [line.split(": ")[1] for line in str(error.value).splitlines()] == [
        "other",
        "faults[0].kind",
        "faults[1].length",
    ]


def test_no_toml_is_said() -> None:
    with pytest.raises(ScriptError, match="not TOML"):
        parse("[[faults")


def test_a_strength_is_drawn_within_its_range_and_always_the_same() -> None:
    first, again = parse(script(strength="[0.2, 0.4]", venue='"*"')), parse(script(strength="[0.2, 0.4]", venue='"*"'))
    assert first == again
    assert len({fault.strength for fault in first}) == len(first) > 5
    assert all(0.2 <= fault.strength <= 0.4 for fault in first)
    assert {fault.venue for fault in first} == {v.slug for v in DISTRICT.venues if v.network == "wifi"}


def test_every_segment_can_be_to_blame() -> None:
    assert {kind.segment for kind in KINDS.values()} == set(SEGMENTS)


def test_the_truth_blames_the_segment_of_the_fault_while_it_lasts() -> None:
    faults = parse(script(strength="0.5") + "\n" + script(kind='"uplink_saturated"', start='"+2h"', length='"2h"'))
    header, *rows = truth(DISTRICT, faults, minute(0), minute(6))
    assert isinstance(header, Header)
    injected = [row for row in rows if isinstance(row, Injected)]
    assert [(row.kind, row.segment) for row in injected] == [("weak_signal", "radio"), ("uplink_saturated", "uplink")]
    assert injected[0].effect == {"path_loss_db": 26.5}
    hours = [row for row in rows if isinstance(row, Hour)]
    assert len(hours) == 6 * len(DISTRICT.venues)
    here = [row for row in hours if row.venue == WIFI]
    assert [row.segment for row in here] == ["none", "radio", "radio", "uplink", "none", "none"]
    assert [row.share for row in here] == [0, 1, 0.5, 1, 0, 0]
    assert here[2].segments == ["radio", "uplink"]
    assert {row.segment for row in hours if row.venue != WIFI} == {"none"}
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[Injected | Hour]) == rows
    assert RAW == "wanggan"


def test_every_kind_is_in_the_documentation_as_it_is() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "simulator.md").read_text()
    for name, kind in KINDS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"| {kind.segment} |" in row
        for quantity, (low, high) in kind.effect.items():
            assert f"`{quantity}` {low:g} to {high:g}" in row
