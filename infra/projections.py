"""The role `projections`: feeds the read models from the domain topics.

Where to read on is stored in Postgres together with the rows, so Kafka keeps no offsets for it and
any number of processes may run: each reads all, and what another has written is passed over.
"""

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import psycopg
from psycopg.sql import SQL, Identifier

from events import trace
from events.conversations import AnswerEnded
from events.topics import Topics
from infra import failpoints
from infra.event_store.datastore import VANISHING
from infra.failing_connection import FailingConnection
from infra.failpoints import hit
from infra.kafka.consumer import LogReader, ReadFailed
from infra.kafka.offsets import QueryFailed
from infra.settings import Settings
from projections import dead_letters, versions
from projections.answers import Answers
from projections.conversations import Histories
from projections.deliveries import Delivery, delivery
from projections.keys import Keys
from projections.progress import BuildDropped
from projections.projection import Projection, beside
from projections.reasons import reason_of
from projections.runner import Runner
from projections.tables import COMMON, Db, Tables
from projections.usage import Usage
from projections.versions import CHANNEL, State

log = logging.getLogger("thalweg.projections")

READ_SECONDS_MAX = 0.5
"""An idle reader comes back this often, to see whether a gap has waited long enough."""
GATHER_SECONDS = 0.1
"""Kafka hands out what has come at most this often, so a read model lags by this and a little. A
batch costs more than its events do, and each projection pays it: handed out at once, they took a
third of the answers' processor time under load."""
LOADED_EVENTS_MIN = 16
LOADED_SECONDS = 0.1
"""After a batch of so many events the next one gathers for this much longer: the statements of a
batch cost some 4 ms of processor time, however few its events are, and twice as many share them."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
"""Between attempts while Postgres or Kafka is away."""
LOOK_SECONDS = 5.0
"""A notification that builds have changed may be lost with its connection."""
ALARM_SECONDS = 30.0
"""While streams are parked, the log says so this often."""
CONNECT_SECONDS_MAX = 5
TRANSACTION_SECONDS_MAX = 5
"""A process that is paused inside a transaction loses it and its locks after this long."""
STATEMENT_SECONDS_MAX = 30
"""A batch of 500 takes some 20 ms."""


def all_projections() -> tuple[Projection, ...]:
    """Every read model of this version of the program."""
    return (Answers(), Histories(), Keys(), Usage())


def known_builds(connection: Db, name: str | None = None) -> list[Projection]:
    """What is fed, of all versions that this program knows; live ones first. Raises LookupError."""
    known = {_version(one.tables): one for one in all_projections()}
    names = sorted({known_name for known_name, _ in known})
    if name is not None and name not in names:
        raise LookupError(f"there is no projection {name!r}; there are {', '.join(names)}")
    connection.execute(COMMON)
    return [
        beside(known[_version(build.tables)], build.tables.build)
        for build in sorted(versions.builds(connection), key=lambda one: one.state != State.LIVE)
        if build.state is not State.BUILDING
        and _version(build.tables) in known
        and name in (None, build.tables.name)
    ]


async def run_projections(settings: Settings, topics: Topics | None = None) -> None:
    """Runs until cancelled; outages of Postgres and Kafka are waited out."""
    await Feeds(settings, topics or Topics()).run()


class Feeds:
    """Feeds every build that is live or old, of the versions that this program knows."""

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics
        self._known = {_version(one.tables): one for one in all_projections()}
        self._feeds: dict[Tables, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follows the registry of builds, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._follow(group)
                except psycopg.Error as error:
                    log.warning("builds can't be looked up", extra={"reason": _reason(error)})
                await asyncio.sleep(RETRY_SECONDS_MAX if self._feeds else RETRY_SECONDS_MIN)

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        url = self._settings.database_url("projections")
        await asyncio.to_thread(self._adopt, url)
        async with await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            application_name="thalweg projections",
            connect_timeout=CONNECT_SECONDS_MAX,
            **VANISHING,
        ) as connection:
            await connection.execute(SQL("LISTEN {channel}").format(channel=Identifier(CHANNEL)))
            while True:
                rows = await (await connection.execute(versions.FIND)).fetchall()
                self._feed(group, [versions.build(row) for row in rows])
                async for _ in connection.notifies(timeout=LOOK_SECONDS, stop_after=1):
                    pass

    def _adopt(self, url: str) -> None:
        with connect(url) as connection:
            for projection in self._known.values():
                if not versions.adopt(connection, projection.tables):
                    log.warning(
                        "a version of a projection is not built: thalweg rebuild builds it",
                        extra={"projection": projection.tables.label},
                    )

    def _feed(self, group: asyncio.TaskGroup, found: list[versions.Build]) -> None:
        wanted = {
            beside(projection, build.tables.build)
            for build in found
            if build.state is not State.BUILDING
            and (projection := self._known.get(_version(build.tables)))
        }
        by_tables = {projection.tables: projection for projection in wanted}
        for tables, task in list(self._feeds.items()):
            if tables not in by_tables or task.done():
                task.cancel()
                del self._feeds[tables]
        for tables, projection in by_tables.items():
            if tables not in self._feeds:
                feed = Feed(projection, self._settings, self._topics)
                self._feeds[tables] = group.create_task(feed.run())


def _version(tables: Tables) -> tuple[str, int]:
    return tables.name, tables.version


class Feed:
    """One build of a projection, fed from its context's topic."""

    def __init__(self, projection: Projection, settings: Settings, topics: Topics) -> None:
        self._projection = projection
        self._settings = settings
        self._topic = topics.domain(projection.context)
        self._name = projection.tables.label

    async def run(self) -> None:
        """Feeds until cancelled or dropped. Each failure starts over from what is stored."""
        delay = RETRY_SECONDS_MIN
        while True:
            started = time.monotonic()
            try:
                await self._feed()
            except BuildDropped:
                return
            except (psycopg.Error, QueryFailed, ReadFailed, OSError) as error:
                log.warning(
                    "a projection was interrupted, and starts over from what is stored",
                    extra={"projection": self._name, "reason": _reason(error)},
                )
            except Exception as error:  # a bug of ours must not end what feeds the others
                log.error(
                    "a projection has failed, and starts over from what is stored",
                    extra={"projection": self._name, "reason": reason_of(error)},
                )
            if time.monotonic() - started > RETRY_SECONDS_MAX:
                delay = RETRY_SECONDS_MIN
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _feed(self) -> None:
        runner = Runner(self._projection, gap_seconds_max=self._settings.gap_seconds_max)
        url = self._settings.database_url("projections")
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"projection {self._name}")
        run = partial(asyncio.get_running_loop().run_in_executor, thread)
        reader = LogReader(
            self._settings.kafka_servers,
            client_id=f"projection-{self._name}",
            gather_seconds=GATHER_SECONDS,
        )
        opened: list[Db] = []  # also by a call that nobody waits for any more
        try:
            await asyncio.shield(run(lambda: opened.append(connect(url))))
            (connection,) = opened
            await run(runner.create, connection)
            known = await run(runner.offsets, connection, self._topic)
            await reader.assign(
                {(self._topic, p): known.get(p, 0) for p in range(self._settings.partitions)}
            )
            batch_max = self._settings.projection_events_per_batch_max
            alarm_at = time.monotonic()
            while True:
                records = await reader.read(batch_max, READ_SECONDS_MAX)
                if records:
                    hit("projections.after_read")
                began = trace.now_ns()
                batch = [
                    delivery(each.topic, each.partition, each.offset, each.headers, each.value)
                    for each in records
                ]
                if batch or runner.waits:
                    applied = await asyncio.shield(run(runner.apply, connection, batch))
                    hit("projections.after_commit")
                    if applied and runner.live:
                        tell_ends(batch, self._projection.tables.name, began)
                if len(batch) >= LOADED_EVENTS_MIN and len(batch) < batch_max:
                    await asyncio.sleep(LOADED_SECONDS)
                if time.monotonic() >= alarm_at:
                    await asyncio.shield(run(self._alarm, connection))
                    alarm_at = time.monotonic() + ALARM_SECONDS
        finally:
            await asyncio.shield(_close(reader, opened, thread))

    def _alarm(self, connection: Db) -> None:
        found = dead_letters.counts(connection, self._projection.tables)
        if found.letters:
            log.error(
                "events wait in the dead letters: thalweg dead-letters lists them",
                extra={
                    "projection": self._name,
                    "parked_streams": found.streams,
                    "dead_letters": found.letters,
                    "since": str(found.since),
                },
            )


