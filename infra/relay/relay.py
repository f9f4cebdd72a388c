"""One relay of one context: leads when it can, else waits to.

Promise: every committed event reaches each of its topics at least once, and in order per stream
once repeats are dropped. The store's notification ids are read in commit order (the recorder's
table lock makes the two one order); events are sent without gaps; the stored position moves only
over what Kafka has acknowledged. After any failure everything since the stored position is sent
again.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from commands.errors import StoreUnavailable
from events.codec import Headers, Undecodable, decode_stored, to_cloudevent
from events.envelope import Recorded
from events.topics import Topics
from infra.event_store.datastore import CONNECT_SECONDS_MAX, VANISHING
from infra.event_store.recorder import EVENTS_TABLE, channel_of
from infra.event_store.store import prepare_schema
from infra.event_store.unreachable import WITHDRAWN
from infra.failpoints import hit
from infra.kafka.producer import Delivered, NotDelivered, ProducerFull
from infra.relay.lease import Held, Lease, released_channel
from infra.relay.stages import tell_when_sent

log = logging.getLogger("thalweg.relay")

LEASE_SECONDS_MAX = 3.0
"""A silent leader is replaced after this long."""
RENEWALS_PER_LEASE = 3
"""Two may fail before the lease is lost."""
STANDBY_SECONDS = 0.25
"""A relay that waits looks this often whether the leader is gone."""
EVENTS_PER_READ_MAX = 500
READ_BYTES_MAX = 16_777_216
"""Of stored events in one read: 500 of the largest would not fit into memory."""
READS_IN_FLIGHT_MAX = 8
"""Batches that were sent and not yet acknowledged: enough to hide the acknowledgement's latency."""
EVENTS_PER_TURN = 50
"""Encoded without a break; then the event loop's others get a turn."""
POLL_SECONDS_MAX = 1.0
"""The store is read this often even if no NOTIFY came: one that was lost delays, never loses."""
PAUSE_SECONDS = 0.2
"""Before starting over, after Kafka or Postgres failed."""
PAUSE_SECONDS_MAX = 2.0
"""The pause doubles up to here."""
FULL_PAUSE_SECONDS = 0.01
"""Before offering again what the producer's full queue did not take."""
DRAIN_SECONDS_MAX = 5.0
"""A relay that is told to stop waits this long for acknowledgements."""
RELEASE_SECONDS_MAX = 1.0

SELECT_EVENTS = SQL(
    "SELECT notification_id, originator_id, originator_version, topic, state FROM ("
    " SELECT *, octet_length(state) AS bytes,"
    " sum(octet_length(state)) OVER (ORDER BY notification_id) AS total FROM ("
    "  SELECT * FROM {schema}.{table} WHERE notification_id > %s"
    "  ORDER BY notification_id LIMIT %s) AS next_events) AS summed"
    " WHERE total - bytes < %s ORDER BY notification_id"
)
LISTEN = SQL("LISTEN {}")
LOST = (psycopg.OperationalError, psycopg.InterfaceError, StoreUnavailable, *WITHDRAWN)
"""Of the database: it is tried again with fresh connections."""


class Sender(Protocol):
    """What the relay needs of infra.kafka.producer.Producer, whose promises it relies on."""

    @property
    def resets(self) -> int: ...

    def send(
        self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None
    ) -> "asyncio.Future[Delivered]": ...

    def reset(self, reason: str) -> None: ...


class LeaseLost(Exception):
    """Another relay leads, or this one could not renew its lease in time."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One read of the log on its way to Kafka."""

    position: int
    last_event: UUID
    acknowledgements: list["asyncio.Future[Delivered]"]


