"""What the door says while something is wrong behind it."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import aiohttp

from tests.faults.world import OWN_KEY, World
from tests.fixtures.thalweg import RunningThalweg

BETWEEN_SECONDS = 0.2
ANSWER_SECONDS_MAX = 60
"""A gateway answers everything by then, whatever is away: five seconds for the store, and air for
a machine that does other things besides."""


async def ready(thalweg: RunningThalweg) -> tuple[int, dict[str, Any]]:
    """Status and body of `/readyz`."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{thalweg.url}/readyz") as response,
    ):
        return response.status, await response.json()


async def start_conversation(thalweg: RunningThalweg) -> tuple[int, dict[str, Any]]:
    """One command, once: status and body."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    headers = {
        "Authorization": f"Bearer {thalweg.api_key}",
        "Idempotency-Key": f"{OWN_KEY}{uuid4().hex}",
    }
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
        session.post(f"{thalweg.url}/api/conversations", json={}) as response,
    ):
        return response.status, await response.json()


async def refusals(world: World, seconds: float) -> list[str]:
    """Commands, one after the other, for that long: what those that were refused were told."""
    until = time.monotonic() + seconds
    found = []
    while time.monotonic() < until:
        status, body = await start_conversation(world.thalweg)
        if status != 201:
            found.append(f"{status}: {body}")
        await asyncio.sleep(BETWEEN_SECONDS)
    return found
