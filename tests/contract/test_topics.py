"""Topics name their agent, and nothing else passes for one."""

import pytest

from contract.topics import agent_of, down, up


def test_agent_of_its_own_topic() -> None:
    assert agent_of(up("lib-01", "records")) == "lib-01"


@pytest.mark.parametrize("topic", [down("lib-01", "ack"), "wanggan/2/up/a/records", "wanggan/1/up/a", "", "a/b/c/d/e"])
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="not an agent's topic"):
        agent_of(topic)