class Relay:
    """`await run()` until `stop()` is called. Any number may run for a context; one of them leads.

    `run` outlives Kafka and Postgres being away. It raises StoreWasRestored, and Undecodable for an
    event of a newer program: both are for a person.
    """

    def __init__(
        self,
        context: str,
        database_url: str,
        producer: Sender,
        topics: Topics,
        *,
        lease_seconds_max: float = LEASE_SECONDS_MAX,
        events_per_read_max: int = EVENTS_PER_READ_MAX,
    ) -> None:
        self._context = context
        self._database_url = database_url
        self._producer = producer
        self._topics = topics
        self._lease_seconds = lease_seconds_max
        self._events_per_read_max = events_per_read_max
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{id(self):x}"
        self._select = SELECT_EVENTS.format(
            schema=Identifier(context), table=Identifier(EVENTS_TABLE)
        )
        self._stopping = asyncio.Event()
        self._committed = asyncio.Event()
        self._released = asyncio.Event()
        self._leased_until = 0.0
        self._prepared = False
        self.leads = False
        self.events_sent = 0

    def stop(self) -> None:
        """Lets `run` finish what is on its way, hand the lease on, and return."""
        self._stopping.set()
        self._committed.set()
        self._released.set()

    async def run(self) -> None:
        pause = PAUSE_SECONDS
        while not self._stopping.is_set():
            started = monotonic()
            try:
                if not self._prepared:
                    await asyncio.to_thread(prepare_schema, self._context, self._database_url)
                    self._prepared = True
                await self._session()
            except LOST as error:
                log.warning("the relay lost its database: %s", error)
                pause = PAUSE_SECONDS if monotonic() - started > PAUSE_SECONDS_MAX else pause * 2
                pause = min(pause, PAUSE_SECONDS_MAX)
                await _within(pause, self._stopping.wait())

    # One set of connections -------------------------------------------------------------------

    async def _connect(self) -> AsyncConnection[TupleRow]:
        return await AsyncConnection.connect(
            self._database_url,
            autocommit=True,
            prepare_threshold=0,
            connect_timeout=CONNECT_SECONDS_MAX,
            **VANISHING,
            application_name=f"thalweg-relay-{self._context}-{os.getpid()}",
        )

    async def _session(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            reading, leasing, listening = [
                await stack.enter_async_context(await self._connect()) for _ in range(3)
            ]
            for channel in (channel_of(self._context), released_channel(self._context)):
                await listening.execute(LISTEN.format(Identifier(channel)))
            lease = Lease(leasing, self._context, self._holder, self._lease_seconds)
            await lease.prepare()
            cursor = reading.cursor(binary=True)
            await _first_of(self._listen(listening), self._lead_or_wait(lease, cursor))

    async def _listen(self, connection: AsyncConnection[TupleRow]) -> None:
        committed = channel_of(self._context)
        async for notification in connection.notifies():
            (self._committed if notification.channel == committed else self._released).set()

    async def _lead_or_wait(self, lease: Lease, cursor: AsyncCursor[TupleRow]) -> None:
        while not self._stopping.is_set():
            self._released.clear()
            asked = monotonic()
            held = await lease.take()
            if held is None:
                await _within(STANDBY_SECONDS, self._released.wait())
                continue
            self._leased_until = asked + self._lease_seconds
            self.leads = True
            hit("relay.after_take")
            log.info("leads the relay of %s from place %d", self._context, held.position)
            try:
                await self._lead(lease, held, cursor)
            except LeaseLost as lost:
                log.warning("no longer leads the relay of %s: %s", self._context, lost)
            finally:
                self.leads = False
                hit("relay.before_release")
                with contextlib.suppress(psycopg.Error, TimeoutError):
                    async with asyncio.timeout(RELEASE_SECONDS_MAX):
                        await lease.release(held.epoch)

    # Leading ----------------------------------------------------------------------------------

    async def _lead(self, lease: Lease, held: Held, cursor: AsyncCursor[TupleRow]) -> None:
        pause = PAUSE_SECONDS
        current: Held | None = held
        while current is not None and not self._stopping.is_set():
            flight: asyncio.Queue[Sent | None] = asyncio.Queue(READS_IN_FLIGHT_MAX)
            outstanding: set[asyncio.Future[Delivered]] = set()
            try:
                await _first_of(
                    self._renew(lease, held.epoch),
                    self._advance(lease, held.epoch, flight),
                    self._send(current.position, cursor, flight, outstanding),
                    self._give_up_draining(),
                )
            except NotDelivered as error:
                log.warning("Kafka did not take an event, starting over: %s", error)
                await self._pause(lease, held.epoch, pause)
                pause = min(pause * 2, PAUSE_SECONDS_MAX)
            finally:
                # What was sent is never left to land after something newer.
                if any(not future.done() for future in outstanding):
                    self._producer.reset("the relay stops or starts over")
                _forget(outstanding)
            before, current = current, await lease.held(held.epoch)
            if current is not None and current.position > before.position:
                pause = PAUSE_SECONDS
        if current is None:
            raise LeaseLost("another relay took the lease")

    async def _send(
        self,
        position: int,
        cursor: AsyncCursor[TupleRow],
        flight: "asyncio.Queue[Sent | None]",
        outstanding: "set[asyncio.Future[Delivered]]",
    ) -> None:
        resets = self._producer.resets
        while not self._stopping.is_set():
            self._committed.clear()
            await cursor.execute(
                self._select, (position, self._events_per_read_max, READ_BYTES_MAX)
            )
            rows = await cursor.fetchall()
            if not rows:
                await _within(POLL_SECONDS_MAX, self._committed.wait())
                continue
            hit("relay.after_read")
            acknowledgements: list[asyncio.Future[Delivered]] = []
            for start in range(0, len(rows), EVENTS_PER_TURN):
                recorded = [_decode(*row[1:]) for row in rows[start : start + EVENTS_PER_TURN]]
                for future in await self._send_some(recorded, resets):
                    acknowledgements.append(future)
                    outstanding.add(future)
                    future.add_done_callback(outstanding.discard)
                    future.add_done_callback(_seen)
                hit("relay.after_produce")
                if len(rows) > EVENTS_PER_TURN:
                    await asyncio.sleep(0)
            position = rows[-1][0]
            await flight.put(Sent(position, recorded[-1].id, acknowledgements))
        await flight.put(None)
        await asyncio.Event().wait()  # until `_advance` has seen the last acknowledgement

    async def _send_some(
        self, recorded: Sequence[Recorded], resets: int
    ) -> list["asyncio.Future[Delivered]"]:
        """Sends events to their topics, in order within each.

        Work goes first: a broker takes the requests of a connection one by one, and a worker waits
        for this one. Between topics there is no order to keep.
        """
        self.events_sent += len(recorded)
        sends = [
            (place > 0, topic, one, *to_cloudevent(one))
            for one in recorded
            for place, topic in enumerate(self._topics.routes(one.event))
        ]
        futures = []
        for _, topic, one, key, headers, value in sorted(sends, key=lambda send: not send[0]):
            future = await self._send_one(topic, key, headers, value, resets)
            tell_when_sent(one, topic, future)
            futures.append(future)
        return futures

    async def _send_one(
        self, topic: str, key: bytes, headers: Headers, value: bytes, resets: int
    ) -> "asyncio.Future[Delivered]":
        while True:
            if self._producer.resets != resets:
                # Something older failed. Sent through the fresh client, this would overtake it.
                raise NotDelivered("an earlier event was not delivered")
            if monotonic() > self._leased_until:
                raise LeaseLost("it could not be renewed in time")
            try:
                return self._producer.send(topic, key=key, value=value, headers=headers)
            except ProducerFull:
                await asyncio.sleep(FULL_PAUSE_SECONDS)

    async def _advance(
        self, lease: Lease, epoch: int, flight: "asyncio.Queue[Sent | None]"
    ) -> None:
        """Stores the position after acknowledgements; returns after the last read's."""
        finished = False
        while not finished:
            sent = await flight.get()
            last: Sent | None = None
            while sent is not None:
                for future in sent.acknowledgements:
                    await future
                last = sent
                if flight.empty():
                    break
                sent = flight.get_nowait()
                if sent is not None and not all(f.done() for f in sent.acknowledgements):
                    await self._store(lease, epoch, last)
            finished = sent is None
            if last is not None:
                await self._store(lease, epoch, last)

    async def _store(self, lease: Lease, epoch: int, sent: Sent) -> None:
        hit("relay.after_acknowledge")
        if not await lease.advance(epoch, sent.position, sent.last_event):
            raise LeaseLost("another relay took the lease")
        hit("relay.after_position")

    async def _give_up_draining(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(DRAIN_SECONDS_MAX)

    async def _renew(self, lease: Lease, epoch: int) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
            asked = monotonic()
            if not await lease.renew(epoch):
                raise LeaseLost("another relay took the lease")
            self._leased_until = asked + self._lease_seconds

    async def _pause(self, lease: Lease, epoch: int, seconds: float) -> None:
        """Waits before another try, and keeps the lease meanwhile."""
        await _within(seconds, self._stopping.wait())
        asked = monotonic()
        if not await lease.renew(epoch):
            raise LeaseLost("another relay took the lease")
        self._leased_until = asked + self._lease_seconds


def _decode(stream: UUID, position: int, type_name: str, state: bytes) -> Recorded:
    try:
        return decode_stored(stream, position, type_name, state)
    except Undecodable:
        log.error(  # the trace would show what the event says
            "an event can't be read",
            extra={"stream": str(stream), "position": position, "type": type_name},
        )
        raise


async def _within(seconds: float, condition: Awaitable[object]) -> None:
    """Waits for the condition or the time, whichever is first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await condition


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all until one of them returns or raises, then ends the others; raises what it raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _forget(futures: "Iterable[asyncio.Future[Delivered]]") -> None:
    for future in list(futures):
        future.cancel()


def _seen(future: "asyncio.Future[Delivered]") -> None:
    """A failure is dealt with by who awaits the first one: the others are no news for the log."""
    if not future.cancelled():
        future.exception()
