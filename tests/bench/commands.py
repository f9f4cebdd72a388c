"""The write side alone: commands a second from many submitters, and how fast the relay follows."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import LiteralString
from uuid import UUID

import psycopg

from commands.conversations import (
    CONVERSATIONS,
    Conversation,
    StartConversation,
    start_conversation,
)
from commands.submit import Commands
from events.envelope import Event, Meta
from events.ids import ConversationId, fresh_id
from infra.servers import resolve
from infra.settings import Settings
from infra.wiring import conversations_of
from tests.bench.read_side import Falsified
from tests.fixtures.thalweg import RunningThalweg

SUBMITTERS = 32
WARM_UP_COMMANDS = 500
RELAYED_SECONDS_MAX = 180
POLL_SECONDS = 0.005
TENANT = UUID(int=0xBE7C4)
POSITION = "SELECT position FROM conversations.relay"
LAST = "SELECT coalesce(max(notification_id), 0) FROM conversations.stored_events"


@dataclass(frozen=True)
class Written:
    commands_per_second: float
    relayed_per_second: float


async def written(thalweg: RunningThalweg, commands: int) -> Written:
    """Conversations are started while the relay is held still; then it is let go."""
    settings = resolve(Settings(home=thalweg.home))
    url = settings.database_url("conversations")
    async with conversations_of(settings) as store:
        submits = Commands(store, CONVERSATIONS, event_bytes_max=settings.event_bytes_max)
        await _submit(submits, min(WARM_UP_COMMANDS, commands))
        async with _held(thalweg):
            per_second = await _submit(submits, commands)
            places = await asyncio.to_thread(_places, url)
        relayed = await asyncio.to_thread(_relayed, url, *places)
    return Written(per_second, relayed)


@asynccontextmanager
async def _held(thalweg: RunningThalweg) -> AsyncIterator[None]:
    """The relays are stopped and go on afterwards."""
    pids = thalweg.pids("relay")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def _submit(commands: Commands[Conversation], number: int) -> float:
    """Commands a second; each is accepted when Postgres has committed it."""
    left = iter(range(number))

    async def submitter() -> None:
        for _ in left:
            command = StartConversation(ConversationId(fresh_id()), title="bench")
            name = f"key:{command.conversation}"
            meta = Meta(TENANT, name, "bench", "bench", datetime.now(UTC), fresh_id())
            await commands.submit(
                command.conversation,
                partial(_decide, command),
                meta,
                name.encode(),
                new_stream=True,
            )

    began = time.perf_counter()
    await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))
    return number / (time.perf_counter() - began)


def _decide(command: StartConversation, state: Conversation) -> list[Event]:
    return start_conversation(state, command)


def _places(url: str) -> tuple[int, int]:
    """How far the relay is, and how far it has to come."""
    with psycopg.connect(url) as connection:
        return _number(connection, POSITION), _number(connection, LAST)


def _relayed(url: str, first: int, last: int) -> float:
    """Events a second, from the first that the relay has sent until it has sent all."""
    deadline = time.monotonic() + RELAYED_SECONDS_MAX
    with psycopg.connect(url, autocommit=True) as connection:
        began, before, now = time.perf_counter(), first, first
        while now < last:
            time.sleep(POLL_SECONDS)
            now = _number(connection, POSITION)
            if before == first:
                began, before = time.perf_counter(), now
            if time.monotonic() > deadline:
                raise Falsified(f"the relay is at {now} of {last}")
        return (last - before) / max(time.perf_counter() - began, POLL_SECONDS)


def _number(connection: psycopg.Connection, query: LiteralString) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
