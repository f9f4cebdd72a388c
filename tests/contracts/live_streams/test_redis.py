"""The live streams on a real Redis; and what only a real one can do: be killed, be full."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.answer_streams import SourceUnavailable
from infra import live_subscription, live_writer
from infra.live_names import stream_name
from infra.live_streams import RedisLiveStreams
from infra.live_writer import RedisLiveWriter
from infra.servers import EmbeddedServers
from infra.servers.redis import RedisServer
from processors.answers.recorder_ports import LiveUnavailable, Run, RunRefused
from tests.contracts.live_streams.sides import Sides, a_ref, a_run, collect, words
from tests.contracts.live_streams.suite import LiveStreamsContract

EXPIRY_SECONDS = 3_600
OPEN_EXPIRY_SECONDS = 7_140


@pytest.fixture
async def sides(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sides]:
    monkeypatch.setattr(live_writer, "KEPT_UP_SECONDS", 60.0)  # the machine may stand still
    async with both_sides(redis_url) as both:
        yield both


class both_sides:  # noqa: N801  # reads as a function
    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url)
        self._writer = RedisLiveWriter(
            url, expiry_seconds=EXPIRY_SECONDS, open_expiry_seconds=OPEN_EXPIRY_SECONDS
        )
        self._reader = RedisLiveStreams(url, partitions=4)

    async def __aenter__(self) -> Sides:
        await self._reader.start()

        async def flush() -> None:
            await self._client.flushall()

        return Sides(self._writer, self._reader, flush)

    async def __aexit__(self, *exception: object) -> None:
        await self._reader.close()
        await self._writer.close()
        await self._client.aclose()


class TestRedis(LiveStreamsContract):
    pass


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, that may be killed."""
    own = EmbeddedServers(tmp_path, which=["redis"])
    own.start()
    yield own.redis
    own.stop()


async def test_expiry_starts_when_the_end_is_recorded(redis_url: str) -> None:
    ref = a_ref()
    async with both_sides(redis_url) as sides, Redis.from_url(redis_url) as client:
        name = stream_name("thalweg", ref.answer)
        await sides.writer.append([a_run(ref, words(2))])
        assert await client.ttl(name) > EXPIRY_SECONDS
        assert await client.ttl(name) <= OPEN_EXPIRY_SECONDS
        await sides.writer.append([a_run(ref, [], recorded=True)])
        assert 0 < await client.ttl(name) <= EXPIRY_SECONDS


async def test_an_end_that_is_told_again_lengthens_no_expiry(redis_url: str) -> None:
    ref = a_ref()
    async with both_sides(redis_url) as sides, Redis.from_url(redis_url) as client:
        name = stream_name("thalweg", ref.answer)
        await sides.writer.append([a_run(ref, words(2), recorded=True)])
        assert EXPIRY_SECONDS - 60 < await client.ttl(name) <= EXPIRY_SECONDS
        await client.expire(name, 100)
        await sides.writer.append([a_run(ref, words(2), recorded=True)])
        assert 0 < await client.ttl(name) <= 100


async def test_a_reader_outlives_a_kill_of_redis(mortal: RedisServer) -> None:
    ref = a_ref()
    async with both_sides(mortal.url) as sides, sides.reader.follow(ref) as source:
        await sides.writer.append([a_run(ref, words(3))])
        assert await collect(source, -1, 2) == words(3)
        mortal.kill()
        with pytest.raises(SourceUnavailable):
            await collect(source, 2, 3)
        with pytest.raises(LiveUnavailable):
            await sides.writer.append([a_run(ref, words(1, first=3))])
        mortal.start()
        assert await eventually_append(sides, a_run(ref, words(1, first=3))) == 0
        assert await eventually_append(sides, a_run(ref, words(5))) == 5
        assert await eventually_collect(source, 2, 4) == words(2, first=3)


async def test_a_full_redis_refuses_and_says_so(mortal: RedisServer) -> None:
    async with both_sides(mortal.url) as sides, Redis.from_url(mortal.url) as client:
        await client.config_set("maxmemory", 1_000_000)
        ref = a_ref()
        with pytest.raises(LiveUnavailable):
            await sides.writer.append([a_run(ref, words(10))])
        await client.config_set("maxmemory", 0)
        assert await sides.writer.append([a_run(ref, words(10))]) == [10]


async def eventually_append(sides: Sides, run: Run) -> int:
    async with asyncio.timeout(30):
        while True:
            try:
                (has,) = await sides.writer.append([run])
                assert isinstance(has, int)
                return has
            except LiveUnavailable:
                await asyncio.sleep(0.02)


async def eventually_collect(source: object, after: int, until: int) -> object:
    async with asyncio.timeout(30):
        while True:
            try:
                return await collect(source, after, until)  # type: ignore[arg-type]
            except SourceUnavailable:
                await asyncio.sleep(0.02)


async def test_the_subscription_outlives_the_answers_to_its_own_pings(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis answers a ping in one form while channels are subscribed, in another while none is."""
    monkeypatch.setattr(live_subscription, "PING_SECONDS", 0.01)
    ref, another = a_ref(), a_ref()
    async with both_sides(redis_url) as sides:
        async with sides.reader.follow(another) as source:
            assert await source.after(-1, seconds_max=0.3) == ()
        async with sides.reader.follow(ref) as source:
            assert await source.after(-1, seconds_max=0.3) == ()
            await sides.writer.append([a_run(ref, words(2))])
            assert await collect(source, -1, 1) == words(2)


async def test_what_stands_under_a_streams_name_refuses_that_stream_alone(redis_url: str) -> None:
    taken, free = a_ref(), a_ref()
    async with both_sides(redis_url) as sides, Redis.from_url(redis_url) as client:
        await client.set(stream_name("thalweg", taken.answer), "not a stream")
        has = await sides.writer.append([a_run(taken, words(2)), a_run(free, words(3))])
        assert isinstance(has[0], RunRefused)
        assert has[1] == 3


async def test_an_answer_left_and_joined_again_at_once_is_confirmed(redis_url: str) -> None:
    ref = a_ref()
    async with both_sides(redis_url) as sides:
        async with sides.reader.follow(ref) as source:
            assert await source.after(-1, seconds_max=0) == ()
        # Nothing awaits in between: the listening task sees the same name as before.
        async with sides.reader.follow(ref) as source:
            assert await source.after(-1, seconds_max=0) == ()
            await sides.writer.append([a_run(ref, words(2))])
            assert await collect(source, -1, 1) == words(2)
