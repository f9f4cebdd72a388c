"""How long answers waited at workers for an engine, as the workers' decisions tell: what the order
of a queue is to blame for, on a machine of any speed."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import median
from uuid import UUID

import psycopg

from events.decisions import CallEnded, OfAnswer, WasDispatched, WasGivenUp, WasQueued
from events.decisions import decode_decided as decoded
from events.topics import Topics
from infra.kafka.consumer import LogReader
from infra.kafka.offsets import OffsetQueries
from infra.settings import Settings

FINISHED = "finished"
TOLD_SECONDS_MAX = 60.0
"""Decisions are sent in the background, as Kafka takes them."""
DEADLINES = (
    "SELECT answer, extract(epoch FROM asked_at)::float8 + deadline_seconds"
    " FROM conversations.answers WHERE answer = ANY(%s)"
)


@dataclass
class Queues:
    """Decisions about answers, in the order in which they were taken."""

    of: Mapping[UUID, list[OfAnswer]]
    deadlines: Mapping[UUID, float] = field(default_factory=dict)
    """In the epoch's seconds, by the event store's clock, which is the workers' too."""

    @property
    def call_seconds(self) -> float:
        """How long a call of an engine takes that finishes: half of them are shorter."""
        calls = [one for decided in self.of.values() for one in decided]
        return median(
            one.seconds for one in calls if isinstance(one, CallEnded) and one.outcome == FINISHED
        )

    def waited_calls(self, answer: UUID | None) -> float:
        """How long an answer waited for a call or in vain, in durations of calls. Infinite, if no
        worker has told of it."""
        if answer is None or answer not in self.of:
            return float("inf")
        seconds, queued_at_ms = 0.0, 0
        for one in self.of[answer]:
            if isinstance(one, WasQueued):
                queued_at_ms = one.at_ms
            elif isinstance(one, WasDispatched):
                seconds += one.waited_seconds
            elif isinstance(one, WasGivenUp) and queued_at_ms:
                seconds += (one.at_ms - queued_at_ms) / 1_000
        return seconds / self.call_seconds

    def late(self, seconds: float) -> int:
        """Calls that were begun so long after their answer's deadline."""
        return sum(
            isinstance(one, WasDispatched) and one.at_ms / 1_000 > deadline + seconds
            for answer, deadline in self.deadlines.items()
            for one in self.of.get(answer, ())
        )


async def ends_of_decisions(settings: Settings) -> Mapping[int, int]:
    """Where `queues_since` is to begin."""
    queries = OffsetQueries(settings.kafka_servers)
    try:
        return await queries.end_offsets(Topics().decisions, range(settings.partitions))
    finally:
        await queries.close()


async def queues_since(
    settings: Settings, begin: Mapping[int, int], answers: Collection[UUID]
) -> Queues:
    """What was decided since then, once something was about each of these answers."""
    found: dict[UUID, list[OfAnswer]] = defaultdict(list)
    reader = LogReader(settings.kafka_servers)
    until = time.monotonic() + TOLD_SECONDS_MAX
    try:
        await reader.assign({(Topics().decisions, number): at for number, at in begin.items()})
        is_whole = False
        while not is_whole and time.monotonic() < until:
            records = await reader.read(records_max=5_000, seconds_max=0.5)
            for record in records:
                for one in decoded(record.value).decisions:
                    if isinstance(one, OfAnswer):
                        found[one.answer].append(one)
            is_whole = not records and set(answers) <= found.keys()
    finally:
        await reader.close()
    for decided in found.values():
        decided.sort(key=lambda one: one.at_ms)
    return Queues(dict(found), await asyncio.to_thread(_deadlines, settings, answers))


def _deadlines(settings: Settings, answers: Collection[UUID]) -> dict[UUID, float]:
    with psycopg.connect(settings.database_url("conversations")) as connection:
        return dict(connection.execute(DEADLINES, (list(answers),)).fetchall())
