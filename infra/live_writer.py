"""The recorder's side of the live streams: one script appends what follows, and publishes it."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError

from events.codec import encode_entry
from infra import failpoints
from infra.failpoints import hit
from infra.live_names import (
    FAILURES,
    KEPT_UP_SECONDS,
    REPLY_SECONDS_MAX,
    channel_name,
    client_of,
    kept_up_name,
    stream_name,
)
from infra.redis_line import RedisLine
from processors.answers.recorder_ports import LiveUnavailable, Run, RunRefused

OF_THE_SERVER = (NotConnected, NoScriptError, OutOfMemoryError, ReadOnlyError)
OF_THE_SERVER_WORDS = ("OOM", "READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN")
"""What Redis answers when it can write no stream now; all else is about the one stream. Up to
version 6 what a script's command said comes as a plain error that quotes it."""

# KEYS: the stream. ARGV: channel, index of the first entry, expiry in ms once the end is recorded
# (0: not yet), expiry in ms of a new stream, entries. Returns how many entries there are then.
# An expiry is shortened, never lengthened: a recorder that starts tells of old ends again, and
# what an unstored answer said must not outlive its key for that.
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
  local left = redis.call('PTTL', KEYS[1])
  local wanted = tonumber(ARGV[3])
  if wanted > 0 and (left < 0 or left > wanted) then redis.call('PEXPIRE', KEYS[1], wanted)
  elseif found == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
end
return have
"""


class RedisLiveWriter:
    """The recorder's side."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "thalweg",
        expiry_seconds: float,
        open_expiry_seconds: float,
    ) -> None:
        """Streams expire so long after their end is recorded, or after they began without one."""
        self._redis = client_of(url)
        self._line = RedisLine(self._redis)
        self._prefix = prefix
        self._expiry_ms = int(expiry_seconds * 1_000)
        self._open_expiry_ms = int(open_expiry_seconds * 1_000)
        self._script = ""

    async def append(self, runs: Sequence[Run]) -> Sequence[int | RunRefused]:
        """See processors.answers.recorder.LiveWriter."""
        hit("recorder.before_live")
        if failpoints.are_on() and any(run.recorded for run in runs):
            hit("recorder.before_expiry")
        try:
            async with asyncio.timeout(REPLY_SECONDS_MAX):
                if not self._script:
                    self._script = await self._redis.script_load(APPEND)
                replies = await self._append(runs)
                if any(isinstance(reply, NoScriptError) for reply in replies):
                    self._script = await self._redis.script_load(APPEND)
                    replies = await self._append(runs)
        except FAILURES as error:
            raise LiveUnavailable(str(error)) from error
        hit("recorder.after_live")
        for reply in replies:
            if isinstance(reply, Exception) and _is_of_the_server(reply):
                raise LiveUnavailable(str(reply)) from reply
        return [
            RunRefused(str(reply)) if isinstance(reply, Exception) else int(reply)
            for reply in replies
        ]

    async def _append(self, runs: Sequence[Run]) -> list[Any]:
        return await self._line.ask(
            [
                (
                    "EVALSHA",
                    self._script,
                    1,
                    stream_name(self._prefix, run.answer),
                    channel_name(self._prefix, run.answer),
                    run.first,
                    self._expiry_ms if run.recorded else 0,
                    self._open_expiry_ms,
                    *(encode_entry(entry) for entry in run.entries),
                )
                for run in runs
            ]
        )

    async def keep_up(self, partitions: Iterable[int], recorder: str) -> frozenset[int]:
        """See processors.answers.recorder.LiveWriter."""
        asked = sorted(partitions)
        try:
            async with (
                asyncio.timeout(REPLY_SECONDS_MAX),
                self._redis.pipeline(transaction=False) as pipeline,
            ):
                for partition in asked:
                    pipeline.set(
                        kept_up_name(self._prefix, partition),
                        recorder,
                        px=int(KEPT_UP_SECONDS * 1_000),
                        get=True,
                    )
                before = await pipeline.execute()
        except FAILURES as error:
            raise LiveUnavailable(str(error)) from error
        return frozenset(
            partition for partition, mark in zip(asked, before, strict=True) if mark is None
        )

    async def close(self) -> None:
        await self._line.close()
        await self._redis.aclose()


def _is_of_the_server(error: Exception) -> bool:
    return isinstance(error, OF_THE_SERVER) or any(
        word in str(error) for word in OF_THE_SERVER_WORDS
    )
