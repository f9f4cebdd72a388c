"""The role itself: from a real Kafka into a real Postgres, through restarts and outages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import LiteralString

import psycopg
import pytest
from confluent_kafka import Producer as Client
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from events.codec import to_cloudevent
from events.envelope import Recorded
from events.topics import Topics
from infra.kafka.producer import Producer
from infra.kafka.topics import make_topics
from infra.projections import run_projections
from infra.servers.postgres import PostgresServer
from infra.settings import Settings
from projections.answers import Answers
from projections.usage import Usage
from tests.contracts.kafka.damaged import send_with_a_raw_name
from tests.contracts.projections.deliver import a_conversation, an_account
from tests.fixtures.processes import wait_for
from tests.fixtures.servers import DatabaseUrl


class World:
    url: str
    topics: Topics
    settings: Settings
    producer: Producer

    async def send(self, context: str, recorded: list[Recorded]) -> None:
        for one in recorded:
            key, headers, value = to_cloudevent(one)
            await self.producer.send(
                self.topics.domain(context), key=key, value=value, headers=headers
            )

    @contextlib.asynccontextmanager
    async def projections(self) -> AsyncIterator[None]:
        task = asyncio.create_task(run_projections(self.settings, self.topics))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def count(self, table: str) -> int:
        with psycopg.connect(self.url) as db:
            try:
                row = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
            except psycopg.errors.UndefinedTable:
                return 0
        return row[0] if row else 0

    async def has(self, table: str, number: int) -> None:
        await becomes(lambda: self.count(table) == number)


@pytest.fixture
async def world(kafka: str, topic_prefix: str, database_url: DatabaseUrl) -> AsyncIterator[World]:
    made = World()
    made.url = database_url("projections")
    made.topics = Topics(prefix=topic_prefix.rstrip("."))
    made.settings = Settings(
        kafka=kafka, projections_database_url=made.url, partitions=3, single_machine=True
    )
    await make_topics(kafka, made.topics, made.settings)
    made.producer = Producer(kafka)
    yield made
    await made.producer.close()


async def becomes(condition: Callable[[], object], seconds_max: float = 60) -> None:
    async with asyncio.timeout(seconds_max):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_events_become_rows_and_a_restart_goes_on(world: World) -> None:
    first, second = a_conversation(), a_conversation()
    await world.send("conversations", first)
    await world.send("accounts", an_account())
    async with world.projections():
        await world.has("answers_v1", 1)
        await world.has("keys_v1", 2)
    await world.send("conversations", [*first, *second])
    async with world.projections():
        await world.has("answers_v1", 2)
        await world.has("histories_v1", 2)
    for name in ("answers", "histories", "usage"):
        assert world.count(f"{name}_v1_dead_letters") == 0


async def test_two_processes_share_a_projection(world: World) -> None:
    async with world.projections(), world.projections():
        for _ in range(5):
            await world.send("conversations", a_conversation(answers=3))
        await world.has("answers_v1", 15)
    assert world.count("answers_v1_dead_letters") == 0


async def test_a_lost_connection_is_replaced(world: World, postgres_server: PostgresServer) -> None:
    async with world.projections():
        await world.send("conversations", a_conversation())
        await world.has("answers_v1", 1)
        with psycopg.connect(postgres_server.admin_url(), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'thalweg projections'"
            )
        await world.send("conversations", a_conversation())
        await world.has("answers_v1", 2)


BIG = 10 * 1024 * 1024


async def test_a_record_of_ten_megabytes_holds_nobody_up(world: World, kafka: str) -> None:
    """No command makes one: only a topic whose limit was raised can hold it."""
    topic = world.topics.domain("conversations")
    await asyncio.to_thread(raise_limit, kafka, topic)
    big, whole = a_conversation(), a_conversation()
    key, headers, value = to_cloudevent(big[2])
    huge = value[:-1] + b',"more":"' + b"x" * BIG + b'"}'
    async with world.projections():
        await world.send("conversations", big[:2])
        await asyncio.to_thread(send_raw, kafka, topic, key, headers, huge)
        await asyncio.to_thread(send_raw, kafka, topic, key, [], b"x" * BIG)
        await world.send("conversations", whole)
        for name in ("answers", "histories", "usage"):
            await world.has(f"{name}_v1_dead_letters", 2)
            await world.has(f"{name}_v1_parked", 1)
        await world.has("answers_v1", 1)
        await world.has("histories_v1_nodes", 2)


async def test_a_record_with_a_header_name_that_is_no_text_holds_nobody_up(world: World) -> None:
    topic = world.topics.domain("conversations")
    await world.send("conversations", a_conversation())
    for partition in range(world.settings.partitions):
        await send_with_a_raw_name(world.settings.kafka_servers, topic, partition)
    await world.send("conversations", a_conversation())
    async with world.projections():
        for name in ("answers", "histories", "usage"):
            await world.has(f"{name}_v1_dead_letters", world.settings.partitions)
            await world.has(f"{name}_v1_positions", 2)
            assert world.count(f"{name}_v1_parked") == 0


class Broken(Usage):
    """Fails as no event and no outage makes one fail."""

    @property
    def own_tables(self) -> LiteralString:  # type: ignore[override]
        raise RuntimeError


async def test_a_projection_with_a_bug_does_not_end_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.projections.all_projections", lambda: (Broken(), Answers()))
    async with world.projections():
        await becomes(lambda: "a projection has failed" in caplog.text)
        await world.send("conversations", a_conversation())
        await world.has("answers_v1", 1)
    (failed, *_) = (one for one in caplog.records if "has failed" in one.message)
    assert (failed.projection, failed.reason) == ("usage@1", "RuntimeError")  # type: ignore[attr-defined]


def raise_limit(kafka: str, topic: str) -> None:
    limit = ConfigEntry(
        "max.message.bytes", str(2 * BIG), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource("topic", topic, incremental_configs=[limit])
    admin = AdminClient({"bootstrap.servers": kafka})
    (done,) = admin.incremental_alter_configs([resource]).values()
    done.result()


def send_raw(
    kafka: str, topic: str, key: bytes, headers: list[tuple[str, bytes]], value: bytes
) -> None:
    producer = Client({"bootstrap.servers": kafka, "message.max.bytes": 2 * BIG})
    sent: list[object] = ["not yet"]

    def accepted() -> bool:
        """A topic's new limit is not in force at once."""
        producer.produce(
            topic,
            key=key,
            value=value,
            headers=headers,
            partition=0,
            on_delivery=lambda error, _: sent.append(error),
        )
        producer.flush(20)
        return sent[-1] is None

    wait_for(accepted, "the record to be accepted")


async def test_the_alarm_is_raised_again_while_anything_is_parked(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.projections.ALARM_SECONDS", 0.1)
    bad = a_conversation()
    await world.send("conversations", bad[:1])
    await asyncio.to_thread(
        send_raw, world.settings.kafka_servers, world.topics.domain("conversations"), b"k", [], b"?"
    )
    async with world.projections():
        await becomes(lambda: alarms(caplog) >= 6)
    (first, *_) = (one for one in caplog.records if "dead letters" in one.message)
    assert (first.parked_streams, first.dead_letters) == (0, 1)  # type: ignore[attr-defined]


def alarms(caplog: pytest.LogCaptureFixture) -> int:
    return sum("wait in the dead letters" in one.message for one in caplog.records)
