"""A store, a Kafka with the topics, and what a relay has sent."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

import psycopg
import pytest

from events.codec import from_cloudevent
from events.conversations import Band
from events.envelope import Recorded
from events.topics import Topics
from infra.event_store import ConversationStore, open_conversation_store
from infra.kafka.consumer import LogReader, Record
from infra.kafka.producer import Producer
from infra.kafka.topics import make_topics
from infra.relay import Relay
from infra.settings import Settings
from tests.contracts.event_store.appends import append, asked, message
from tests.fixtures.servers import DatabaseUrl

PARTITIONS = 4
SECONDS_MAX = 60.0
LONG_LEASE_SECONDS = 60.0
"""A relay that the machine holds up for a moment keeps it."""
IMPATIENT_SECONDS, PATIENT_SECONDS = 5.0, 30.0
"""For a delivery. A relay whose Kafka is away for longer starts over, and repeats itself."""


@dataclass
class World:
    """Where a relay works, and how its work is seen."""

    url: str
    kafka: str
    topics: Topics
    store: ConversationStore
    reader: LogReader
    records: list[Record] = field(default_factory=list)

    async def post(self, streams: int = 1, events_each: int = 1) -> list[UUID]:
        """Appends events to fresh streams, round by round."""
        made = [append().stream for _ in range(streams)]
        for after in range(events_each):
            await asyncio.gather(
                *(self.store.append(append(message(one), stream=one, after=after)) for one in made)
            )
        return made

    def relay(self, producer: Producer, lease_seconds_max: float = LONG_LEASE_SECONDS) -> Relay:
        return Relay(
            "conversations", self.url, producer, self.topics, lease_seconds_max=lease_seconds_max
        )

    async def position(self) -> int:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            cursor = await connection.execute("SELECT position FROM conversations.relay")
            row = await cursor.fetchone()
        assert row is not None
        return int(row[0])

    async def log_end(self) -> int:
        return await asyncio.to_thread(self.store.recorder.max_notification_id) or 0

    async def read_until(self, condition: Callable[[], bool]) -> None:
        """Reads the topics until the condition holds."""
        until = monotonic() + SECONDS_MAX
        while not condition():
            assert monotonic() < until, f"{len(self.records)} records, and the condition is unmet"
            self.records += await self.reader.read()

    async def read_all_of(self, streams: Iterable[UUID], events_each: int) -> None:
        """Reads until the domain topic has every event of these streams."""
        wanted = {(stream, place + 1) for stream in streams for place in range(events_each)}
        await self.read_until(lambda: wanted <= {(one.stream, one.position) for one in self.sent()})

    def sent(self, topic: str | None = None) -> list[Recorded]:
        """What was read from a topic, repeats included."""
        topic = topic or self.topics.domain("conversations")
        found = [record for record in self.records if record.topic == topic]
        return [from_cloudevent(record.headers, record.value) for record in found]

    def assert_in_order(self) -> dict[UUID, int]:
        """Drops repeats as consumers do; returns how far each stream came."""
        reached: dict[UUID, int] = {}
        for one in self.sent():
            last = reached.get(one.stream, 0)
            assert one.position <= last + 1, f"{one.stream}: {one.position} follows {last}"
            reached[one.stream] = max(last, one.position)
        return reached


@pytest.fixture
async def world(kafka: str, topic_prefix: str, database_url: DatabaseUrl) -> AsyncIterator[World]:
    topics = Topics(topic_prefix.rstrip("."))
    settings = Settings(kafka=kafka, partitions=PARTITIONS, single_machine=True)
    await make_topics(kafka, topics, settings)
    url = database_url("conversations")
    store = await open_conversation_store(url)
    reader = LogReader(kafka)
    names = (topics.domain("conversations"), *(topics.work(band) for band in Band))
    await reader.assign({(name, number): 0 for name in names for number in range(PARTITIONS)})
    yield World(url, kafka, topics, store, reader)
    await reader.close()
    await store.close()


@pytest.fixture
async def producer(kafka: str) -> AsyncIterator[Producer]:
    producer = Producer(kafka, delivery_seconds_max=PATIENT_SECONDS)
    yield producer
    await producer.close()


@pytest.fixture
async def impatient_producer(kafka: str) -> AsyncIterator[Producer]:
    producer = Producer(kafka, delivery_seconds_max=IMPATIENT_SECONDS)
    yield producer
    await producer.close()


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    """Runs relays inside the block and stops them in good order after it."""
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for relay in relays:
            relay.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), SECONDS_MAX)


async def eventually(condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
    until = monotonic() + seconds_max
    while not condition():
        assert monotonic() < until, "not in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def relay_process(
    world: World, lease_seconds_max: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A relay as a process of its own, to be killed or paused."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contracts.relay.relay_process",
        world.url,
        world.kafka,
        world.topics.prefix,
        str(lease_seconds_max),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


__all__ = ["World", "append", "asked", "eventually", "relay_process", "running"]
