"""The recorder's connection to Redis: replies belong to their commands, whatever was before."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoScriptError, ResponseError

from infra.live_names import client_of
from infra.redis_line import RedisLine

SECONDS_MAX = 60.0
NAME = "line-of-this-test"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with client_of(redis_url) as client:
        yield client


@pytest.fixture
async def line(client: Redis) -> AsyncIterator[RedisLine]:
    line = RedisLine(client)
    yield line
    await line.close()


async def test_replies_come_in_the_order_of_the_commands_refusals_among_them(
    line: RedisLine,
) -> None:
    one, refused, unknown, two = await line.ask(
        [("ECHO", "one"), ("INCRBY", NAME, "no number"), ("EVALSHA", "f" * 40, 0), ("ECHO", 2)]
    )
    assert (one, two) == (b"one", b"2")
    assert isinstance(refused, ResponseError)
    assert isinstance(unknown, NoScriptError)
    assert await line.ask([("ECHO", "three")]) == [b"three"]


async def test_a_line_that_was_cut_while_it_stood_idle_is_connected_anew(
    line: RedisLine, client: Redis
) -> None:
    await line.ask([("CLIENT SETNAME", NAME)])
    (cut,) = [each for each in await client.client_list() if each["name"] == NAME]
    await client.client_kill_filter(_id=cut["id"])
    assert await line.ask([("ECHO", "one"), ("ECHO", "two")]) == [b"one", b"two"]


async def test_the_reply_to_one_who_gave_up_is_not_taken_for_the_next_ones(
    line: RedisLine, client: Redis
) -> None:
    waits = asyncio.create_task(line.ask([("ECHO", "late"), ("BLPOP", NAME, 0)]))
    async with asyncio.timeout(SECONDS_MAX):
        while not any(each["cmd"] == "blpop" for each in await client.client_list()):
            pass
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert await line.ask([("ECHO", "next")]) == [b"next"]


async def test_without_redis_it_says_so() -> None:
    async with client_of("redis://127.0.0.1:9") as client:
        line = RedisLine(client)
        async with asyncio.timeout(SECONDS_MAX):
            with pytest.raises(NotConnected):
                await line.ask([("PING",)])
