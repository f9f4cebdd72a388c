"""Recorder, live streams, log and event store together, on real servers; and what if one goes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from commands.conversations import (
    CONVERSATIONS,
    AskAnswer,
    CompleteOnce,
    NewMessage,
    complete_once,
)
from commands.submit import Commands, fingerprint
from events.answers import Chunk, Claim, ClaimId, End, Entry, Fold, TokenRecord, entries, fold
from events.codec import encode_token_record
from events.conversations import AnswerEnded, Band, EndKind, Role, Sampling, Usage
from events.envelope import Meta
from events.ids import AnswerId, ConversationId, MessageId, fresh_id
from events.topics import Topics
from gateway.answer_streams import IDLE, AnswerRef, AnswerStreams, Pace
from infra.event_store import ConversationStore, open_conversation_store
from infra.kafka.consumer import LogReader
from infra.kafka.producer import Producer
from infra.kafka.topics import make_topics
from infra.live_streams import RedisLiveStreams
from infra.partitions import partition_of
from infra.read_models import StoredEnds
from infra.recorder import run_recorder
from infra.servers import EmbeddedServers
from infra.settings import Settings
from infra.token_reader import KafkaTokenFolds
from tests.fixtures.servers import DatabaseUrl

PARTITIONS = 4
PACE = Pace(read_seconds_max=0.2, ended_check_seconds=0.5, keepalive_seconds=1)


class Answer:
    """One answer, said into the real log."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.answer = AnswerId(fresh_id())
        self.conversation = ConversationId(fresh_id())
        self.tenant = fresh_id()
        self._claim = ClaimId(1, fresh_id())
        self.fold = Fold()

    @property
    def ref(self) -> AnswerRef:
        return AnswerRef(self.answer, self.conversation, self.tenant)

    @property
    def entries(self) -> list[Entry]:
        return entries(self.fold)

    async def ask(self) -> None:
        meta = Meta(self.tenant, str(uuid4()), "t", "s", datetime.now(UTC), fresh_id())
        ask = AskAnswer(self.answer, "m", Band.DEFAULT, 60, Sampling(max_tokens=9))
        message = NewMessage(MessageId(fresh_id()), Role.USER, "?")
        command = CompleteOnce(self.conversation, (message,), ask)
        commands = Commands(self._world.store, CONVERSATIONS, event_bytes_max=900_000)
        await commands.submit(
            self.conversation, lambda s: complete_once(s, command), meta, fingerprint("?")
        )
        await self._write(Claim(self.answer, self._claim, "w", "m"))

    async def say(self, count: int) -> None:
        for index in range(self.fold.next_index, self.fold.next_index + count):
            await self._write(Chunk(self.answer, self._claim, index, f"word {index} ", 1))

    async def end(self) -> None:
        index, usage = self.fold.next_index, Usage(prompt_tokens=1, completion_tokens=2)
        await self._write(
            End(self.answer, self._claim, index, EndKind.FINISH, "stop", None, ".", 1, usage)
        )

    async def _write(self, record: TokenRecord) -> None:
        self.fold = fold(self.fold, record)
        await self._world.producer.send(
            self._world.topics.tokens,
            key=str(self.conversation).encode(),
            value=encode_token_record(record),
        )


class World:
    store: ConversationStore
    producer: Producer
    streams: AnswerStreams
    settings: Settings
    topics: Topics
    redis: EmbeddedServers

    async def an_answer(self) -> Answer:
        made = Answer(self)
        await made.ask()
        return made

    async def read(self, answer: Answer, seen: list[Entry], *, after: int = -1) -> None:
        async with aclosing(self.streams.read(answer.ref, after=after)) as stream:
            async for entry in stream:
                if entry is not IDLE:
                    seen.append(entry)  # noqa: PERF401  # it is looked at meanwhile

    async def flush(self) -> None:
        async with Redis.from_url(self.redis.redis.url) as client:
            await client.flushall()

    @asynccontextmanager
    async def recorder(self) -> AsyncIterator[None]:
        task = asyncio.create_task(run_recorder(self.settings, self.topics, self.store))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def world(
    kafka: str, topic_prefix: str, database_url: DatabaseUrl, tmp_path: Path
) -> AsyncIterator[World]:
    made = World()
    made.redis = EmbeddedServers(tmp_path, which=["redis"])
    made.redis.start()
    made.topics = Topics(prefix=topic_prefix.rstrip("."))
    made.settings = Settings(
        kafka=kafka, redis=made.redis.redis.url, partitions=PARTITIONS, single_machine=True
    )
    await make_topics(kafka, made.topics, made.settings)
    made.store = await open_conversation_store(database_url("conversations"))
    made.producer = Producer(kafka)
    live = RedisLiveStreams(made.redis.redis.url, prefix=made.topics.prefix, partitions=PARTITIONS)
    await live.start()
    folds = KafkaTokenFolds(kafka, made.topics, partitions=PARTITIONS)
    made.streams = AnswerStreams(live, folds, [StoredEnds(made.store)], PACE)
    yield made
    await folds.close()
    await live.close()
    await made.producer.close()
    await made.store.close()
    made.redis.stop()


