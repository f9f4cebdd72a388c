"""The role `relay`: one relay for each context, and none stops another's."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from events.catalog import CONTEXTS
from infra import wiring
from infra.event_store import open_account_store
from infra.kafka.producer import Producer
from infra.relay import alarm, stopped_alone
from infra.settings import Settings
from tests.contracts.relay.conftest import PARTITIONS, SECONDS_MAX, World, eventually
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow
VANISHED_SECONDS_MAX = 15


@pytest.fixture
async def settings(world: World, database_url: DatabaseUrl) -> Settings:
    """A world whose accounts can't be sent: their first event is of a type that nobody knows."""
    accounts = database_url("accounts")
    await (await open_account_store(accounts)).close()
    async with await psycopg.AsyncConnection.connect(accounts, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO accounts.stored_events"
            " VALUES (gen_random_uuid(), 1, 'thalweg.accounts.of_tomorrow', %s)",
            [await a_state(world)],
        )
    return Settings(
        kafka=world.kafka,
        partitions=PARTITIONS,
        single_machine=True,
        accounts_database_url=accounts,
        conversations_database_url=world.url,
    )


async def a_state(world: World) -> bytes:
    (stream,) = await world.post()
    async with await psycopg.AsyncConnection.connect(world.url) as connection:
        cursor = await connection.execute(
            "SELECT state FROM conversations.stored_events WHERE originator_id = %s", [stream]
        )
        ((state,),) = await cursor.fetchall()
    return bytes(state)


async def test_a_context_that_waits_for_a_person_does_not_stop_the_others(
    world: World,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wiring, "TOPICS", world.topics)
    monkeypatch.setattr(alarm, "ALARM_SECONDS", 0.05)
    role = asyncio.create_task(wiring.run_role("relay", settings))
    try:
        await eventually(lambda: len(alarms(caplog)) > 1)
        late = await world.post(streams=5)
        await world.read_all_of(late, 1)
        assert not role.done()
        told = vars(alarms(caplog)[0])
        assert told["context"] == "accounts"
        assert "of_tomorrow" in told["reason"]
    finally:
        role.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(role, SECONDS_MAX)


def alarms(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.levelno == logging.CRITICAL]


async def test_what_no_person_must_decide_still_ends_the_role() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    for context in CONTEXTS:
        with pytest.raises(ZeroDivisionError):
            await stopped_alone(context, fails())


async def test_a_database_host_that_vanishes_is_noticed(world: World, producer: Producer) -> None:
    connection = await world.relay(producer)._connect()
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        option: Callable[[int], int] = lambda name: own.getsockopt(socket.IPPROTO_TCP, name)  # noqa: E731
        idle, interval = option(socket.TCP_KEEPIDLE), option(socket.TCP_KEEPINTVL)
        assert idle + interval * option(socket.TCP_KEEPCNT) <= VANISHED_SECONDS_MAX
    await connection.close()
