"""The role `sagas`: each saga's feed, timers and commands, for as long as the process lives.

Any number of processes may run. What Kafka, Postgres or a context can't do now is waited for.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg

from commands.errors import StoreUnavailable
from events.topics import Topics
from infra.event_store.datastore import VANISHING
from infra.kafka.consumer import ReadFailed
from infra.kafka.offsets import QueryFailed
from infra.sagas import tables
from infra.sagas.answers import AskingAgain, Store
from infra.sagas.changes import Overtaken
from infra.sagas.feed import Feed
from infra.sagas.tables import Db
from infra.sagas.work import Sender, Work
from infra.settings import Settings
from sagas.answers import OverdueAnswers, Patience
from sagas.saga import Saga, Sent, State

log = logging.getLogger("thalweg.sagas")

WORK_SECONDS = 1.0
"""Between two looks at timers and commands: an answer is late by minutes then."""
ALARM_SECONDS = 30.0
"""While there is something that a person should look into, the log says so this often."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 5
TRANSACTION_SECONDS_MAX = 5
"""A process that is paused inside a transaction loses it and its locks after this long."""
STATEMENT_SECONDS_MAX = 30
OUTAGES = (psycopg.Error, StoreUnavailable, QueryFailed, ReadFailed, Overtaken, OSError)


async def run_sagas(settings: Settings, topics: Topics, store: Store) -> None:
    """Runs until cancelled."""
    patience = Patience(
        settings.ask_again_grace_seconds,
        settings.ask_again_seconds,
        settings.ask_again_times_max,
    )
    sender = AskingAgain(store, event_bytes_max=settings.event_bytes_max)
    await run_saga(OverdueAnswers(patience), sender, settings, topics)


async def run_saga(
    saga: Saga[State, Sent], sender: Sender[Sent], settings: Settings, topics: Topics
) -> None:
    """Runs one saga until cancelled."""
    url = settings.database_url("sagas")

    async def feed() -> None:
        async with connected(url) as connection:
            await Feed(saga, topics, connection).run(settings)

    async def work() -> None:
        async with connected(url) as connection:
            doing = Work(saga, sender, connection)
            alarm_at = time.monotonic()
            while True:
                await doing.do_all()
                if time.monotonic() >= alarm_at:
                    await _alarm(connection)
                    alarm_at = time.monotonic() + ALARM_SECONDS
                await asyncio.sleep(WORK_SECONDS)

    async with asyncio.TaskGroup() as group:
        group.create_task(_again_and_again(saga.name, feed))
        group.create_task(_again_and_again(saga.name, work))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Db]:
    """A connection with the tables made, and bounds on what it may hold and for how long."""
    connection = await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS_MAX,
        application_name="thalweg sagas",
        options=(
            # A crash of Postgres may take the last transactions, each whole: what they read is read
            # again, what they let fire fires again, and what they sent is sent again, as the same.
            "-c synchronous_commit=off"
            f" -c idle_in_transaction_session_timeout={TRANSACTION_SECONDS_MAX}s"
            f" -c statement_timeout={STATEMENT_SECONDS_MAX}s"
        ),
        **VANISHING,
    )
    try:
        await tables.create(connection)
        yield connection
    finally:
        await connection.close()


async def prepare(settings: Settings) -> None:
    """Makes the tables, where they are missing."""
    async with connected(settings.database_url("sagas")):
        pass


async def _again_and_again(saga: str, life: Callable[[], Awaitable[None]]) -> None:
    delay = RETRY_SECONDS_MIN
    while True:
        started = time.monotonic()
        try:
            await life()
        except OUTAGES as error:
            log.warning(
                "a saga was interrupted, and starts over from what is stored",
                extra={"saga": saga, "reason": f"{type(error).__name__}: {error}"},
            )
        except Exception:  # a bug of ours must not end the others
            log.exception(
                "a saga has failed, and starts over from what is stored", extra={"saga": saga}
            )
        if time.monotonic() - started > RETRY_SECONDS_MAX:
            delay = RETRY_SECONDS_MIN
        await asyncio.sleep(delay)
        delay = min(delay * 2, RETRY_SECONDS_MAX)


async def _alarm(connection: Db) -> None:
    for saga, what, count, since, first in await (
        await connection.execute(tables.TROUBLES)
    ).fetchall():
        log.error(
            "instances of a saga need a person: thalweg doctor says more",
            extra={"saga": saga, "what": what, "count": count, "since": str(since), "one": first},
        )
