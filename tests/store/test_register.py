"""The site register: joined by slot, overlaps refused, taken again when it changes."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.register import Register, microseconds, read
from store.tables import ConfigError

VENUES = """
[venues.east]
name = { zh = "东", en = "East" }
type = "library"
[venues.west]
name = { zh = "西", en = "West" }
type = "library"
"""


def site(venue: str, start: str, end: str | None = None, agent: str = "box-1", interface: str = "wlan0") -> str:
    until = f"to = {end}\n" if end else ""
    return (
        f'[[sites]]\nagent = "{agent}"\ninterface = "{interface}"\nvenue = "{venue}"\nnetwork = "wifi"\n'
        f"from = {start}\n{until}"
    )


def written(folder: Path, text: str) -> Path:
    file = folder / "sites.toml"
    file.write_text(text)
    return file


def test_a_moved_box_keeps_its_old_venue_for_old_slots(tmp_path: Path) -> None:
    moved = "2026-10-01T08:00:00+08:00"
    roll = read(written(tmp_path, VENUES + site("east", "2026-01-01", moved) + site("west", moved)))
    move_us = microseconds(datetime(2026, 10, 1, 0, 0, tzinfo=UTC))
    before, after = roll.find("box-1", "wlan0", move_us - 1), roll.find("box-1", "wlan0", move_us)
    assert before is not None
    assert before.venue == "east"
    assert after is not None
    assert after.venue == "west"
    first_us = microseconds(datetime(2025, 12, 31, 16, 0, tzinfo=UTC))  # midnight in Shanghai
    assert roll.find("box-1", "wlan0", first_us - 1) is None
    assert roll.find("box-1", "wlan0", first_us) is not None
    assert roll.find("box-1", "eth0", move_us) is None
    assert roll.find("box-2", "wlan0", move_us) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            site("east", "2026-01-01") + site("west", "2026-02-01"),
            r"sites\[1\]: overlaps sites\[0\] \(agent box-1, inter",
        ),
        (site("east", "2026-01-01", "2026-03-01") + site("west", "2026-02-28"), r"sites\[1\]: overlaps sites\[0\]"),
        (site("north", "2026-01-01"), r"sites\[0\].venue: no such venue 'north'; add \[venues.north\]"),
        (site("east", "2026-02-01", "2026-01-01"), r"sites\[0\].to: not after from"),
        (site("east", '"soon"'), r"sites\[0\].from: 'soon' is no time; write 2026-03-01"),
        (site("east", "2026-01-01", agent="all"), r"sites\[0\].agent: 'all' is the broadcast topic"),
        (site("east", "2026-01-01") + "vlan = 3\n", r"sites\[0\].vlan: unknown key"),
        ('timezone = "Mars/Olympus"\n', "timezone: no such time zone"),
    ],
)
def test_mistakes_are_told_with_their_path(text: str, message: str, tmp_path: Path) -> None:
    text = text + VENUES if text.startswith("timezone") else VENUES + text
    with pytest.raises(ConfigError, match=message):
        read(written(tmp_path, text))


def test_a_register_that_is_not_there_is_told_with_what_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    with pytest.raises(
        ConfigError, match=rf"^register: {path}: no such file; make it: wanggan fleet import SHEET --out {path}$"
    ):
        read(path)


def test_neighbours_do_not_overlap(tmp_path: Path) -> None:
    roll = read(written(tmp_path, VENUES + site("east", "2026-01-01", "2026-02-01") + site("west", "2026-02-01")))
    assert len(roll.spans["box-1", "wlan0"]) == 2


def test_a_changed_file_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file = written(tmp_path, VENUES + site("east", "2026-01-01"))
    register = Register(file)
    assert not register.refresh()
    assert not register.knows("box-2")

    file.write_text(VENUES + site("east", "2026-01-01") + site("west", "2026-01-01", agent="box-2"))
    assert register.refresh()
    assert register.knows("box-2")

    file.write_text("[[sites]]\n")
    assert not register.refresh()
    assert register.knows("box-2")
    assert register.broken is not None
    assert "sites[0].agent: missing" in register.broken

    file.unlink()
    assert not register.refresh()
    assert register.knows("box-2")

    file.write_text(VENUES + site("east", "2026-01-01"))
    os.utime(file, ns=(1, 1))
    assert register.refresh()
    assert register.broken is None
    assert not register.knows("box-2")


def test_what_the_page_asks(tmp_path: Path) -> None:
    register = Register(
        written(tmp_path, VENUES + site("east", "2026-01-01", "2026-02-01") + site("west", "2026-02-01"))
    )
    venues = [found.venue for found in register.sites(datetime(2026, 1, 15, tzinfo=UTC))]
    assert venues == ["east"]
    east = register.venue("east")
    assert east is not None
    assert (east.slug, east.name.zh) == ("east", "东")
    assert register.venue("north") is None
