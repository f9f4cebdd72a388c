"""Answers' live streams in Redis, as gateways follow them; `live_writer` is the recorder's side.

A stream's entry `0-<index + 1>` holds the entry of that index; one script appends only what follows
and publishes it. The stream is the truth, a publication only a shortcut to it: a cursor passes on
what was pushed only if it is next, else it reads the stream. So nothing that is lost on the way
(a reconnection, a full buffer) is lost to a reader.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from events.answers import Entry
from events.codec import Undecodable, decode_entry
from gateway.answer_streams import AnswerRef, SourceUnavailable
from infra.live_names import (
    FAILURES,
    REPLY_SECONDS_MAX,
    channel_name,
    client_of,
    kept_up_name,
    stream_name,
)
from infra.live_subscription import Channel, Subscription
from infra.partitions import partition_of

KEPT_UP_CACHE_SECONDS = 0.5
"""What a gateway knows of recorders may be this old: one question for all its silent readers."""
RANGE_ENTRIES_MAX = 256
"""Entries read at once by a reader that is behind."""
PUSHED_ENTRIES_MAX = 64
"""Entries that wait for a slow reader; with more it reads the stream from its cursor again."""
SUBSCRIBE_SECONDS_MAX = 0.5
"""For a subscription to be confirmed: 0.3 ms as a rule, 50 ms after a reconnection."""


class RedisLiveStreams:
    """A gateway's side: one subscribed connection for all readers, and a pool to read streams."""

    def __init__(self, url: str, *, prefix: str = "thalweg", partitions: int) -> None:
        self._redis = client_of(url)
        self._prefix = prefix
        self._partitions = partitions
        self._subscription = Subscription(self._redis)
        self._marks: dict[int, tuple[float, bool]] = {}

    async def start(self) -> None:
        """Never waits for Redis."""
        self._subscription.start()

    async def close(self) -> None:
        await self._subscription.close()
        await self._redis.aclose()

    async def ping(self) -> None:
        """Raises SourceUnavailable if Redis does not answer."""
        try:
            async with asyncio.timeout(REPLY_SECONDS_MAX):
                await self._redis.ping()
        except FAILURES as error:
            raise SourceUnavailable(str(error)) from error

    @asynccontextmanager
    async def follow(self, ref: AnswerRef) -> AsyncIterator["_Cursor"]:
        """See gateway.answer_streams.LiveStreams."""
        channel = channel_name(self._prefix, ref.answer).encode()
        cursor = _Cursor(self._redis, stream_name(self._prefix, ref.answer), self._subscription)
        cursor.channel = self._subscription.join(channel, cursor)
        try:
            yield cursor
        finally:
            self._subscription.leave(channel, cursor)

    async def is_kept_up(self, ref: AnswerRef) -> bool:
        """See gateway.answer_streams.LiveStreams."""
        now = asyncio.get_running_loop().time()
        partition = partition_of(ref.conversation, self._partitions)
        known = self._marks.get(partition)
        if known is not None and now - known[0] < KEPT_UP_CACHE_SECONDS:
            return known[1]
        try:
            async with asyncio.timeout(REPLY_SECONDS_MAX):
                found = bool(await self._redis.exists(kept_up_name(self._prefix, partition)))
        except FAILURES as error:
            raise SourceUnavailable(str(error)) from error
        self._marks[partition] = now, found
        return found


class _Cursor:
    """One reader of one answer: a cursor and a small buffer."""

    def __init__(self, redis: Redis, stream: str, subscription: "Subscription") -> None:
        self._redis = redis
        self._stream = stream
        self._subscription = subscription
        self._pushed: deque[Entry] = deque()
        self._news = asyncio.Event()
        self._must_read = True
        self.channel: Channel

    def push(self, entries: Sequence[Entry]) -> None:
        if len(self._pushed) + len(entries) > PUSHED_ENTRIES_MAX:
            self.distrust()
        else:
            self._pushed.extend(entries)
            self._news.set()

    def distrust(self) -> None:
        """Something may have been missed: the stream is read next."""
        self._pushed.clear()
        self._must_read = True
        self._news.set()

    async def after(self, index: int, *, seconds_max: float) -> Sequence[Entry]:
        """See gateway.answer_streams.Source."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds_max
        while True:
            self._news.clear()
            run = self._take(index)
            if run:
                return run
            if self._must_read or seconds_max == 0:
                await self._wait_confirmed()
                self._must_read = False
                run = await self._range(index)
                if run:
                    return run
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return await self._range(index) if seconds_max else ()

    async def _wait_confirmed(self) -> None:
        """Subscribed first, read then: what is added in between is seen at least once."""
        if self.channel.confirmed.is_set():
            return
        if not self._subscription.may_connect:
            raise SourceUnavailable("Redis is away")
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS_MAX):
                await self.channel.confirmed.wait()
        except TimeoutError:
            raise SourceUnavailable("Redis did not confirm a subscription") from None

    def _take(self, index: int) -> Sequence[Entry]:
        while self._pushed and self._pushed[0].index <= index:
            self._pushed.popleft()
        if not self._pushed:
            return ()
        run = list(self._pushed)
        self._pushed.clear()
        if run[0].index == index + 1:
            return run
        self._must_read = True
        return ()

    async def _range(self, index: int) -> Sequence[Entry]:
        try:
            async with asyncio.timeout(REPLY_SECONDS_MAX):
                found: Any = await self._redis.xrange(
                    self._stream, f"0-{index + 2}", "+", count=RANGE_ENTRIES_MAX
                )
            run = [decode_entry(fields[b"e"]) for _, fields in found]
        except (*FAILURES, Undecodable, KeyError) as error:
            self._must_read = True
            raise SourceUnavailable(str(error)) from error
        if len(run) == RANGE_ENTRIES_MAX:
            self._must_read = True
        return run if run and run[0].index == index + 1 else ()
