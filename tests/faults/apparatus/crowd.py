"""Many at once: equal commands, and many writers on one conversation."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import aiohttp

from tests.fixtures.thalweg import RunningThalweg

EACH_SECONDS_MAX = 60
AGAIN_SECONDS = 0.05
RETRIED = (429, 503)


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
    async with session.post(path, json=body, headers={"Idempotency-Key": key}) as response:
        return response.status, await response.read()


async def started(session: aiohttp.ClientSession) -> str:
    async with session.post(
        "/api/conversations", json={}, headers={"Idempotency-Key": uuid4().hex}
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
        body, key = {"content": message, "parent": None}, uuid4().hex

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
    """So many clients post to one conversation at once, each once: the conversation, what the
    accepted were told, and the refusals by status and code."""
    async with _session(thalweg) as session:
        conversation = await started(session)
        path = f"/api/conversations/{conversation}/messages"

        async def one(which: int) -> tuple[int, bytes]:
            body = {"content": f"{message} writer={which}", "parent": None}
            return await _post(session, path, body, uuid4().hex)

        replies = await asyncio.gather(*(one(which) for which in range(number)))
    accepted = [content for status, content in replies if status == 202]
    refused: Counter[tuple[int, str]] = Counter()
    for status, content in replies:
        if status != 202:
            refused[status, _code(content)] += 1
    return conversation, accepted, refused


def _code(content: bytes) -> str:
    import json

    try:
        return str(json.loads(content)["code"])
    except (ValueError, KeyError):
        return repr(content[:200])
