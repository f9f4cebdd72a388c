"""A producer that leaves no gaps: idempotent, acks=all, all or nothing after a failure.

Messages to one partition land in the order of the calls. As soon as one message is not delivered,
all that are outstanding fail too, and later ones go through a fresh client: what was sent before a
failure is known to have failed can land late only if it was already on the wire. `resets` counts
those breaks. Keys go to the partitions that Java, aiokafka and Faust choose.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client

log = logging.getLogger("thalweg.kafka")

Headers = list[tuple[str, bytes]]

POLL_SECONDS = 0.1  # wakes at once for a report; this is only how soon closing is noticed
SWEEPS_A_TIMEOUT = 10  # how often the age of the oldest message is looked at
OUTSTANDING_KIBIBYTES_MAX = 65_536  # 64 MiB of messages: far above what is ever in flight
MESSAGE_BYTES_MAX = 1_040_000  # the largest event with its headers; just below Kafka's default
CONNECT_SECONDS_MAX = 5.0  # for the first connection; messages wait longer
CLOSE_SECONDS_MAX = 5.0  # what a closing producer waits for its last messages


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a message landed."""

    partition: int
    offset: int


class NotDelivered(Exception):
    """It is not known whether the message is in the log; it may still land. Read the log."""


class ProducerFull(Exception):
    """Too many messages are outstanding; wait for some of them before sending more."""