async def becomes(condition: Callable[[], object], seconds_max: float = 60) -> None:
    async with asyncio.timeout(seconds_max):
        while not condition():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.01)


async def recorded(world: World, answer: Answer) -> AnswerEnded | None:
    for one in await world.store.load(answer.conversation):
        if isinstance(one.event, AnswerEnded):
            return one.event
    return None


async def is_recorded(world: World, answer: Answer) -> AnswerEnded:
    async with asyncio.timeout(60):
        while (found := await recorded(world, answer)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return found


async def test_an_answer_goes_from_the_log_to_its_reader_and_is_recorded(world: World) -> None:
    async with world.recorder():
        answer = await world.an_answer()
        seen: list[Entry] = []
        reading = asyncio.create_task(world.read(answer, seen))
        await answer.say(5)
        await becomes(lambda: seen == answer.entries)
        await answer.end()
        await asyncio.wait_for(reading, 60)
        assert seen == answer.entries
        assert (await is_recorded(world, answer)).text == answer.fold.text
        late: list[Entry] = []
        await world.read(answer, late, after=2)
        assert late == answer.entries[3:]


@pytest.mark.parametrize("how", ["flush", "restart"])
async def test_a_reader_outlives_what_happens_to_redis(world: World, how: str) -> None:
    async with world.recorder():
        answer = await world.an_answer()
        seen: list[Entry] = []
        reading = asyncio.create_task(world.read(answer, seen))
        for _ in range(4):
            await answer.say(3)
            await becomes(lambda: seen == answer.entries)
            if how == "flush":
                await world.flush()
            else:
                await asyncio.to_thread(world.redis.redis.kill)
                await answer.say(2)
                await becomes(lambda: seen == answer.entries)
                await asyncio.to_thread(world.redis.redis.start)
        await answer.end()
        await asyncio.wait_for(reading, 60)
        assert seen == answer.entries


async def test_a_reader_outlives_every_recorder(world: World) -> None:
    answer, seen = await world.an_answer(), list[Entry]()
    reading = asyncio.create_task(world.read(answer, seen))
    for _ in range(3):
        async with world.recorder():
            await answer.say(2)
            await becomes(lambda: seen == answer.entries)
        await answer.say(2)
        await becomes(lambda: seen == answer.entries)
    await answer.end()
    await asyncio.wait_for(reading, 60)
    assert seen == answer.entries
    assert await recorded(world, answer) is None
    async with world.recorder():
        assert (await is_recorded(world, answer)).text == answer.fold.text


async def test_a_reader_who_comes_when_nobody_is_left_reads_the_log(world: World) -> None:
    answer = await world.an_answer()
    await answer.say(3)
    await answer.end()
    await asyncio.to_thread(world.redis.redis.kill)
    seen: list[Entry] = []
    await asyncio.wait_for(world.read(answer, seen, after=0), 60)
    assert seen == answer.entries[1:]


async def test_the_partition_of_a_key_is_the_one_that_kafka_chose(world: World) -> None:
    answers = [await world.an_answer() for _ in range(12)]
    reader = LogReader(world.settings.kafka_servers)
    found: dict[bytes, int] = {}
    try:
        await reader.assign({(world.topics.tokens, number): 0 for number in range(PARTITIONS)})
        async with asyncio.timeout(60):
            while len(found) < len(answers):
                for each in await reader.read():
                    found[each.key or b""] = each.partition
    finally:
        await reader.close()
    for answer in answers:
        key = str(answer.conversation).encode()
        assert found[key] == partition_of(answer.conversation, PARTITIONS)
