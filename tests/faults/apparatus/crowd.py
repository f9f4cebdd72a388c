"""Many at once: equal commands, and many writers on one conversation."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg

from tests.faults.world import OWN_KEY, World
from tests.fixtures.thalweg import RunningThalweg

EACH_SECONDS_MAX = 240
"""A thousand at once have one gateway, and it may have half a processor."""
AGAIN_SECONDS = 0.05
UNAVAILABLE = 503
"""A gateway that has no processor for seconds says so; the same command is sent again."""
RETRIED = (429, UNAVAILABLE)
ACCEPTED = 202
EQUAL, WRITERS = 1_000, 100
CLEAR = {(409, "answer_in_progress"), (409, "stale_head"), (429, "too_many_unanswered")}
POSITIONS = (
    "SELECT originator_version FROM conversations.stored_events WHERE originator_id = %s"
    " ORDER BY originator_version"
)
ANSWERS = "SELECT count(*) FROM conversations.answers WHERE conversation = %s"


def _session(thalweg: RunningThalweg) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        thalweg.url,
        headers={"Authorization": f"Bearer {thalweg.api_key}"},
        timeout=aiohttp.ClientTimeout(total=EACH_SECONDS_MAX),
        connector=aiohttp.TCPConnector(limit=0),
    )


async def _post(
    session: aiohttp.ClientSession, path: str, body: dict[str, Any], key: str
) -> tuple[int, bytes]:
    """As clients do: again under the same key, if the connection goes. Where hundreds of clients
    share one starved process, the gateway takes some for slow ones and closes."""
    while True:
        with suppress(aiohttp.ClientConnectionError):
            async with session.post(path, json=body, headers={"Idempotency-Key": key}) as response:
                return response.status, await response.read()
        await asyncio.sleep(AGAIN_SECONDS)


async def started(session: aiohttp.ClientSession) -> str:
    async with session.post(
        "/api/conversations", json={}, headers={"Idempotency-Key": f"{OWN_KEY}{uuid4().hex}"}
    ) as response:
        assert response.status == 201, await response.text()
        return str((await response.json())["conversation"])


async def equal_commands(
    thalweg: RunningThalweg, number: int, message: str
) -> tuple[str, set[Any]]:
    """The same post so many times at once; the conversation, and the different final replies.

    Who is told 429 or 503 asks again, as a client does.
    """
    async with _session(thalweg) as session:
        conversation = await started(session)
        path = f"/api/conversations/{conversation}/messages"
        body, key = {"content": message, "parent": None}, f"{OWN_KEY}{uuid4().hex}"

        async def one() -> tuple[int, bytes]:
            while True:
                status, content = await _post(session, path, body, key)
                if status not in RETRIED:
                    return status, content
                await asyncio.sleep(AGAIN_SECONDS)

        replies = await asyncio.gather(*(one() for _ in range(number)))
    return conversation, set(replies)


async def writers(
    thalweg: RunningThalweg, number: int, message: str
) -> tuple[str, list[bytes], Counter[tuple[int, str]]]:
    """So many clients post to one conversation at once, each one message: the conversation, what
    the accepted were told, and the refusals by status and code."""
    async with _session(thalweg) as session:
        conversation = await started(session)
        path = f"/api/conversations/{conversation}/messages"

        async def one(which: int) -> tuple[int, bytes]:
            body, key = {"content": f"{message} writer={which}", "parent": None}, uuid4().hex
            while True:
                status, content = await _post(session, path, body, f"{OWN_KEY}{key}")
                if status != UNAVAILABLE:
                    return status, content
                await asyncio.sleep(AGAIN_SECONDS)

        replies = await asyncio.gather(*(one(which) for which in range(number)))
    accepted = [content for status, content in replies if status == ACCEPTED]
    refused: Counter[tuple[int, str]] = Counter()
    for status, content in replies:
        if status != ACCEPTED:
            refused[status, _code(content)] += 1
    return conversation, accepted, refused


def _code(content: bytes) -> str:
    try:
        return str(json.loads(content)["code"])
    except (ValueError, KeyError):
        return repr(content[:200])


async def equal_at_once(world: World) -> None:
    """All are told the same, byte for byte; the turn is one, and its answer is read to its end."""
    for _ in range(int(world.seconds(1, 5))):
        conversation, replies = await equal_commands(world.thalweg, EQUAL, "tokens=5")
        assert len(replies) == 1, replies
        ((status, content),) = replies
        assert status == ACCEPTED, content
        await _is_one_turn(world, conversation, content)


async def writers_at_once(world: World) -> None:
    """One is accepted; the others are told clearly why they are not."""
    for _ in range(int(world.seconds(1, 5))):
        conversation, accepted, refused = await writers(
            world.thalweg, WRITERS, "tokens=5 delay_ms=200"
        )
        world.note(f"refused: {dict(refused)}")
        assert len(accepted) == 1, f"{len(accepted)} were accepted"
        assert set(refused) <= CLEAR, refused
        await _is_one_turn(world, conversation, accepted[0])


async def _is_one_turn(world: World, conversation: str, accepted: bytes) -> None:
    answer = json.loads(accepted)["answer"]
    async with _session(world.thalweg) as session:
        async with session.get(f"/api/answers/{answer}/stream") as response:
            stream = await response.text()
        assert "event: end" in stream
    url = world.settings.database_url("conversations")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await (await connection.execute(POSITIONS, (conversation,))).fetchall()
        answers = await (await connection.execute(ANSWERS, (conversation,))).fetchone()
    positions = [row[0] for row in rows]
    assert positions == list(range(1, len(positions) + 1)), positions
    assert answers == (1,), answers
