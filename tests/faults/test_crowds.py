"""Many at once: each command takes effect once, and whoever is refused is told clearly."""

import json
import os

import aiohttp

from events.conversations import AnswerRequested, MessagePosted
from infra.event_store import open_conversation_store
from tests.faults.apparatus.crowd import equal_commands, writers
from tests.faults.read_side import settings_of
from tests.fixtures.thalweg import RunningThalweg

LONG = os.environ.get("FAULTS_LONG") == "1"
EQUAL, WRITERS, ROUNDS = 1_000, 100, 10 if LONG else 1
CLEAR = {(409, "answer_in_progress"), (409, "stale_head"), (429, "too_many_requests")}


async def stored(thalweg: RunningThalweg, conversation: str) -> tuple[list[int], int, int]:
    """The positions, and the numbers of messages and answers that were asked for."""
    from uuid import UUID

    store = await open_conversation_store(settings_of(thalweg).database_url("conversations"))
    try:
        recorded = await store.load(UUID(conversation))
    finally:
        await store.close()
    events = [one.event for one in recorded]
    return (
        [one.position for one in recorded],
        sum(isinstance(event, MessagePosted) for event in events),
        sum(isinstance(event, AnswerRequested) for event in events),
    )


async def test_a_thousand_equal_commands_are_one_turn(thalweg: RunningThalweg) -> None:
    for _ in range(ROUNDS):
        conversation, replies = await equal_commands(thalweg, EQUAL, "tokens=5")
        assert len(replies) == 1, replies
        positions, messages, answers = await stored(thalweg, conversation)
        assert (messages, answers) == (1, 1)
        assert positions == list(range(1, len(positions) + 1))
        ((status, content),) = replies
        assert status == 202
        await ends(thalweg, json.loads(content)["answer"], tokens=5)


async def test_of_a_hundred_writers_on_one_conversation_one_is_accepted_and_all_are_told(
    thalweg: RunningThalweg,
) -> None:
    for _ in range(ROUNDS):
        conversation, accepted, refused = await writers(thalweg, WRITERS, "tokens=5 delay_ms=200")
        assert len(accepted) == 1
        assert set(refused) <= CLEAR, refused
        assert sum(refused.values()) == WRITERS - 1
        await ends(thalweg, json.loads(accepted[0])["answer"], tokens=5)
        positions, messages, answers = await stored(thalweg, conversation)
        assert (messages, answers) == (1, 1)
        assert positions == list(range(1, len(positions) + 1))


async def ends(thalweg: RunningThalweg, answer: str, *, tokens: int) -> None:
    headers = {"Authorization": f"Bearer {thalweg.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{thalweg.url}/api/answers/{answer}/stream") as response,
    ):
        body = await response.text()
    assert "event: end" in body
    assert f' {tokens - 1}"' in body
