"""Connections that Postgres withdraws from a store that is well otherwise; what else vanishes."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg import Cursor
from psycopg.rows import DictRow

from infra.event_store import datastore as module
from infra.event_store import open_conversation_store
from infra.event_store.recorder import Group
from infra.event_store.store import CONNECTIONS_MAX
from infra.event_store.unreachable import WITHDRAWN
from infra.event_store.writer import LOST, Writer
from tests.contracts.event_store.appends import append
from tests.fixtures.processes import wait_for
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
DETECTED_SECONDS_MAX = 15
IDLE_SECONDS_MAX = 0.5
"""In a transaction: a machine under load holds up nobody else for so long."""


def vanishing_seconds(connection: psycopg.Connection[Any]) -> int:
    """How long after the last packet a connection finds out that the other host is gone."""
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        if not own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return 2**31
        idle, interval, count = (
            own.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
    return idle + interval * count


def until_withdrawn(url: str, connection: psycopg.Connection[Any]) -> None:
    """Says nothing on this connection until Postgres has ended it."""

    def is_gone() -> bool:
        serves = "SELECT FROM pg_stat_activity WHERE pid = %s"
        return other.execute(serves, (connection.info.backend_pid,)).fetchone() is None

    with psycopg.connect(url, autocommit=True) as other:
        wait_for(is_gone, "the end of an idle connection")


async def test_a_host_that_vanishes_is_noticed(database_url: DatabaseUrl) -> None:
    store = await open_conversation_store(database_url("conversations"))
    with store.recorder.datastore.get_connection() as connection:
        assert vanishing_seconds(connection) <= DETECTED_SECONDS_MAX
    await store.close()


async def test_a_writer_that_was_paused_in_its_transaction_stores_after_it_wakes(
    conversations_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_SECONDS_MAX", IDLE_SECONDS_MAX)
    store = await open_conversation_store(conversations_url)
    go_on = store.recorder.append_in
    pauses = [until_withdrawn]

    def pause(
        cursor: Cursor[DictRow], stored_events: Sequence[StoredEvent], group: Group
    ) -> list[int]:
        """As a repeat's writer is, that may join a turn: in a transaction of several statements."""
        with cursor.connection.transaction():
            ids = go_on(cursor, stored_events, group)
            if pauses:
                pauses.pop()(conversations_url, cursor.connection)
            return ids

    monkeypatch.setattr(store.recorder, "append_in", pause)
    for _ in range(2):
        given = append()
        receipt = await store.append(given)
        assert (receipt.position, receipt.repeated) == (1, False)
        assert list(await store.load(given.stream)) == list(given.events)
    assert not pauses
    await store.close()


async def test_a_transaction_that_postgres_ended_counts_as_a_lost_connection(
    conversations_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where psycopg reads what Postgres said last, it is no OperationalError of psycopg's."""
    monkeypatch.setattr(module, "IDLE_IN_TRANSACTION_SECONDS_MAX", IDLE_SECONDS_MAX)
    store = await open_conversation_store(conversations_url)

    def pause() -> None:
        with store.recorder.datastore.transaction(commit=True) as cursor:
            cursor.execute("SELECT 1")
            until_withdrawn(conversations_url, cursor.connection)
            cursor.execute("SELECT 1")

    with pytest.raises(LOST) as raised:
        await asyncio.to_thread(pause)
    assert isinstance(raised.value.__cause__, WITHDRAWN)
    await store.append(append())
    await store.close()


async def test_connections_to_a_server_that_leads_no_more_are_replaced(
    database_url: DatabaseUrl,
) -> None:
    store = await open_conversation_store(database_url("conversations"))
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_MAX):
            connection = stack.enter_context(store.recorder.datastore.get_connection())
            connection.execute("SET default_transaction_read_only = on")  # as a standby is
    for _ in range(3):
        given = append()
        assert not (await store.append(given)).repeated
        assert list(await store.load(given.stream)) == list(given.events)
    await store.close()


async def test_the_writer_outlives_a_bug_of_its_own(
    database_url: DatabaseUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_conversation_store(database_url("conversations"))
    take, bugs = store._writer._take, [ZeroDivisionError()]

    def fails_once(_: Writer, deferred: list[Any]) -> Any:
        if bugs:
            raise bugs.pop()
        return take(deferred)

    monkeypatch.setattr(Writer, "_take", fails_once)
    assert (await store.append(append())).position == 1
    assert not bugs
    await store.close()
