"""Dead letters once more: what passes now is stored and marked."""

import time
from typing import NamedTuple

from collector.config import Settings
from collector.deadletters import DeadLetters, Letter
from collector.points import Judge, Judgement
from contract.codec import PayloadError, decode_batch, decode_record
from store.interface import Store
from store.point import Point
from store.register import Register
from store.settings import open_store


class Replayed(NamedTuple):
    """Counts of letters."""

    stored: int
    refused: int
    """Not believed, unknown to the register, or refused by the store: still there."""
    cut: int
    """Too long to have been kept whole."""


async def replay(settings: Settings) -> Replayed:
    """Every letter that was not replayed before.

    :raises StoreError: when the store cannot be written; nothing is marked then.
    :raises ConfigError: when the register is broken.
    """
    letters = DeadLetters(settings.state, settings.limits.dead_letters_mib * 2**20)
    judge = Judge(Register(settings.sites))
    store = open_store(settings.store)
    try:
        await store.ensure()
        return await _replay(letters, judge, store)
    finally:
        await store.close()


async def _replay(letters: DeadLetters, judge: Judge, store: Store) -> Replayed:
    done = letters.replayed()
    points: list[Point] = []
    owners: list[str] = []
    refused = cut = 0
    now_us = int(time.time() * 1e6)
    for letter in letters.letters():
        if letter.id in done:
            continue
        raw = letter.bytes()
        if raw is None:
            cut += 1
            continue
        verdict = _judge(letter, raw, judge, now_us)
        if verdict is None or verdict.rejected or verdict.later:
            refused += 1
            continue
        points += verdict.points
        owners += [letter.id] * len(verdict.points)
    bad = {owners[refusal.place] for refusal in await store.write(points)} if points else set()
    stored = set(owners) - bad
    letters.mark_replayed(stored)
    return Replayed(stored=len(stored), refused=refused + len(bad), cut=cut)


def _judge(letter: Letter, raw: bytes, judge: Judge, now_us: int) -> Judgement | None:
    """What becomes of its record, or of all its records; None when it is still not to be believed."""
    try:
        if letter.index is not None:
            return judge.judge(letter.agent, [decode_record(raw)], now_us)
        decoded = decode_batch(raw)
    except PayloadError:
        return None
    if decoded.batch.agent != letter.agent:
        return None
    return judge.judge(letter.agent, decoded.places, now_us)
