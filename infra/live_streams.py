"""Answers' live streams in Redis: the recorder writes them, gateways follow them.

A stream's entry `0-<index + 1>` holds the entry of that index; one script appends only what follows
and publishes it. The stream is the truth, a publication only a shortcut to it: a cursor passes on
what was pushed only if it is next, else it reads the stream. So nothing that is lost on the way
(a reconnection, a full buffer) is lost to a reader.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from events.answers import Entry
from events.codec import Undecodable, decode_entry, encode_entry
from gateway.answer_streams import AnswerRef, SourceUnavailable
from infra.partitions import partition_of
from processors.answers.recorder import LiveUnavailable, Run

log = logging.getLogger("thalweg.live")

CONNECTIONS_MAX = 16
"""Of one process, beside the subscription: each carries a command for some 0.2 ms."""
REPLY_SECONDS_MAX = 1.0
"""A Redis that takes longer counts as away: Kafka serves instead."""
OPEN_EXPIRY_SECONDS = 86_400
"""A stream whose end never came leaves Redis after a day; its answer is long over."""
KEPT_UP_SECONDS = 2.0
"""A recorder that was not heard of for this long does not keep its streams up to date."""
KEPT_UP_CACHE_SECONDS = 0.5
"""What a gateway knows of recorders may be this old: one question for all its silent readers."""
RANGE_ENTRIES_MAX = 256
"""Entries read at once by a reader that is behind."""
PUSHED_ENTRIES_MAX = 64
"""Entries that wait for a slow reader; with more it reads the stream from its cursor again."""
SUBSCRIBE_SECONDS_MAX = 0.5
"""For a subscription to be confirmed: 0.3 ms as a rule, 50 ms after a reconnection."""
CHANNELS_PER_COMMAND_MAX = 500
"""A gateway with thousands of readers subscribes again in pieces after a reconnection."""
PING_SECONDS = 1.0
"""Between questions to a silent connection; a lost one shows only so."""
SILENT_SECONDS_MAX = 3.0
"""A connection that answers no ping for this long is given up."""
RECONNECT_SECONDS_MIN = 0.05
RECONNECT_SECONDS_MAX = 1.0

# KEYS: the stream. ARGV: channel, index of the first entry, expiry in ms once the end is recorded
# (0: not yet), expiry in ms of a new stream, entries. Returns how many entries there are then.
APPEND = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local have = 0
if last[1] then have = tonumber(string.match(last[1][1], '-(%d+)$')) end
local found = have
local first = tonumber(ARGV[2])
if have >= first then
  local added = {}
  for i = 5 + have - first, #ARGV do
    have = have + 1
    redis.call('XADD', KEYS[1], '0-' .. have, 'e', ARGV[i])
    added[#added + 1] = ARGV[i]
  end
  if #added > 0 then redis.call('PUBLISH', ARGV[1], table.concat(added, '\\n')) end
end
if have > 0 then
  if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[3])
  elseif found == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
end
return have
"""

_FAILURES = (RedisError, OSError, TimeoutError)


def _client(url: str) -> "Redis[bytes]":
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=REPLY_SECONDS_MAX,
        socket_timeout=REPLY_SECONDS_MAX,
        socket_connect_timeout=REPLY_SECONDS_MAX,
        protocol=2,
    )
    return Redis(connection_pool=pool)


def _stream(prefix: str, answer: UUID) -> str:
    return f"{prefix}:stream:{answer}"


def _channel(prefix: str, answer: UUID) -> str:
    return f"{prefix}:live:{answer}"


def _kept_up(prefix: str, partition: int) -> str:
    return f"{prefix}:kept-up:{partition}"


