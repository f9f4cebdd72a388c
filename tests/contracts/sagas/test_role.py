"""The role itself: from a real Kafka through a real Postgres into the event store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.contracts.sagas.conftest import World, becomes

CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'thalweg sagas' AND datname = current_database()
  AND pid <> pg_backend_pid()
"""


@asynccontextmanager
async def roles(world: World, count: int = 1) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(world.role()) for _ in range(count)]
    try:
        yield tasks
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_many_answers_those_without_an_end_are_asked_for_again_once(
    on_kafka: World,
) -> None:
    asked = [await on_kafka.asked(seconds=0.1) for _ in range(12)]
    async with roles(on_kafka, 2):
        for number, (_, events) in enumerate(asked):
            # In the store before its request is heard of: whoever asks again is told of it there.
            ends = await on_kafka.ended(events[-1]) if number % 3 else []
            await on_kafka.relay([*events, *ends])

        async def all_late_ones() -> bool:
            return all([len(await on_kafka.again(events[-1])) == 1 for _, events in asked[::3]])

        await becomes(all_late_ones, "what has no end is asked for again")
    for number, (_, events) in enumerate(asked):
        assert len(await on_kafka.again(events[-1])) == (0 if number % 3 else 1)


async def test_a_restart_goes_on_where_the_last_life_has_stopped(on_kafka: World) -> None:
    _, first = await on_kafka.asked(seconds=0.1)
    _, second = await on_kafka.asked(seconds=0.1)
    async with roles(on_kafka):
        await on_kafka.relay(first)
        await becomes(lambda: on_kafka.again(first[-1]), "the first is asked for again")
    await on_kafka.relay(second)
    async with roles(on_kafka):
        await becomes(lambda: on_kafka.again(second[-1]), "the second is asked for again")
    assert len(await on_kafka.again(first[-1])) == 1


async def test_lost_connections_are_replaced(on_kafka: World) -> None:
    _, first = await on_kafka.asked(seconds=0.1)
    async with roles(on_kafka):
        await on_kafka.relay(first)
        await becomes(lambda: on_kafka.again(first[-1]), "the first is asked for again")
        await on_kafka.change(CUT)
        _, second = await on_kafka.asked(seconds=0.1)
        await on_kafka.relay(second)
        await becomes(lambda: on_kafka.again(second[-1]), "the second is asked for again")
