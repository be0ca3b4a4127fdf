"""What the collector knows right now, in memory: links, agents, counters. The status page and metrics read it."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from contract.messages import BatchId, Status


@dataclass
class Link:
    """A connection of ours, to the broker or to the store."""

    up: bool = False
    since: datetime | None = None
    """When it last changed; None before the first attempt ended."""
    reason: str | None = None
    """Why it is down, in words for people; None while it is up."""

    def change(self, up: bool, at: datetime, reason: str | None = None) -> bool:
        """Note the state; True when it changed (log the change, not the state)."""
        changed = self.since is None or self.up != up
        if changed:
            self.up, self.since = up, at
        self.reason = None if up else reason
        return changed


@dataclass
class AgentState:
    """One agent as its messages show it."""

    status: Status | None = None
    """The last accepted birth or will; None when only records were seen."""
    status_at: datetime | None = None
    last_batch_at: datetime | None = None
    """Collector's time of the last batch that was answered."""
    registered: bool = False
    """False: waiting for registration, its records are answered `later: unknown_agent`."""
    clock_offset_ms: float | None = None
    """Agent's `sent_at` minus our clock at receipt, of the last batch."""
    last_stored: BatchId | None = None
    """The newest batch of its outbox that was stored; None when none is known."""


@dataclass
class State:
    """One per collector."""

    started_at: datetime
    broker: Link = field(default_factory=Link)
    store: Link = field(default_factory=Link)
    agents: dict[str, AgentState] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    """`received` `stored` `rejected` `later` `dead_letters` `dropped` records, and each reason as `rejected.<reason>`,
    `later.<reason>`, `refused.<refusal>`."""
    queue_bytes: int = 0
    """Bytes of batches that wait for the store."""
    alarms: dict[str, str] = field(default_factory=dict)
    """What a person must look at, in words, by name: `register` `store_limit` `dead_letters`."""

    def alarm(self, name: str, words: str | None) -> bool:
        """Raise an alarm, or with None take it back; True when that changed something."""
        if words is None:
            return self.alarms.pop(name, None) is not None
        changed = name not in self.alarms
        self.alarms[name] = words
        return changed
