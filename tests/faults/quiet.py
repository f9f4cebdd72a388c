"""Waits until an installation is whole again and has nothing more to say."""

import asyncio
import time
from collections.abc import Mapping

import psycopg

from events.topics import Topics
from infra.kafka.offsets import OffsetQueries, QueryFailed
from infra.settings import Settings
from tests.faults.world import World

WHOLE_SECONDS_MAX = 180
QUIET_SECONDS_MAX = 90
POLL_SECONDS = 0.2
STATE = (
    "SELECT (SELECT position FROM conversations.relay),"
    " (SELECT coalesce(max(notification_id), 0) FROM conversations.stored_events),"
    " (SELECT count(*) FROM conversations.commands)"
)


def roles_of(world: World) -> dict[str, list[int]]:
    """The living processes of each role and server."""
    roles = {one["role"] for one in world.thalweg.processes()}
    return {role: sorted(world.thalweg.pids(role)) for role in sorted(roles)}


def born_again(world: World) -> list[str]:
    """Roles and servers of which a process is another one than when the case began."""
    now = roles_of(world)
    return [role for role, pids in world.pids.items() if now.get(role) != pids]


async def whole(world: World) -> None:
    """Every role has as many processes as when the case began, and answers can be given."""

    def missing() -> list[str]:
        now = roles_of(world)
        found = [role for role, pids in world.pids.items() if len(now.get(role, ())) != len(pids)]
        return found or ([] if world.thalweg.is_ready() else ["answers"])

    try:
        await world.until(lambda: not missing(), "every role to be there", WHOLE_SECONDS_MAX)
    except AssertionError as error:
        raise AssertionError(f"{error}: {missing()} of {world.pids}") from None


async def quiet(world: World, seconds: float) -> None:
    """Returns when nothing was stored or said for so long, and everything was relayed.

    If that takes too long, it returns all the same: the checker will see what is missing.
    """
    settings, deadline = world.settings, time.monotonic() + QUIET_SECONDS_MAX
    queries = OffsetQueries(settings.kafka_servers)
    before: object = None
    since = time.monotonic()
    try:
        while time.monotonic() < deadline:
            now, is_relayed = await _state(settings, queries)
            if now != before or not is_relayed:
                before, since = now, time.monotonic()
            elif time.monotonic() - since >= seconds:
                return
            await asyncio.sleep(POLL_SECONDS)
        world.note(f"it did not come to rest in {QUIET_SECONDS_MAX} s: {before}")
    finally:
        await queries.close()


async def _state(settings: Settings, queries: OffsetQueries) -> tuple[object, bool]:
    try:
        position, head, commands = await asyncio.to_thread(_of_store, settings)
        said = await _ends(settings, queries, Topics().tokens)
    except (psycopg.Error, QueryFailed):
        return None, False
    return (position, head, commands, said), position == head


def _of_store(settings: Settings) -> tuple[int, int, int]:
    with psycopg.connect(settings.database_url("conversations"), connect_timeout=2) as connection:
        row = connection.execute(STATE).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


async def _ends(settings: Settings, queries: OffsetQueries, topic: str) -> Mapping[int, int]:
    return await queries.end_offsets(topic, range(settings.partitions))
