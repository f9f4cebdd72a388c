"""Real servers: an event store, the tables of the sagas, and a test that is the relay."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import pytest

from commands.store import Append
from events.codec import to_cloudevent
from events.conversations import (
    AnswerAskedAgain,
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId, fresh_id
from events.topics import Topics
from infra.event_store import ConversationStore, open_conversation_store
from infra.kafka.consumer import Record
from infra.kafka.producer import Producer
from infra.kafka.topics import make_topics
from infra.sagas.answers import AskingAgain
from infra.sagas.feed import Feed
from infra.sagas.role import connected, run_sagas
from infra.sagas.tables import Db
from infra.sagas.work import Sender, Work
from infra.settings import Settings
from sagas.answers import Again, Open, OverdueAnswers, Patience
from tests.fixtures.servers import DatabaseUrl

TENANT = UUID(int=7)
SUBJECT = "ann"
PATIENCE = Patience(grace_seconds=0.2, again_seconds=60, times_max=2)
SAGA = OverdueAnswers(PATIENCE)
EVENT_BYTES_MAX = 950_000


class World:
    """Asks for answers, ends them, and looks at what became of them."""

    def __init__(self, settings: Settings, topics: Topics, store: ConversationStore) -> None:
        self.settings, self.topics, self.store = settings, topics, store
        self.url = settings.database_url("sagas")
        self.offset = 0
        self._stack = AsyncExitStack()
        self._db: Db
        self.producer: Producer

    async def open(self) -> None:
        self._db = await self.connect()

    async def connect(self) -> Db:
        return await self._stack.enter_async_context(connected(self.url))

    async def close(self) -> None:
        await self._stack.aclose()

    # the parts of the role

    async def feed(self) -> Feed[Open, Again]:
        """One that has every partition, as if Kafka had given them to it."""
        feed = Feed(SAGA, self.topics, await self.connect())
        topic = self.topics.domain("conversations")
        await feed.assigned([(topic, each) for each in range(self.settings.partitions)])
        return feed

    async def work(self, sender: Sender[Again] | None = None) -> Work[Open, Again]:
        return Work(SAGA, sender or self.sender(), await self.connect())

    def sender(self) -> AskingAgain:
        return AskingAgain(self.store, event_bytes_max=EVENT_BYTES_MAX)

    async def role(self) -> None:
        await run_sagas(self.settings, self.topics, self.store)

    # what happens in the world

    async def asked(
        self, *, seconds: float = -1.0, age: timedelta = timedelta(0)
    ) -> tuple[AnswerId, list[Recorded]]:
        """An answer, by default with a deadline that has passed; `age` by the gateway's clock."""
        stream, message, answer = (fresh_id() for _ in range(3))
        conversation = ConversationId(stream)
        events: list[Event] = [
            ConversationStarted(conversation=conversation),
            MessagePosted(
                conversation=conversation,
                message=MessageId(message),
                role=Role.USER,
                content="?",
                parent=None,
            ),
            AnswerRequested(
                conversation=conversation,
                answer=AnswerId(answer),
                parent=message,
                model="m",
                band=Band.FLEX,
                deadline_seconds=seconds,
                sampling=Sampling(max_tokens=1),
            ),
        ]
        return AnswerId(answer), await self._append(stream, events, 1, datetime.now(UTC) - age)

    async def ended(self, asked: Recorded) -> list[Recorded]:
        request = asked.event
        assert isinstance(request, AnswerRequested)
        event = AnswerEnded(
            conversation=request.conversation,
            answer=request.answer,
            kind=EndKind.FINISH,
            reason="stop",
            text="",
            chunk_lengths=(0,),
            usage=Usage(),
        )
        return await self._append(asked.stream, [event], asked.position + 1, datetime.now(UTC))

    async def _append(
        self, stream: UUID, events: Sequence[Event], first: int, at: datetime
    ) -> list[Recorded]:
        meta = Meta(TENANT, str(fresh_id()), "tester", SUBJECT, at, fresh_id())
        recorded = [
            Recorded(fresh_id(), stream, position, meta, event)
            for position, event in enumerate(events, first)
        ]
        await self.store.append(Append(TENANT, meta.command, b"asked", stream, recorded))
        return recorded

    async def relay(self, recorded: Sequence[Recorded]) -> None:
        topic = self.topics.domain("conversations")
        for one in recorded:
            key, headers, value = to_cloudevent(one)
            await self.producer.send(topic, key=key, value=value, headers=headers)

    def records(self, recorded: Sequence[Recorded]) -> list[Record]:
        """As a feed would read them, each at the next offset of partition 0."""
        found = []
        for one in recorded:
            key, headers, value = to_cloudevent(one)
            topic = self.topics.domain("conversations")
            found.append(Record(topic, 0, self.offset, 0, key, value, headers))
            self.offset += 1
        return found

    # what can be seen of it

    async def again(self, asked: Recorded) -> list[Recorded]:
        """How it was asked for again."""
        events = await self.store.load(asked.stream)
        return [one for one in events if isinstance(one.event, AnswerAskedAgain)]

    async def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        return await (await self._db.execute(query)).fetchall()

    async def change(self, statement: LiteralString) -> None:
        await self._db.execute(statement)

    async def state(self, answer: AnswerId) -> Open | None:
        found = await self._db.execute(
            "SELECT state FROM sagas.instances WHERE instance = %s", (answer,)
        )
        row = await found.fetchone()
        return None if row is None else Open.model_validate_json(row[0])

    async def waits(self) -> list[tuple[Any, ...]]:
        return await self.rows("SELECT instance, due FROM sagas.timers ORDER BY instance")


@pytest.fixture
async def world(topic_prefix: str, database_url: DatabaseUrl) -> AsyncIterator[World]:
    """Without a Kafka: steps are told what was read."""
    settings = Settings(
        kafka="127.0.0.1:1",
        single_machine=True,
        partitions=3,
        conversations_database_url=database_url("conversations"),
        sagas_database_url=database_url("sagas"),
        ask_again_grace_seconds=PATIENCE.grace_seconds,
        ask_again_seconds=PATIENCE.again_seconds,
        ask_again_times_max=PATIENCE.times_max,
    )
    store = await open_conversation_store(settings.database_url("conversations"))
    made = World(settings, Topics(topic_prefix.rstrip(".")), store)
    await made.open()
    yield made
    await made.close()
    await store.close()


@pytest.fixture
async def on_kafka(world: World, kafka: str) -> AsyncIterator[World]:
    world.settings = world.settings.model_copy(update={"kafka": kafka})
    await make_topics(kafka, world.topics, world.settings)
    world.producer = Producer(kafka)
    yield world
    await world.producer.close()


async def becomes(condition: Callable[[], Any], what: str, seconds_max: float = 30) -> None:
    """Waits until what the (async) condition gives is true."""
    try:
        async with asyncio.timeout(seconds_max):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited in vain: {what}") from None
