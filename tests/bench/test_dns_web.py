"""The benchmark's own peers on a path of 20 ms: ours are theirs, as far as a busy machine lets anybody say so."""

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import dns_web
from tests.network.features import needs

pytestmark = needs("tun")
WITHIN_MS = 15.0


def median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(3))


def test_dig_and_curl_say_the_same(tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    with dns_web.servers(tmp_path) as here:
        assert median(lambda: dns_web.dns(here)) == pytest.approx(median(lambda: dns_web.dig(here)), abs=WITHIN_MS)
        for scheme in ("http", "https"):
            ours, theirs = (median(lambda of=of, s=scheme: of(here, s, ca)) for of in (dns_web.web, dns_web.curl))  # type: ignore[misc]
            assert ours == pytest.approx(theirs, abs=WITHIN_MS), scheme
