"""The pages that explain verdicts say what the rules and the profiles say."""

import re
from pathlib import Path

import pytest

from perception import profiles
from perception.verdicts.rules import RULES

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("verdicts.md", "verdicts.zh-CN.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_rule_in_its_order(page: str) -> None:
    listed = re.findall(r"^\| (\d+) `(\w+)` \|", (DOCS / page).read_text(), re.MULTILINE)
    assert listed == [(str(number), rule.__name__) for number, rule in enumerate(RULES, 1)]


@pytest.mark.parametrize("page", PAGES)
def test_the_limits_are_those_of_the_profiles(page: str) -> None:
    text = (DOCS / page).read_text()
    wifi, gov = (profiles.named(name).verdict for name in ("wifi-public-2026", "gov-node-2026"))
    for limit in (
        f"RSSI < {wifi.rssi_dbm:.0f} dBm", f"SNR < {wifi.snr_db:.0f} dB", f"> {100 * wifi.tx_retry_ratio:.0f} %",
        f"> {100 * wifi.busy_ratio:.0f} %", f"{100 * wifi.slots_ratio:.0f} %", f"{wifi.portal_ms / 1000:.0f} s",
        f"> {100 * wifi.loss_rise_ratio:.0f} %", f"{wifi.rise_ms.gateway:.0f} ms", f"{gov.rise_ms.gateway:.0f} ms",
        f"{wifi.rise_ms.core:.0f} ms", f"{gov.rise_ms.core:.0f} ms", f"{wifi.rise_ms.internet:.0f} ms",
        f"> {wifi.dns_rtt_ms:.0f} ms", f"{100 * wifi.invalid_ratio:.0f} %", f"{100 * wifi.shared_ratio:.0f} %",
        f"{100 * wifi.local_ratio:.0f} %", f"{wifi.congested_rise_ms:.0f} ms",
    ):  # fmt: skip
        assert limit in text, limit
    assert wifi.failed_ratio == 0.25
    assert wifi.congested_down_ratio == 0.5
