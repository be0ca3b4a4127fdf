"""Stored names follow from the value structs, and obey the engines' rules."""

import re

from contract.series import MAX_COLUMNS, METRICS, RAW_SERIES, RECORD_TAGS, ROLLUPS, SERIES, SKETCHED
from contract.values import VALUES


def test_every_probe_has_its_measurement() -> None:
    assert set(RAW_SERIES) == set(VALUES)
    assert set(ROLLUPS) == set(VALUES)
    assert all(name == series.key for name, series in SERIES.items())


def test_a_name_is_a_tag_or_a_field_never_both() -> None:
    for series in SERIES.values():
        assert not set(series.tags) & set(series.fields), series.name
        assert "time" not in series.fields


def test_no_probe_hides_a_common_field() -> None:
    for probe, values in VALUES.items():
        assert len(RAW_SERIES[probe].fields) == len(values.__struct_fields__) + 8, probe


def test_names_need_no_quoting_and_fit_the_widest_engine_limit() -> None:
    for series in SERIES.values():
        for name in (series.name, *series.tags, *series.fields):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert len(series.tags) + len(series.fields) < MAX_COLUMNS


def test_numbers_are_floats_and_counts_are_ints() -> None:
    fields = RAW_SERIES["path"].fields
    assert fields["pmtu_blackhole"] == "int"
    assert fields["hops"] == "str"
    assert RAW_SERIES["latency"].fields["rtt_p50_ms"] == "float"
    assert RAW_SERIES["latency"].fields["sent"] == "int"
    for series in SERIES.values():
        for name, kind in series.fields.items():
            if re.search(r"_(ms|s|mbps|dbm|db|ratio|c)$", name):
                assert kind == "float", f"{series.name}.{name}"


def test_tags_are_bounded_identity() -> None:
    assert RECORD_TAGS == ("agent", "venue", "network", "target", "interface", "provider", "resolver")


def test_what_is_rolled_up_is_a_number_that_is_measured() -> None:
    for probe, metrics in METRICS.items():
        assert set(metrics) <= {name for name, kind in RAW_SERIES[probe].fields.items() if kind != "str"}, probe
        assert SKETCHED.get(probe, frozenset()) <= set(metrics), probe
