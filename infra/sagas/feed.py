"""Feeds a saga the events of its context, in batches of one transaction each.

Kafka's consumer group shares the partitions among processes, and Postgres keeps where to read on,
together with what was made of what was read. So a kill at any moment leaves the two in agreement,
and a process that has lost a partition while it slept changes nothing.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Generic

from events.topics import Topics
from infra.failpoints import hit
from infra.kafka.consumer import GroupReader, Partition, Record
from infra.sagas import tables
from infra.sagas.changes import locked, move_offsets
from infra.sagas.hearing import Heard, hear
from infra.sagas.tables import Db
from infra.settings import Settings
from sagas.saga import Saga, Sent, State

log = logging.getLogger("thalweg.sagas")

RECORDS_PER_BATCH_MAX = 2_000
"""More would gain nothing: a batch takes some milliseconds, most of them for its events."""
GATHER_SECONDS = 1.0
"""A saga has no urgency, and what is over within a batch costs next to nothing."""
READ_SECONDS_MAX = 2.0


class Feed(Generic[State, Sent]):
    """One life of it, on one connection. Whatever fails, the next starts from what is stored."""

    def __init__(self, saga: Saga[State, Sent], topics: Topics, connection: Db) -> None:
        self._saga = saga
        self._topic = topics.domain(saga.context)
        self._group = f"{topics.sagas_group}.{saga.name}"
        self._connection = connection
        self._next: dict[int, int] = {}

    async def run(self, settings: Settings) -> None:
        """Until cancelled. Raises Overtaken, ReadFailed and what psycopg raises."""
        reader = GroupReader(
            settings.kafka_servers,
            self._group,
            [self._topic],
            self.assigned,
            self.revoked,
            client_id=f"saga-{self._saga.name}",
            session_timeout_seconds=settings.session_timeout_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            gather_seconds=GATHER_SECONDS,
        )
        try:
            while True:
                records = await reader.read(RECORDS_PER_BATCH_MAX, READ_SECONDS_MAX)
                if records:
                    hit("sagas.after_read")
                    await self.apply(records)
                    hit("sagas.after_commit")
        finally:
            await asyncio.shield(reader.close())

    async def apply(self, records: Sequence[Record]) -> None:
        """One batch. If it raises, nothing was written."""
        heard = hear(self._saga, records)
        after = {record.partition: record.offset + 1 for record in records}
        moves = {each: (self._next[each], at) for each, at in after.items()}
        async with self._connection.transaction():
            await move_offsets(self._connection, self._saga.name, self._topic, moves)
            await self._react(heard)
            await self._set_aside(heard)
            hit("sagas.before_commit")
        self._next.update(after)

    async def _react(self, heard: Heard) -> None:
        if not heard.instances:
            return
        changes = await locked(self._connection, self._saga, heard.instances)
        closing = {one: heard.closed[one] for one in heard.closed if one in changes.known}
        for records in (closing, heard.opened):
            for instance, record in records.items():
                recorded = heard.read(record)
                if recorded is not None:
                    changes.take(instance, recorded)
        await changes.save(self._connection)

    async def _set_aside(self, heard: Heard) -> None:
        for record, problem in heard.unreadable:
            place = record.topic, record.partition, record.offset
            log.error(
                "an event can't be read: what it is about is not watched",
                extra={"saga": self._saga.name, "place": place, "problem": problem},
            )
            problem = problem.replace("\0", "")
            await self._connection.execute(tables.UNREADABLE, (self._saga.name, *place, problem))

    # inside a read ------------------------------------------------------------------------

    async def assigned(self, partitions: list[Partition]) -> dict[Partition, int]:
        """Kafka has given it these: where to read each of them on."""
        hit("sagas.on_assignment")
        numbers = [number for _, number in partitions]
        key = self._saga.name, self._topic, numbers
        await self._connection.execute(tables.ENSURE_OFFSETS, key)
        found = await (await self._connection.execute(tables.OFFSETS, key)).fetchall()
        self._next.update(found)
        return {(self._topic, number): at for number, at in found}

    async def revoked(self, partitions: list[Partition]) -> None:
        for _, number in partitions:
            self._next.pop(number, None)
