"""Repeats, and a minute without Kafka: the read side still says what the log says."""

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.faults.clients import Client
from tests.faults.engines import TGI
from tests.faults.read_side import judge_read_side, relayed, repeat_everything
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

REPEATS = 2
AWAY_SECONDS = 60
COMMANDS_WHILE_AWAY = 12
BACK_SECONDS_MAX = 60


def caught_up(thalweg: RunningThalweg) -> bool:
    position, head = relayed(thalweg)
    return position == head


async def test_a_relay_that_repeats_everything_twice_changes_nothing(
    thalweg: RunningThalweg,
) -> None:
    client = Client(thalweg.url, thalweg.api_key, TGI)
    await client.converse(["tokens=5 delay_ms=0", "tokens=5 delay_ms=0"])
    await in_thread(lambda: caught_up(thalweg), "everything to be relayed")
    assert await judge_read_side(thalweg) == [], "and everything is applied"
    before = await asyncio.to_thread(listed, thalweg)
    for _ in range(REPEATS):
        await asyncio.to_thread(repeat_everything, thalweg)
        thalweg.signal("relay", signal.SIGKILL)
        await in_thread(lambda: caught_up(thalweg), "everything to be relayed again")
    assert await judge_read_side(thalweg) == []
    assert await asyncio.to_thread(listed, thalweg) == before


async def test_a_minute_without_kafka_refuses_no_command_and_loses_none(
    thalweg: RunningThalweg,
) -> None:
    clients = [Client(thalweg.url, thalweg.api_key, TGI) for _ in range(COMMANDS_WHILE_AWAY)]
    thaw = thalweg.freeze("kafka")
    began = time.monotonic()
    try:
        conversations = [
            asyncio.create_task(client.converse(["tokens=20 delay_ms=5"])) for client in clients
        ]
        await in_thread(lambda: all(posted(one) for one in clients), "every post to be accepted")
        ready = await asyncio.to_thread(readiness, thalweg)
        await asyncio.sleep(max(0.0, AWAY_SECONDS - (time.monotonic() - began)))
        still = await asyncio.to_thread(readiness, thalweg)
    finally:
        thaw()
    await asyncio.gather(*conversations)
    for body in (ready, still):
        assert (body["commands"], body["answers"]) == ("ready", "not ready")
    assert [turn.posts for one in clients for turn in one.turns] == [1] * COMMANDS_WHILE_AWAY
    assert await judge_read_side(thalweg) == []


async def in_thread(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition while the clients go on."""
    await asyncio.to_thread(wait_for, condition, what, seconds_max=BACK_SECONDS_MAX)


def posted(client: Client) -> bool:
    return bool(client.turns and client.turns[0].posted)


def readiness(thalweg: RunningThalweg) -> dict[str, Any]:
    with urllib.request.urlopen(f"{thalweg.url}/readyz", timeout=10) as response:
        body: dict[str, Any] = json.load(response)
    return body


def listed(thalweg: RunningThalweg) -> Any:
    request = urllib.request.Request(
        f"{thalweg.url}/api/conversations?limit=100",
        headers={"Authorization": f"Bearer {thalweg.api_key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read()) from error
