"""What the tests in virtual machines share."""

from collections.abc import Callable

import pytest

from tests.long.virtual_machine import PACKAGES, Kernel, debian_kernel, tool

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def kernel(pytestconfig: pytest.Config) -> Kernel:
    """Debian's, from pytest's cache; every tool that is needed is there."""
    for name in PACKAGES:
        tool(name)
    assert pytestconfig.cache is not None
    return debian_kernel(pytestconfig.cache.mkdir("kernel"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print at once, past pytest's capture: the figures are part of the result."""

    def now(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    return now
