"""The MQTT messages: Batch up, Ack down, Status retained."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from contract.fields import AgentId, Count, Interface, Seconds, Signed, Slug, Time
from contract.record import Record, Target
from contract.vocabulary import Later, Rejection, Role

VERSION: Final = 1
"""Version of the wire contract, in every batch and in every topic."""

MAX_RECORDS: Final = 100
MAX_BYTES: Final = 64 * 1024
"""Limits of one batch payload."""


class Batch(Struct, kw_only=True):
    """Up to 100 records of one agent. Identity is (agent, outbox, batch); `boot` is information only."""

    v: int = VERSION
    agent: AgentId
    outbox: UUID
    """Made with the outbox file."""
    batch: Count
    """Grows within one outbox; gaps are normal and mean nothing."""
    boot: UUID
    sent_at: Time
    config_version: Signed
    records: Annotated[list[Record], Meta(min_length=1, max_length=MAX_RECORDS)]


class BatchId(Struct, frozen=True, array_like=True):
    """Identity of a batch within its agent, as it travels in MQTT 5 Correlation Data: ``["<outbox>",<batch>]``."""

    outbox: UUID
    batch: Count

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "BatchId":
        """:raises msgspec.MsgspecError: when `data` is not a batch identity."""
        return msgspec.json.decode(data, type=cls)


class Ack(Struct, kw_only=True):
    """The collector's answer to a batch; also sent, without a batch, in answer to a birth.

    With `later` nothing is final: nothing is deleted, `rejected` is empty, and the agent sends the batch again after
    1 to 60 min. The answer to a birth has no `batch`: it tells the time and the last stored batch.
    """

    outbox: UUID
    batch: Count | None
    at: Time
    """The collector's clock."""
    stored: Count = 0
    rejected: list[tuple[Count | None, Rejection]] = []
    """[index, reason]; index null means the whole batch could not be decoded."""
    later: Later | None = None
    last_stored: Count | None = None
    """In answer to a birth: the newest batch of this outbox that was stored; null when none is known."""


class Job(Struct, kw_only=True, frozen=True):
    """An announced job: what the collector may expect from an agent."""

    probe: Slug
    target: Target
    role: Role | None = None
    interface: Interface
    provider: Slug | None = None
    resolver: Slug | None = None
    period_s: Seconds


class Status(Struct, kw_only=True):
    """Retained birth and last will. A will of another session than the last birth's is ignored."""

    online: bool
    session: Count
    version: Annotated[str, Meta(max_length=64)]
    config_version: Signed
    outbox: UUID
    jobs: Annotated[list[Job], Meta(max_length=200)] = []
