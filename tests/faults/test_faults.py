"""Kill or pause one process in the middle of answers: eight clients must lose nothing but time."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from events.topics import Topics
from infra.event_store import open_conversation_store
from tests.faults.clients import Client
from tests.faults.engines import ALONE, OPENAI, TGI, Engines
from tests.faults.judge import judge, judge_log, take_census, wanted_census
from tests.faults.read_side import judge_read_side, settings_of
from tests.fixtures.thalweg import RunningThalweg

CLIENTS = 8
PAUSE_SECONDS = 5
"""Longer than the session timeout and the relay's lease: the paused one is replaced meanwhile."""
ENGINE_AWAY_SECONDS = 3
BEGUN_SECONDS_MAX = 30
PARTITIONS = 16

Fault = Callable[[], Awaitable[None]]


async def run(thalweg: RunningThalweg, model: str, fault: Fault) -> None:
    """Eight clients converse, the fault comes when all of them read; then everything is judged.

    Their first answers have different lengths, so that some post while others read.
    """
    settings = settings_of(thalweg)
    database = settings.database_url("conversations")
    before = await asyncio.to_thread(take_census, database)
    clients = [Client(thalweg.url, thalweg.api_key, model) for _ in range(CLIENTS)]
    conversations = [
        asyncio.create_task(
            client.converse([f"tokens={40 + 8 * number} delay_ms=20", "tokens=40 delay_ms=20"])
        )
        for number, client in enumerate(clients)
    ]
    try:
        async with asyncio.timeout(BEGUN_SECONDS_MAX):
            await asyncio.gather(*(client.begun.wait() for client in clients))
        await fault()
        await asyncio.gather(*conversations)
    finally:
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
    turns = [turn for client in clients for turn in client.turns]
    assert len(turns) == 2 * CLIENTS
    store = await open_conversation_store(database)
    try:
        streams = {turn.conversation for turn in turns}
        topic = Topics().domain("conversations")
        log = await judge_log(settings.kafka_servers, topic, PARTITIONS, store, streams)
        again = [what for client in clients for what in await client.check_again()]
        assert await judge(store, turns) + log + again == []
    finally:
        await store.close()
    assert await asyncio.to_thread(take_census, database) - before == wanted_census(turns)
    assert await judge_read_side(thalweg) == []


def killed(thalweg: RunningThalweg, role: str) -> Fault:
    async def fault() -> None:
        thalweg.signal(role, signal.SIGKILL)

    return fault


def paused(thalweg: RunningThalweg, role: str) -> Fault:
    async def fault() -> None:
        thaw = thalweg.freeze(role)
        try:
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            thaw()

    return fault


ROLES = ("gateway", "relay", "answers", "recorder", "projections")
SERVERS = ("redis", "postgres", "kafka")


@pytest.mark.parametrize("role", ROLES + SERVERS)
async def test_kill_9_in_mid_answer_loses_nothing(thalweg: RunningThalweg, role: str) -> None:
    await run(thalweg, TGI, killed(thalweg, role))


@pytest.mark.parametrize("role", ROLES + SERVERS)
async def test_a_pause_longer_than_the_session_timeout_loses_nothing(
    thalweg: RunningThalweg, role: str
) -> None:
    await run(thalweg, TGI, paused(thalweg, role))


async def test_kill_9_of_a_worker_that_uses_openais_protocol_loses_nothing(
    thalweg: RunningThalweg,
) -> None:
    await run(thalweg, OPENAI, killed(thalweg, "answers"))


@pytest.mark.parametrize("model", [TGI, OPENAI])
async def test_kill_9_of_an_engine_continues_on_the_other(
    thalweg: RunningThalweg, engines: Engines, model: str
) -> None:
    async def kill() -> None:
        engines.kill(model)

    try:
        await run(thalweg, model, kill)
    finally:
        engines.revive(model)


async def test_kill_9_of_the_only_engine_continues_once_it_is_back(
    thalweg: RunningThalweg, engines: Engines
) -> None:
    async def kill_and_revive() -> None:
        engines.kill(ALONE)
        await asyncio.sleep(ENGINE_AWAY_SECONDS)
        engines.revive(ALONE)

    try:
        await run(thalweg, ALONE, kill_and_revive)
    finally:
        engines.revive(ALONE)
