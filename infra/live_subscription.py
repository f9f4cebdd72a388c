"""A gateway's one connection that listens to what recorders publish, for all its readers."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from events.answers import Entry
from events.codec import Undecodable, decode_entry
from infra.live_names import FAILURES

log = logging.getLogger("thalweg.live")

CHANNELS_PER_COMMAND_MAX = 500
"""A gateway with thousands of readers subscribes again in pieces after a reconnection."""
PING_SECONDS = 1.0
"""Between questions to a silent connection; a lost one shows only so."""
SILENT_SECONDS_MAX = 3.0
"""A connection that answers no ping for this long is given up."""
PUBLICATION_FIELDS = 3
"""Kind, channel and content; of a subscription's confirmation: kind, channel and a number."""
RECONNECT_SECONDS_MIN = 0.05
RECONNECT_SECONDS_MAX = 1.0


class Listener(Protocol):
    """One reader of one answer."""

    def push(self, entries: Sequence[Entry]) -> None:
        """These were published."""

    def distrust(self) -> None:
        """Something may have been missed."""


class Channel:
    """One answer's publications, and who waits for them."""

    def __init__(self) -> None:
        self.cursors: set[Listener] = set()
        self.confirmed = asyncio.Event()
        """Set while everything that is published arrives here."""


class Subscription:
    """The one connection that listens. Reconnects for ever; readers are told to distrust it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._channels: dict[bytes, Channel] = {}
        self._sent: dict[bytes, Channel] = {}
        """What the connection is subscribed to, and for whom. A channel that was left and joined
        again is another one, which waits for a confirmation of its own."""
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

    def join(self, name: bytes, cursor: Listener) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel()
            self._changed.set()
        channel.cursors.add(cursor)
        return channel

    def leave(self, name: bytes, cursor: Listener) -> None:
        channel = self._channels[name]
        channel.cursors.discard(cursor)
        if not channel.cursors:
            del self._channels[name]
            self._changed.set()

    async def _run(self) -> None:
        delay = RECONNECT_SECONDS_MIN
        while True:
            make: Callable[[], AbstractConnection] = self._redis.connection_pool.make_connection
            connection = make()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
                self.may_connect = True
                delay = RECONNECT_SECONDS_MIN
                await self._serve(connection)
            except FAILURES as error:
                log.warning("the subscription to Redis broke", extra={"reason": str(error)})
            except Exception:
                # Whatever it is: without this task every reader would be served by Kafka for ever.
                log.exception("the subscription to Redis failed, and starts over")
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
            reply = await connection.read_response(timeout=math.inf)
            self._heard_at = loop.time()
            if not isinstance(reply, list) or len(reply) < PUBLICATION_FIELDS:
                continue  # the answer to a ping: two fields while subscribed, else one word
            kind, name, content = reply[:PUBLICATION_FIELDS]
            channel = self._channels.get(name)
            if channel is None:
                continue
            if kind == b"subscribe":
                channel.confirmed.set()
            elif kind == b"message":
                self._deliver(channel, content)

    def _deliver(self, channel: Channel, content: bytes) -> None:
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
            wanted = dict(self._channels)
            new = [name for name, channel in wanted.items() if self._sent.get(name) is not channel]
            for command, names in (
                ("UNSUBSCRIBE", self._sent.keys() - wanted.keys()),
                ("SUBSCRIBE", new),
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