def tell_ends(batch: list[Delivery], projection: str, began_ns: int) -> None:
    """The last stage of a turn, as a span: who reads the projection sees its end.

    Only while the role feeds what is live: a rebuild is another process, which exports nothing,
    and what is fed from long ago is told by its age.
    """
    if not trace.is_exporting():
        return
    for one in batch:
        if one.type_name != AnswerEnded.TYPE or not trace.is_told(one.traceparent):
            continue
        with contextlib.suppress(KeyError, ValueError):
            at = datetime.fromisoformat(dict(one.headers)["ce_time"].decode())
            if trace.is_told(one.traceparent, of=at):
                turn = trace.turn_of(one.traceparent)
                trace.stage(f"project {projection}", turn, began_ns, kind=trace.Kind.CONSUMER)


def _reason(error: Exception) -> str:
    """What Postgres says about a statement may hold rows; about a connection it does not."""
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
        return reason_of(error)
    return str(error)


async def _close(reader: LogReader, opened: list[Db], thread: ThreadPoolExecutor) -> None:
    def close() -> None:
        for connection in opened:
            connection.close()

    await reader.close()
    await asyncio.get_running_loop().run_in_executor(thread, close)
    thread.shutdown(wait=False)


def connect(url: str) -> Db:
    """A connection for a runner, with bounds on what it may hold and for how long."""
    kind: type[Db] = FailingConnection if failpoints.are_on() else psycopg.Connection
    return kind.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS_MAX,
        application_name="thalweg projections",
        options=(
            # A crash of Postgres may take the last rows, and with them the positions of the same
            # transactions: they are read from Kafka again.
            "-c synchronous_commit=off"
            f" -c idle_in_transaction_session_timeout={TRANSACTION_SECONDS_MAX}s"
            f" -c statement_timeout={STATEMENT_SECONDS_MAX}s"
        ),
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )
