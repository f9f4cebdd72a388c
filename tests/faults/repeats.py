"""The relay sends everything again: every consumer drops what it has had."""

import asyncio
import signal

import psycopg

from tests.faults.world import World

REPEATS = 2
REPEAT_EVERYTHING = "UPDATE conversations.relay SET position = 0, last_event = NULL"
RELAYED = (
    "SELECT position = (SELECT coalesce(max(notification_id), 0) FROM conversations.stored_events)"
    " FROM conversations.relay"
)
RELAYED_SECONDS_MAX = 60


async def everything_relayed_again(world: World) -> None:
    """From the very first event on, twice, by a new leader each time."""
    for _ in range(REPEATS):
        await asyncio.to_thread(_execute, world, REPEAT_EVERYTHING)
        world.thalweg.signal("relay", signal.SIGKILL)
        await world.until(
            lambda: _execute(world, RELAYED) == (True,), "all to be relayed", RELAYED_SECONDS_MAX
        )


def _execute(world: World, statement: str) -> object:
    with psycopg.connect(world.settings.database_url("conversations")) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None
