"""Ten minutes of the fuzzer against every port of the reflector."""

import secrets
from pathlib import Path

import pytest

from tests.reflector.test_fuzz import survive

pytestmark = pytest.mark.long


@pytest.mark.timeout(900)
def test_ten_minutes(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    survive(tmp_path, 600, seed)
