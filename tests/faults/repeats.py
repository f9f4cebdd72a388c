"""The relay sends everything again: every consumer drops what it has had."""

import asyncio
import os
import signal

import psycopg

from tests.faults.world import World

REPEATS = 2
REPEAT_EVERYTHING = "UPDATE conversations.relay SET position = 0, last_event = NULL"
HEAD = "SELECT max(notification_id) FROM conversations.stored_events"
POSITION = "SELECT position FROM conversations.relay"
RELAYED_SECONDS_MAX = 180


async def everything_relayed_again(world: World) -> None:
    """From the very first event on, twice, by a new leader each time."""
    for _ in range(REPEATS):
        leader = world.thalweg.signal("relay", signal.SIGSTOP)  # else it may say where it was
        head = await asyncio.to_thread(_number, world, HEAD)
        await asyncio.to_thread(_execute, world, REPEAT_EVERYTHING)
        os.kill(leader, signal.SIGKILL)

        def is_relayed(head: int = head) -> bool:
            """What was there; clients go on, and there is always more."""
            return _number(world, POSITION) >= head

        await world.until(is_relayed, "all to be relayed", RELAYED_SECONDS_MAX)


def _number(world: World, query: str) -> int:
    with _connected(world) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _execute(world: World, statement: str) -> None:
    with _connected(world) as connection:
        connection.execute(statement)


def _connected(world: World) -> psycopg.Connection:
    return psycopg.connect(world.settings.database_url("conversations"))
