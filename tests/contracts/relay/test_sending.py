"""How the relay deals with a producer that holds back, fails or is full, step by step."""

import asyncio
import gc
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest

from events.codec import from_cloudevent
from events.ids import fresh_id
from events.topics import Topics
from infra.event_store import ConversationStore, open_conversation_store
from infra.kafka.producer import Delivered, NotDelivered, ProducerFull
from infra.relay import Relay
from tests.contracts.event_store.appends import append, message
from tests.contracts.relay.conftest import eventually, running
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
Headers = list[tuple[str, bytes]]


class ScriptedSender:
    """Keeps infra.kafka.producer.Producer's promises; the test says when what is acknowledged."""

    def __init__(self) -> None:
        self.resets = 0
        self.holding = False
        self.holding_after_reset = True
        self.full_times = 0
        self.fail_all_at: int | None = None
        """When so many messages were offered, all that are outstanding fail."""
        self.offered = 0
        self.landed: list[UUID] = []
        """The events that are in the log."""
        self.outstanding: list[tuple[UUID, asyncio.Future[Delivered]]] = []

    def send(
        self, topic: str, *, key: bytes, value: bytes, headers: Headers | None
    ) -> "asyncio.Future[Delivered]":
        if self.full_times:
            self.full_times -= 1
            raise ProducerFull
        self.offered += 1
        future: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()
        self.outstanding.append((from_cloudevent(headers, value).id, future))
        if self.offered == self.fail_all_at:
            self.reset("as scripted")
        elif not self.holding:
            self.acknowledge()
        return future

    def acknowledge(self) -> None:
        for event, future in self.outstanding:
            self.landed.append(event)
            future.set_result(Delivered(0, len(self.landed)))
        self.outstanding = []

    def reset(self, reason: str) -> None:
        self.resets += 1
        self.holding = self.holding and self.holding_after_reset
        for _, future in self.outstanding:
            if not future.done():
                future.set_exception(NotDelivered(reason))
        self.outstanding = []


@pytest.fixture
async def url(database_url: DatabaseUrl) -> str:
    return database_url("conversations")


@pytest.fixture
async def store(url: str) -> AsyncIterator[ConversationStore]:
    store = await open_conversation_store(url)
    yield store
    await store.close()


async def post(store: ConversationStore, number: int) -> list[UUID]:
    """Appends so many events at once, which one read finds together; returns their ids."""
    stream = fresh_id()
    given = append(*(message(stream) for _ in range(number)), stream=stream)
    await store.append(given)
    return [one.id for one in given.events]


async def stored_position(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT position FROM conversations.relay")
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_the_position_waits_for_the_acknowledgement(
    url: str, store: ConversationStore
) -> None:
    sender = ScriptedSender()
    sender.holding = True
    async with running(Relay("conversations", url, sender, Topics("test"))):
        await post(store, 3)
        await eventually(lambda: len(sender.outstanding) == 3)
        assert await stored_position(url) == 0
        await post(store, 2)  # sent without waiting for the acknowledgement of the first
        await eventually(lambda: len(sender.outstanding) == 5)
        sender.acknowledge()
    assert await stored_position(url) == 5


async def test_after_a_failure_nothing_overtakes_what_failed(
    url: str, store: ConversationStore
) -> None:
    sender = ScriptedSender()
    sender.holding = True
    async with running(Relay("conversations", url, sender, Topics("test"), events_per_read_max=10)):
        first = await post(store, 10)
        await eventually(lambda: len(sender.outstanding) == 10)
        # While the next read is being sent, all that is outstanding turns out to be lost.
        sender.fail_all_at = 15
        sender.holding_after_reset = False
        rest = await post(store, 10)
        await eventually(lambda: set(sender.landed) >= {*first, *rest})
    in_order = list(dict.fromkeys(sender.landed))  # repeats dropped
    assert in_order == [*first, *rest]


async def test_of_many_that_fail_together_the_log_tells_once(
    url: str, store: ConversationStore, caplog: pytest.LogCaptureFixture
) -> None:
    sender = ScriptedSender()
    sender.holding = True
    async with running(Relay("conversations", url, sender, Topics("test"))):
        events = await post(store, 10)
        await eventually(lambda: len(sender.outstanding) == 10)
        sender.holding = False
        sender.reset("Kafka does not answer")
        await eventually(lambda: set(sender.landed) >= set(events))
    gc.collect()  # a future whose failure nobody has seen says so when it goes
    told = [
        one.getMessage() for one in caplog.records if "Kafka does not answer" in one.getMessage()
    ]
    assert told == ["Kafka did not take an event, starting over: Kafka does not answer"]


async def test_what_was_not_acknowledged_is_sent_again_by_the_next_leader(
    url: str, store: ConversationStore
) -> None:
    events = await post(store, 4)
    stuck, healthy = ScriptedSender(), ScriptedSender()
    stuck.holding = True
    relay = Relay("conversations", url, stuck, Topics("test"))
    task = asyncio.create_task(relay.run())
    await eventually(lambda: len(stuck.outstanding) == 4)
    task.cancel()
    await asyncio.wait([task])
    assert stuck.resets == 1  # nothing of it may land later
    async with running(Relay("conversations", url, healthy, Topics("test"))):
        await eventually(lambda: healthy.landed == events)


async def test_a_full_producer_is_waited_for(url: str, store: ConversationStore) -> None:
    sender = ScriptedSender()
    sender.full_times = 5
    events = await post(store, 3)
    async with running(Relay("conversations", url, sender, Topics("test"))):
        await eventually(lambda: sender.landed == events)


async def test_without_a_notification_the_store_is_read_all_the_same(
    url: str, store: ConversationStore
) -> None:
    sender = ScriptedSender()
    store.recorder._notify = b"NOTIFY somewhere_else"
    async with running(Relay("conversations", url, sender, Topics("test"))):
        await post(store, 1)
        await eventually(lambda: len(sender.landed) == 1)
        events = await post(store, 1)
        await eventually(lambda: sender.landed[1:] == events)
