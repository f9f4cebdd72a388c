"""What the relay promises: everything, in order per stream once repeats are dropped, and soon."""

import asyncio
import signal

import psycopg
import pytest

from events.conversations import Band
from events.ids import AnswerId, fresh_id
from infra.kafka.producer import Producer
from infra.relay import StoreWasRestored
from infra.servers.kafka import KafkaServer
from infra.servers.postgres import PostgresServer
from tests.contracts.event_store.appends import append, asked
from tests.contracts.relay.conftest import (
    SECONDS_MAX,
    World,
    eventually,
    relay_process,
    running,
)

SHORT_LEASE_SECONDS = 4.0
"""A successor that the machine holds up for a moment keeps it."""


async def test_what_was_committed_before_and_during_arrives_in_order(
    world: World, producer: Producer
) -> None:
    before = await world.post(streams=50, events_each=5)
    async with running(world.relay(producer)):
        during = await world.post(streams=50, events_each=5)
        await world.read_all_of([*before, *during], 5)
    assert world.assert_in_order() == dict.fromkeys([*before, *during], 5)
    assert len(world.sent()) == 500  # nothing failed, so nothing was repeated
    assert await world.position() == await world.log_end()


async def test_events_keep_their_envelope_and_their_streams_partition(
    world: World, producer: Producer
) -> None:
    streams = await world.post(streams=20, events_each=2)
    async with running(world.relay(producer)):
        await world.read_all_of(streams, 2)
    stored = [one for stream in streams for one in await world.store.load(stream)]
    assert {one.id: one for one in world.sent()} == {one.id: one for one in stored}
    partitions: dict[bytes | None, set[int]] = {}
    for record in world.records:
        partitions.setdefault(record.key, set()).add(record.partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert set(partitions) == {str(stream).encode() for stream in streams}


async def test_answers_asked_for_go_to_their_bands_work_topic_too(
    world: World, producer: Producer
) -> None:
    stream, answer = fresh_id(), AnswerId(fresh_id())
    await world.store.append(append(asked(stream, answer), stream=stream))
    work = world.topics.work(Band.DEFAULT)
    async with running(world.relay(producer)):
        await world.read_until(lambda: len(world.sent()) == len(world.sent(work)) == 1)
    (domain,), (asked_for,) = world.sent(), world.sent(work)
    assert domain == asked_for
    assert len({record.partition for record in world.records}) == 1


async def test_a_relay_that_is_stopped_hands_over_at_once_and_repeats_nothing(
    world: World, producer: Producer
) -> None:
    first, second = world.relay(producer, 60.0), world.relay(producer, 60.0)
    async with running(second):
        await eventually(lambda: second.leads)
        async with running(first):
            early = await world.post(streams=20)
            await world.read_all_of(early, 1)
            second.stop()
            await eventually(lambda: first.leads)
            late = await world.post(streams=20)
            await world.read_all_of(late, 1)
    assert len(world.sent()) == 40


async def test_a_killed_relay_is_replaced_and_nothing_is_missing(
    world: World, producer: Producer
) -> None:
    async with relay_process(world, 60.0) as leader:
        assert leader.stdout is not None
        assert await leader.stdout.readline() == b"leads\n"
        successor = world.relay(producer, 60.0)
        async with running(successor):
            posting = asyncio.create_task(world.post(streams=100, events_each=10))
            await world.read_until(lambda: len(world.sent()) > 100)
            leader.kill()
            await eventually(lambda: successor.leads)  # long before the lease runs out
            streams = await posting
            await world.read_all_of(streams, 10)
    assert world.assert_in_order() == dict.fromkeys(streams, 10)


async def test_a_paused_relay_is_replaced_and_does_no_harm_when_it_wakes(
    world: World, producer: Producer
) -> None:
    async with relay_process(world, SHORT_LEASE_SECONDS) as leader:
        assert leader.stdout is not None
        assert await leader.stdout.readline() == b"leads\n"
        successor = world.relay(producer, SHORT_LEASE_SECONDS)
        async with running(successor):
            posting = asyncio.create_task(world.post(streams=100, events_each=30))
            await world.read_until(lambda: len(world.sent()) > 100)
            leader.send_signal(signal.SIGSTOP)
            await eventually(lambda: successor.leads)
            leader.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(leader.stdout.readline(), SECONDS_MAX) == b"waits\n"
            streams = await posting
            await world.read_all_of(streams, 30)
            assert successor.leads
    assert world.assert_in_order() == dict.fromkeys(streams, 30)


async def test_of_several_relays_one_leads(world: World, producer: Producer) -> None:
    relays = [world.relay(producer) for _ in range(4)]
    async with running(*relays):
        streams = await world.post(streams=50, events_each=4)
        await world.read_all_of(streams, 4)
        assert sum(relay.leads for relay in relays) == 1
    assert len(world.sent()) == 200


async def test_kafka_may_go_away_and_come_back(
    world: World, impatient_producer: Producer, kafka_server: KafkaServer
) -> None:
    async with running(world.relay(impatient_producer)):
        early = await world.post(streams=20)
        await world.read_all_of(early, 1)
        await asyncio.to_thread(kafka_server.kill)
        away = await world.post(streams=20, events_each=3)
        await asyncio.to_thread(kafka_server.start)
        late = await world.post(streams=20)
        await world.read_all_of([*early, *late], 1)
        await world.read_all_of(away, 3)
    world.assert_in_order()


async def test_postgres_may_go_away_and_come_back(
    world: World, producer: Producer, postgres_server: PostgresServer
) -> None:
    relay = world.relay(producer)
    async with running(relay):
        early = await world.post(streams=20)
        await world.read_all_of(early, 1)
        await asyncio.to_thread(postgres_server.kill)
        await asyncio.to_thread(postgres_server.start)
        late = await world.post(streams=20)
        await world.read_all_of(late, 1)
    world.assert_in_order()


async def test_a_restored_store_stops_the_relay(world: World, producer: Producer) -> None:
    streams = await world.post(streams=10)
    async with running(world.relay(producer)):
        await world.read_all_of(streams, 1)
    await _run_sql(world, "DELETE FROM conversations.stored_events WHERE notification_id > 5")
    with pytest.raises(StoreWasRestored, match="Restore a newer backup"):
        await world.relay(producer).run()
    # Other events where the sent ones were are noticed as well.
    await _run_sql(world, "SELECT setval('conversations.stored_events_notification_id_seq', 5)")
    await world.post(streams=5)
    with pytest.raises(StoreWasRestored, match="has event"):
        await world.relay(producer).run()
    assert len(world.sent()) == 10


async def test_after_a_person_decided_a_restored_store_goes_on(
    world: World, producer: Producer
) -> None:
    streams = await world.post(streams=10)
    async with running(world.relay(producer)):
        await world.read_all_of(streams, 1)
    await _run_sql(world, "DELETE FROM conversations.stored_events WHERE notification_id > 5")
    await _run_sql(world, "UPDATE conversations.relay SET last_event = NULL, position = 5")
    async with running(world.relay(producer)):
        late = await world.post(streams=3)
        await world.read_all_of(late, 1)


async def _run_sql(world: World, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(world.url, autocommit=True) as connection:
        await connection.execute(statement)
