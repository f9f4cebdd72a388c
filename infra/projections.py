"""The role `projections`: feeds the read models from the domain topics.

Where to read on is stored in Postgres together with the rows, so Kafka keeps no offsets for it and
any number of processes may run: each reads all, and what another has written is passed over.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg

from events.topics import Topics
from infra.kafka.consumer import LogReader, ReadFailed
from infra.kafka.offsets import QueryFailed
from infra.settings import Settings
from projections.answers import Answers
from projections.deliveries import delivery
from projections.keys import Keys
from projections.reasons import reason_of
from projections.runner import Projection, Runner
from projections.tables import Db

log = logging.getLogger("thalweg.projections")

READ_SECONDS_MAX = 0.5
"""An idle reader comes back this often, to see whether a gap has waited long enough."""
GATHER_SECONDS = 0.02
"""What comes meanwhile shares a transaction; and on a small machine the first token of an answer,
which is on its way at the same moment, is not kept waiting. A read model lags by this."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
"""Between attempts while Postgres or Kafka is away."""
CONNECT_SECONDS_MAX = 5
TRANSACTION_SECONDS_MAX = 5
"""A process that is paused inside a transaction loses it and its locks after this long."""
STATEMENT_SECONDS_MAX = 30
"""A batch of 500 takes some 20 ms."""


def all_projections() -> tuple[Projection, ...]:
    """Every read model of this version of the program."""
    return (Answers(), Keys())


async def run_projections(settings: Settings, topics: Topics | None = None) -> None:
    """Runs until cancelled; outages of Postgres and Kafka are waited out."""
    topics = topics or Topics()
    async with asyncio.TaskGroup() as group:
        for projection in all_projections():
            group.create_task(Feed(projection, settings, topics).run())


class Feed:
    """One projection, fed from its context's topic."""

    def __init__(self, projection: Projection, settings: Settings, topics: Topics) -> None:
        self._projection = projection
        self._settings = settings
        self._topic = topics.domain(projection.context)
        self._name = f"{projection.tables.name}@{projection.tables.version}"

    async def run(self) -> None:
        """Feeds until cancelled. Each failure starts over from what is stored."""
        delay = RETRY_SECONDS_MIN
        while True:
            started = time.monotonic()
            try:
                await self._feed()
            except (psycopg.Error, QueryFailed, ReadFailed, OSError) as error:
                log.warning(
                    "a projection was interrupted, and starts over from what is stored",
                    extra={"projection": self._name, "reason": _reason(error)},
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
        reader = LogReader(self._settings.kafka_servers, client_id=f"projection-{self._name}")
        connection: Db | None = None
        try:
            connection = await asyncio.shield(run(connect, url))
            await run(runner.create, connection)
            known = await run(runner.offsets, connection, self._topic)
            await reader.assign(
                {(self._topic, p): known.get(p, 0) for p in range(self._settings.partitions)}
            )
            batch_max = self._settings.projection_events_per_batch_max
            while True:
                records = await reader.read(batch_max, READ_SECONDS_MAX)
                if 0 < len(records) < batch_max:
                    await asyncio.sleep(GATHER_SECONDS)
                    records += await reader.read(batch_max - len(records), 0)
                batch = [
                    delivery(each.topic, each.partition, each.offset, each.headers, each.value)
                    for each in records
                ]
                if batch or runner.waits:
                    await asyncio.shield(run(runner.apply, connection, batch))
        finally:
            await asyncio.shield(_close(reader, connection, thread))


def _reason(error: Exception) -> str:
    """What Postgres says about a statement may hold rows; about a connection it does not."""
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
        return reason_of(error)
    return str(error)


async def _close(reader: LogReader, connection: Db | None, thread: ThreadPoolExecutor) -> None:
    await reader.close()
    if connection is not None:
        await asyncio.get_running_loop().run_in_executor(thread, connection.close)
    thread.shutdown(wait=False)


def connect(url: str) -> Db:
    """A connection for a runner, with bounds on what it may hold and for how long."""
    return psycopg.connect(
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
