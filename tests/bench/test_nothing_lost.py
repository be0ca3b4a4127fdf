"""The short form of the proof that nothing is lost, and the proof of the proof: three planted bugs must be found."""

import json

import pytest

from bench.nothing_lost import main

ALWAYS = ["--seed", "7", "--agents", "4", "--processes", "2"]


def outcomes(tmp_path, *arguments: str):
    report = tmp_path / "report.json"
    code = main([*ALWAYS, "--json", str(report), "--keep", str(tmp_path / "run"), *arguments])
    return code, json.loads(report.read_text())["outcomes"]


def test_nothing_is_lost_on_either_store(tmp_path):
    code, found = outcomes(tmp_path, "--kills", "2", "--jobs", "4", "--speed", "20")
    assert code == 0, [(o["scenario"], o["engine"], o["verdict"]["faults"], o["complaints"]) for o in found]
    kills = [o for o in found if o["scenario"] == "kills"]
    assert {o["engine"] for o in kills} == {"influx", "sqlite"}
    assert all(len(o["kills"]) == 8 and all(kill["in_flight"] for kill in o["kills"]) for o in kills)
    assert all(o["verdict"]["acknowledged"] > 0 for o in found)


@pytest.mark.parametrize(
    ("plant", "faults"),
    [
        ("ack_before_write", {"acknowledged, not stored"}),
        ("delete_on_puback", {"acknowledged, not stored"}),
        ("arrival_as_slot", {"another time"}),
    ],
)
def test_a_planted_bug_is_found(tmp_path, plant, faults):
    code, found = outcomes(
        tmp_path, "--kills", "2", "--speed", "20", "--scenario", "kills", "--store", "sqlite", "--plant", plant
    )
    assert code == 1
    assert faults <= set(found[0]["verdict"]["faults"])
