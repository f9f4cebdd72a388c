"""A session that begins a transaction, takes the appends' own lock, and then does nothing."""

import asyncio
import time

import psycopg

from tests.faults.case import Fault
from tests.faults.world import World

LOCK = "LOCK TABLE conversations.stored_events IN EXCLUSIVE MODE"
LIVES = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
LOOK_SECONDS = 0.5
ENDED_SECONDS_MAX = 75
"""The server ends an idle transaction after 60 s (`idle_in_transaction_session_timeout`)."""


def left_open(short: float, long: float) -> Fault:
    """Holds up every append for that long; then it is rolled back, and all goes on."""

    async def fault(world: World) -> None:
        url = world.settings.database_url("conversations")
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute(LOCK)
            await asyncio.sleep(world.seconds(short, long))
            await connection.rollback()

    return fault


async def left_open_for_ever(world: World) -> None:
    """Nobody ends it but the server."""
    url = world.settings.database_url("conversations")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as watching:
        idle = await psycopg.AsyncConnection.connect(url)
        try:
            await idle.execute(LOCK)
            began, pid = time.monotonic(), idle.info.backend_pid
            async with asyncio.timeout(ENDED_SECONDS_MAX):
                while await (await watching.execute(LIVES, (pid,))).fetchone():  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
            world.note(f"the server ended it after {time.monotonic() - began:.0f} s")
        finally:
            await idle.close()
