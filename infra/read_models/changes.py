"""Whose conversations have changed: one connection that listens, for all feeds of a gateway."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import orjson
import psycopg
from psycopg.sql import SQL, Identifier

from infra.event_store.datastore import CONNECT_SECONDS_MAX, VANISHING
from projections.conversations import CHANNEL, EVERYBODY
from projections.exact_text import subject_digest

log = logging.getLogger("thalweg.read_models")

SILENT_SECONDS_MAX = 30.0
"""A connection that says nothing is asked something this often."""
RECONNECT_SECONDS_MIN = 0.1
RECONNECT_SECONDS_MAX = 5.0

LISTEN = SQL("LISTEN {channel}").format(channel=Identifier(CHANNEL))


class HistoriesChanges:
    """See gateway.read_ports.Changes."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._wakes: dict[str, set[Callable[[], None]]] = {}

    @contextmanager
    def joined(self, tenant: UUID, subject: str, wake: Callable[[], None]) -> Iterator[None]:
        digest = subject_digest(tenant, subject)
        self._wakes.setdefault(digest, set()).add(wake)
        try:
            yield
        finally:
            wakes = self._wakes[digest]
            wakes.discard(wake)
            if not wakes:
                del self._wakes[digest]

    async def run(self) -> None:
        """Listens until cancelled. What a lost connection has missed everybody looks for."""
        delay = RECONNECT_SECONDS_MIN
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._listen()
            except psycopg.Error as error:
                log.warning("changes can't be listened to", extra={"reason": str(error)})
            if loop.time() - began > RECONNECT_SECONDS_MAX:
                delay = RECONNECT_SECONDS_MIN
            await asyncio.sleep(delay)
            delay = min(2 * delay, RECONNECT_SECONDS_MAX)

    async def _listen(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            application_name="thalweg feeds",
            connect_timeout=CONNECT_SECONDS_MAX,
            **VANISHING,
        ) as connection:
            await connection.execute(LISTEN)
            self._wake([EVERYBODY])
            while True:
                async for notified in connection.notifies(timeout=SILENT_SECONDS_MAX):
                    self._wake(orjson.loads(notified.payload))
                await connection.execute(SQL("SELECT 1"))

    def _wake(self, digests: list[str]) -> None:
        if EVERYBODY in digests:
            digests = list(self._wakes)
        for digest in digests:
            for wake in tuple(self._wakes.get(digest, ())):
                wake()
