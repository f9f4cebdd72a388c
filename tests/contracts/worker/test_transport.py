"""What we rely on in Faust and aiokafka, pinned on a real broker."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from events.conversations import Band
from infra.answers_worker.app import AnswersApp
from infra.answers_worker.watermarks import Watermarks
from processors.answers.ports import Request
from tests.contracts.kafka.damaged import send_with_a_raw_name
from tests.contracts.worker.asking import Installation

KAFKA_SECONDS_MAX = 20
SESSION_SECONDS = 10.0
"""Nobody dies here, and a machine that stands still for a moment costs no membership."""
BEHIND = 4_000
AT_A_TIME = 500  # sent to Kafka


class Notes:
    """Stands where the worker stands, and notes what the app tells it."""

    def __init__(self) -> None:
        self.assignments: list[tuple[int, set[int]]] = []
        self.requests: list[tuple[float, Request]] = []
        self.cancels: list[object] = []

    def assigned(self, generation: int, partitions: Collection[int]) -> None:
        self.assignments.append((generation, set(partitions)))

    def take(self, request: Request) -> None:
        self.requests.append((time.perf_counter(), request))

    def cancel(self, answer: object) -> None:
        self.cancels.append(answer)


@asynccontextmanager
async def running(installation: Installation) -> AsyncIterator[tuple[AnswersApp, Notes]]:
    notes = Notes()
    app = AnswersApp(
        installation.settings.model_copy(update={"session_timeout_seconds": SESSION_SECONDS}),
        installation.topics,
        notes,
        Watermarks(),
        loop=asyncio.get_running_loop(),
    )
    await app.start()
    try:
        await installation.until(lambda: bool(notes.assignments), "an assignment")
        yield app, notes
    finally:
        await app.stop()


async def test_the_generation_is_the_groups_and_rises_with_each_rebalance(
    installation: Installation,
) -> None:
    async with running(installation) as (app, first):
        assert first.assignments[-1] == (app.consumer.generation, {0, 1, 2, 3})
        async with running(installation) as (_, second):
            await installation.until(lambda: len(first.assignments) == 2, "a rebalance")
            assert first.assignments[-1][0] == second.assignments[-1][0]
            assert first.assignments[-1][0] > first.assignments[0][0]
            assert first.assignments[-1][1] | second.assignments[-1][1] == {0, 1, 2, 3}
            assert not first.assignments[-1][1] & second.assignments[-1][1]


async def test_a_partition_number_has_one_owner_on_all_work_topics(
    installation: Installation,
) -> None:
    async with running(installation) as (one, first), running(installation) as (two, _):
        await installation.until(lambda: len(first.assignments) == 2, "a rebalance")
        for app in (one, two):
            owned = app.consumer.assignment()
            by_topic = {
                topic: {each.partition for each in owned if each.topic == topic}
                for topic in installation.topics.all_work
            }
            assert len({frozenset(numbers) for numbers in by_topic.values()}) == 1


async def test_commits_stop_at_the_oldest_unfinished_message(installation: Installation) -> None:
    stream, _, _ = await installation.ask("a")
    for _ in range(3):
        await installation.ask("b", conversation=stream)
    async with running(installation) as (app, notes):
        await installation.until(lambda: len(notes.requests) == 4, "four requests")
        places = [request.place for _, request in notes.requests]
        topic = installation.topics.work(Band.DEFAULT)
        partition = (topic, places[0].partition)
        for place in (places[1], places[3]):
            app.watermarks.finish(partition, place.offset)
        await app.consumer.commit()
        assert await installation.reader.committed([partition]) == {partition: 0}
        app.watermarks.finish(partition, places[0].offset)
        await app.consumer.commit()
        assert await installation.reader.committed([partition]) == {partition: 2}


async def test_topics_that_are_held_back_wait_without_a_loss_and_cancels_come(
    installation: Installation,
) -> None:
    async with running(installation) as (app, notes):
        default = installation.topics.work(Band.DEFAULT)
        app.consumer.hold_back([default])
        for _ in range(20):
            await installation.ask("x")
        stream, answer, _ = await installation.ask("y", band=Band.PRIORITY)
        await installation.cancel(stream, answer)
        await installation.until(lambda: notes.cancels == [answer], "the cancel")
        app.consumer.hold_back([])
        await installation.until(lambda: len(notes.requests) == 21, "all requests")


async def test_thousands_of_messages_behind_a_commit_come_in_seconds(
    installation: Installation,
) -> None:
    """With a rebalance they come again, and what is new comes behind them. Faust would bring as
    many a second as its buffer takes: past the bound of this test."""
    _, _, recorded = await installation.ask("again and again")
    for _ in range(BEHIND // AT_A_TIME):
        await asyncio.gather(
            *(installation.relay(recorded, Band.DEFAULT) for _ in range(AT_A_TIME))
        )
    async with running(installation) as (_, notes):
        await installation.until(lambda: len(notes.requests) > BEHIND, "all", seconds_max=30)


async def test_from_produce_to_the_worker_takes_milliseconds(installation: Installation) -> None:
    async with running(installation) as (_, notes):
        _, _, recorded = await installation.ask("warm")
        await installation.until(lambda: len(notes.requests) == 1, "the first")
        took = []
        for number in range(2, 52):
            start = time.perf_counter()
            await installation.relay(recorded, Band.DEFAULT)
            await installation.until(lambda at=number: len(notes.requests) == at, "the next")
            took.append(notes.requests[-1][0] - start)
        print(f"p50 {sorted(took)[25] * 1e3:.2f} ms")  # noqa: T201
        # On a machine under load the quick ones tell: a pause on the way would hold up each.
        assert sorted(took)[5] < 0.1


async def test_a_header_name_that_is_not_utf_8_stops_no_worker(installation: Installation) -> None:
    async with running(installation) as (app, notes):
        stream, _, _ = await installation.ask("before")
        await installation.until(lambda: len(notes.requests) == 1, "the first request")
        place = notes.requests[0][1].place
        topic = installation.topics.work(Band.DEFAULT)
        await send_with_a_raw_name(installation.settings.kafka_servers, topic, place.partition)
        await installation.ask("after", conversation=stream)
        await installation.until(lambda: len(notes.requests) == 2, "the request behind it")
        assert notes.requests[1][1].place.offset == place.offset + 2
        partition = (topic, place.partition)
        for each in (place.offset, place.offset + 2):
            app.watermarks.finish(partition, each)
        await app.consumer.commit()
        assert await installation.reader.committed([partition]) == {partition: place.offset + 3}


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_a_broker_compresses_by_its_own_setting_is_read(
    installation: Installation, codec: str
) -> None:
    topic = installation.topics.work(Band.DEFAULT)
    admin = AdminClient({"bootstrap.servers": installation.settings.kafka_servers})
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([changed]).values():
        done.result(KAFKA_SECONDS_MAX)
    async with running(installation) as (_, notes):
        await installation.ask("squeezed")
        await installation.until(lambda: len(notes.requests) == 1, "the request")
