"""Redis forgets everything, or takes nothing more: Kafka and Postgres serve what it does not."""

import asyncio

import redis.asyncio

from tests.faults.case import Fault
from tests.faults.world import World

FLUSHES = 20
BETWEEN_SECONDS = 0.1
FULL_BYTES = 1_000_000  # less than an empty Redis takes: every write is refused, or evicts


def _client(world: World) -> "redis.asyncio.Redis":
    return redis.asyncio.Redis.from_url(world.settings.redis_url)


async def flushed(world: World) -> None:
    """FLUSHALL, again and again while answers stream."""
    async with _client(world) as client:
        for _ in range(FLUSHES):
            await client.flushall()
            await asyncio.sleep(BETWEEN_SECONDS)


def full(policy: str, short: float, long: float) -> Fault:
    """At maxmemory: `noeviction` refuses writes, as ours is set; `allkeys-lru` forgets streams."""

    async def fault(world: World) -> None:
        async with _client(world) as client:
            before = {
                **await client.config_get("maxmemory"),
                **await client.config_get("maxmemory-policy"),
            }
            await client.config_set("maxmemory-policy", policy)
            await client.config_set("maxmemory", FULL_BYTES)
            try:
                await asyncio.sleep(world.seconds(short, long))
            finally:
                for name, value in before.items():
                    await client.config_set(name, value)

    return fault