class RedisLiveWriter:
    """The recorder's side."""

    def __init__(self, url: str, *, prefix: str = "thalweg", expiry_seconds: float) -> None:
        self._redis = _client(url)
        self._prefix = prefix
        self._expiry_ms = int(expiry_seconds * 1_000)
        self._script = ""

    async def append(self, runs: Sequence[Run]) -> Sequence[int]:
        """See processors.answers.recorder.LiveWriter."""
        try:
            if not self._script:
                self._script = await self._redis.script_load(APPEND)
            replies = await self._append(runs)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                self._script = await self._redis.script_load(APPEND)
                replies = await self._append(runs)
        except _FAILURES as error:
            raise LiveUnavailable(str(error)) from error
        for reply in replies:
            if isinstance(reply, Exception):
                raise LiveUnavailable(str(reply)) from reply
        return replies

    async def _append(self, runs: Sequence[Run]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for run in runs:
                pipeline.evalsha(
                    self._script,
                    1,
                    _stream(self._prefix, run.answer),
                    _channel(self._prefix, run.answer),
                    run.first,
                    self._expiry_ms if run.recorded else 0,
                    OPEN_EXPIRY_SECONDS * 1_000,
                    *(encode_entry(entry) for entry in run.entries),
                )
            return await pipeline.execute(raise_on_error=False)

    async def keep_up(self, partitions: Iterable[int], recorder: str) -> frozenset[int]:
        """See processors.answers.recorder.LiveWriter."""
        asked = sorted(partitions)
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for partition in asked:
                    pipeline.set(
                        _kept_up(self._prefix, partition),
                        recorder,
                        px=int(KEPT_UP_SECONDS * 1_000),
                        get=True,
                    )
                before = await pipeline.execute()
        except _FAILURES as error:
            raise LiveUnavailable(str(error)) from error
        return frozenset(
            partition for partition, mark in zip(asked, before, strict=True) if mark is None
        )

    async def close(self) -> None:
        await self._redis.aclose()


class RedisLiveStreams:
    """A gateway's side: one subscribed connection for all readers, and a pool to read streams."""

    def __init__(self, url: str, *, prefix: str = "thalweg", partitions: int) -> None:
        self._redis = _client(url)
        self._prefix = prefix
        self._partitions = partitions
        self._subscription = _Subscription(self._redis)
        self._marks: dict[int, tuple[float, bool]] = {}

    async def start(self) -> None:
        """Never waits for Redis."""
        self._subscription.start()

    async def close(self) -> None:
        await self._subscription.close()
        await self._redis.aclose()

    @asynccontextmanager
    async def follow(self, ref: AnswerRef) -> AsyncIterator["_Cursor"]:
        """See gateway.answer_streams.LiveStreams."""
        channel = _channel(self._prefix, ref.answer).encode()
        cursor = _Cursor(self._redis, _stream(self._prefix, ref.answer), self._subscription)
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
            found = bool(await self._redis.exists(_kept_up(self._prefix, partition)))
        except _FAILURES as error:
            raise SourceUnavailable(str(error)) from error
        self._marks[partition] = now, found
        return found


class _Channel:
    """One answer's publications, and who waits for them."""

    def __init__(self) -> None:
        self.cursors: set[_Cursor] = set()
        self.confirmed = asyncio.Event()
        """Set while everything that is published arrives here."""


class _Cursor:
    """One reader of one answer: a cursor and a small buffer."""

    def __init__(self, redis: "Redis[bytes]", stream: str, subscription: "_Subscription") -> None:
        self._redis = redis
        self._stream = stream
        self._subscription = subscription
        self._pushed: deque[Entry] = deque()
        self._news = asyncio.Event()
        self._must_read = True
        self.channel: _Channel

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
            found = await self._redis.xrange(
                self._stream, f"0-{index + 2}", "+", count=RANGE_ENTRIES_MAX
            )
            run = [decode_entry(fields[b"e"]) for _, fields in found]
        except (*_FAILURES, Undecodable, KeyError) as error:
            self._must_read = True
            raise SourceUnavailable(str(error)) from error
        if len(run) == RANGE_ENTRIES_MAX:
            self._must_read = True
        return run if run and run[0].index == index + 1 else ()


class _Subscription:
    """The one connection that listens. Reconnects for ever; readers are told to distrust it."""

    def __init__(self, redis: "Redis[bytes]") -> None:
        self._redis = redis
        self._channels: dict[bytes, _Channel] = {}
        self._sent: set[bytes] = set()
        self._changed = asyncio.Event()
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.may_connect = True
        """False after an attempt failed, until one succeeds: nobody waits for it meanwhile."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="live streams")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def join(self, name: bytes, cursor: _Cursor) -> _Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
            self._changed.set()
        channel.cursors.add(cursor)
        return channel

    def leave(self, name: bytes, cursor: _Cursor) -> None:
        channel = self._channels[name]
        channel.cursors.discard(cursor)
        if not channel.cursors:
            del self._channels[name]
            self._changed.set()

    async def _run(self) -> None:
        delay = RECONNECT_SECONDS_MIN
        while True:
            connection = self._redis.connection_pool.make_connection()
            try:
                await connection.connect()
                self.may_connect = True
                delay = RECONNECT_SECONDS_MIN
                await self._serve(connection)
            except _FAILURES as error:
                log.warning("the subscription to Redis broke", extra={"reason": str(error)})
            finally:
                self.may_connect = False
                self._distrust_all()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    def _distrust_all(self) -> None:
        for channel in self._channels.values():
            channel.confirmed.clear()
            for cursor in channel.cursors:
                cursor.distrust()

    async def _serve(self, connection: AbstractConnection) -> None:
        self._sent.clear()
        self._changed.set()
        self._heard_at = asyncio.get_running_loop().time()
        tasks = [
            asyncio.create_task(work(connection))
            for work in (self._listen, self._subscribe, self._ping)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _listen(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            kind, name, content = (await connection.read_response(timeout=math.inf))[:3]
            self._heard_at = loop.time()
            if kind == b"pong":
                continue
            channel = self._channels.get(name)
            if channel is None:
                continue
            if kind == b"subscribe":
                channel.confirmed.set()
            elif kind == b"message":
                self._deliver(channel, content)

    def _deliver(self, channel: _Channel, content: bytes) -> None:
        try:
            entries = [decode_entry(line) for line in content.split(b"\n")]
        except Undecodable as error:
            log.warning("a publication cannot be read", extra={"reason": str(error)})
            for cursor in channel.cursors:
                cursor.distrust()
            return
        for cursor in channel.cursors:
            cursor.push(entries)

    async def _subscribe(self, connection: AbstractConnection) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set(self._channels)
            for command, names in (
                ("UNSUBSCRIBE", self._sent - wanted),
                ("SUBSCRIBE", wanted - self._sent),
            ):
                rest = sorted(names)
                while rest:
                    piece, rest = rest[:CHANNELS_PER_COMMAND_MAX], rest[CHANNELS_PER_COMMAND_MAX:]
                    await connection.send_command(command, *piece, check_health=False)
            self._sent = wanted

    async def _ping(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_SECONDS)
            if loop.time() - self._heard_at > SILENT_SECONDS_MAX:
                raise TimeoutError("Redis does not answer")
            await connection.send_command("PING", check_health=False)
