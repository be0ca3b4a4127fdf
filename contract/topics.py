"""MQTT 5 topics: ``wanggan/1/up/<agent>/...`` and ``wanggan/1/down/<agent>/...``."""

from typing import Final

ROOT: Final = "wanggan/1"
SUPPRESS: Final = f"{ROOT}/down/all/suppress"


def up(agent: str, leaf: str) -> str:
    """Topic of `agent`'s messages; leaf is `status`, `records` or `reply`. ``+`` as agent subscribes to all."""
    return f"{ROOT}/up/{agent}/{leaf}"


def down(agent: str, leaf: str) -> str:
    """Topic of messages to `agent`; leaf is `ack`, `config` or `command`."""
    return f"{ROOT}/down/{agent}/{leaf}"


def agent_of(topic: str) -> str:
    """The agent that a received ``up`` topic names.

    :raises ValueError: when it is no such topic.
    """
    parts = topic.split("/")
    if len(parts) != 5 or parts[:3] != [*ROOT.split("/"), "up"]:
        raise ValueError(f"not an agent's topic: {topic[:80]!r}")
    return parts[3]