class Producer:
    """Use it on one event loop. Kafka being away is not an error until `delivery_seconds_max`."""

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "thalweg",
        delivery_seconds_max: float = 10.0,
        messages_max: int = 100_000,
    ) -> None:
        self._configuration: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "partitioner": "murmur2_random",  # the default agrees with nobody else
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "acks": "all",
            "linger.ms": 0,
            "log_level": 3,  # errors: it warns of the gapless guarantee at every start
            # Never: librdkafka's own timeout drops one message and sends the next. We time out
            # all of them at once (`_sweep`).
            "delivery.timeout.ms": 0,
            "request.timeout.ms": max(1_000, int(delivery_seconds_max * 1_000)),
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 500,
            "retry.backoff.ms": 20,
            "retry.backoff.max.ms": 200,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "queue.buffering.max.messages": messages_max,
            "queue.buffering.max.kbytes": OUTSTANDING_KIBIBYTES_MAX,
            "socket.nagle.disable": True,
        }
        self._delivery_seconds_max = delivery_seconds_max
        self._messages_max = messages_max
        self._client: _Client | None = None
        self._retired: set[_Client] = set()
        self._closed = False
        self.resets = 0
        """How often everything outstanding failed."""

    async def start(self) -> None:
        """Connects and gets the producer's id, which takes up to a second: the first message
        need not wait for it then. Kafka may be away; then the first message waits after all.
        """
        client = self._client
        if client is None:
            client = _Client(self, asyncio.get_running_loop(), self._configuration)
            self._client = client
        await asyncio.to_thread(client.connect)

    def send(
        self,
        topic: str,
        *,
        key: bytes,
        value: bytes,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> "asyncio.Future[Delivered]":
        """Queues a message; the future tells where it landed, or raises NotDelivered.

        Raises ProducerFull at once. After a failure that `send` itself meets, everything fails
        until the loop's next turn, so that a row of sends without an await has no gap.
        """
        if self._closed:
            raise RuntimeError("this producer is closed")
        if self._client is None:
            self._client = _Client(self, asyncio.get_running_loop(), self._configuration)
        if len(self._client.outstanding) >= self._messages_max:
            raise ProducerFull(f"{self._messages_max} messages wait for Kafka; send less at a time")
        return self._client.send(topic, key, value, headers, partition)

    def reset(self, reason: str = "reset by its user") -> None:
        """Fails everything outstanding; the next message goes through a fresh client."""
        client, self._client = self._client, None
        if client is None:
            return
        self.resets += 1
        log.warning(
            "the Kafka producer starts over",
            extra={"reason": reason, "lost": len(client.outstanding)},
        )
        client.abandon(reason)
        self._retired.add(client)

    @property
    def outstanding(self) -> int:
        """Messages that wait for Kafka."""
        return len(self._client.outstanding) if self._client is not None else 0

    async def flush(self, seconds_max: float) -> bool:
        """Waits until nothing is outstanding; False if the time did not suffice."""
        if self._client is None or not self._client.outstanding:
            return True
        _, waiting = await asyncio.wait(list(self._client.outstanding), timeout=seconds_max)
        return not waiting

    async def close(self, seconds_max: float = CLOSE_SECONDS_MAX) -> None:
        """Waits for what is outstanding, fails the rest, and ends the threads."""
        self._closed = True
        await self.flush(seconds_max)
        client, self._client = self._client, None
        if client is not None:
            client.abandon("the producer was closed")
            self._retired.add(client)
        for retired in list(self._retired):
            await asyncio.to_thread(retired.thread.join)

    @property
    def delivery_seconds_max(self) -> float:
        return self._delivery_seconds_max

    def _failed(self, client: "_Client", reason: str) -> None:
        if client is self._client:
            self.reset(reason)

    def _gone(self, client: "_Client") -> None:
        self._retired.discard(client)


class _Client:
    """One librdkafka producer with the thread that polls it, from its first message to a break."""

    def __init__(
        self,
        owner: Producer,
        loop: asyncio.AbstractEventLoop,
        configuration: dict[str, str | int | float | bool],
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._client = Client(configuration, logger=log)
        self._reports: deque[tuple[asyncio.Future[Delivered], KafkaError | None, Message]] = deque()
        self._woken = False
        self._broken: str | None = None
        self._stop = False
        self._sweeper: asyncio.TimerHandle | None = None
        self.outstanding: dict[asyncio.Future[Delivered], float] = {}
        self.thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self.thread.start()

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Headers | None,
        partition: int | None,
    ) -> "asyncio.Future[Delivered]":
        future: asyncio.Future[Delivered] = self._loop.create_future()
        if self._broken is not None:
            self.outstanding[future] = time.monotonic()  # fails with the others, in a moment
            return future
        try:
            self._client.produce(
                topic,
                value=value,
                key=key,
                partition=-1 if partition is None else partition,
                on_delivery=partial(self._report, future),
                headers=cast(list[tuple[str, str | bytes | None]], headers or []),
            )
        except BufferError:
            raise ProducerFull("librdkafka's queue is full; send less at a time") from None
        except KafkaException as error:
            self._break(str(error))
        self.outstanding[future] = time.monotonic()
        if self._sweeper is None and self._broken is None:
            self._sweep()
        return future

    def connect(self) -> None:
        """Asks for the topics: whatever comes first to each of them finds a connection."""
        with suppress(KafkaException):
            self._client.list_topics(timeout=CONNECT_SECONDS_MAX)

    def abandon(self, reason: str) -> None:
        """Fails what is outstanding and lets the thread purge and end the client."""
        self._broken = self._broken or reason
        self._stop = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        outstanding, self.outstanding = self.outstanding, {}
        for future in outstanding:
            if not future.done():
                future.set_exception(NotDelivered(reason))

    def _break(self, reason: str) -> None:
        if self._broken is None:
            self._broken = reason
            self._loop.call_soon(self._owner._failed, self, reason)

    def _sweep(self) -> None:
        """Breaks the client if its oldest message (the first of the dictionary) is too old."""
        self._sweeper = None
        sent = next(iter(self.outstanding.values()), None)
        if sent is None:
            return
        limit = self._owner.delivery_seconds_max
        if time.monotonic() - sent > limit:
            self._break(f"Kafka did not answer for {limit:g} s")
            return
        self._sweeper = self._loop.call_later(limit / SWEEPS_A_TIMEOUT, self._sweep)

    # on the polling thread ----------------------------------------------------------------

    def _report(
        self, future: "asyncio.Future[Delivered]", error: KafkaError | None, message: Message
    ) -> None:
        self._reports.append((future, error, message))
        if not self._woken:
            self._woken = True
            self._call(self._settle)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop was closed first: nobody waits any more
            self._stop = True

    def _poll(self) -> None:
        """A fatal error is raised here too, beside the reports of its messages."""
        while not self._stop:
            try:
                self._client.poll(POLL_SECONDS)
            except KafkaException as error:
                self._call(partial(self._break, str(error)))
        self._client.purge()
        with suppress(KafkaException):  # tells once more why it broke, as the next one does
            self._client.poll(0)
        # Waits for librdkafka's threads, here and not on the loop.
        with suppress(KafkaException):
            self._client.close()
        self._call(lambda: self._owner._gone(self))

    # on the loop --------------------------------------------------------------------------

    def _settle(self) -> None:
        self._woken = False
        while self._reports:
            future, error, message = self._reports.popleft()
            self.outstanding.pop(future, None)
            if error is not None:
                if not future.done():
                    future.set_exception(NotDelivered(str(error)))
                self._break(str(error))
            elif not future.done():
                future.set_result(Delivered(message.partition() or 0, message.offset() or 0))
