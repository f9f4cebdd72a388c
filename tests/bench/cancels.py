"""How soon an engine stops after a client has cancelled: from the command to the closed connection.

Both ends read the same clock (CLOCK_MONOTONIC is one for all processes of a machine): the client
before it sends, the engine when it sees that the connection was closed.
"""

import asyncio
import time

import aiohttp

from tests.bench.client import ANSWER_SECONDS_MAX, connect
from tests.bench.measure import Spread
from tests.bench.native import Call, Calls
from tests.fixtures.thalweg import RunningThalweg

CONTENT = "tokens=900 delay_ms=20"


async def cancelled(thalweg: RunningThalweg, engine_port: int, *, cancels: int) -> Spread:
    """Seconds of each of so many cancels, one after the other, of answers that are being given."""
    calls = Calls(thalweg)
    headers = {"Authorization": f"Bearer {thalweg.api_key}"}
    async with (
        aiohttp.ClientSession(thalweg.url, headers=headers) as client,
        aiohttp.ClientSession(f"http://127.0.0.1:{engine_port}") as engine,
    ):
        return Spread.of([await _one(calls, client, engine) for _ in range(cancels)])


async def _one(calls: Calls, client: aiohttp.ClientSession, engine: aiohttp.ClientSession) -> float:
    call = calls.any()
    connection = await connect(calls.thalweg.port)
    request = calls.target.request(CONTENT, stream=True, headers=call.headers)
    asked = asyncio.create_task(connection.ask(request))
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await connection.begun.wait()
        before, _ = await _seen(engine)
        sent_at = await _cancel(client, call)
        await asked
        while (seen := await _seen(engine))[0] == before:
            pass  # it has not seen it yet
    connection.close()
    return seen[1] - sent_at


async def _cancel(client: aiohttp.ClientSession, call: Call) -> float:
    sent_at = time.monotonic()
    async with client.post(f"/api/answers/{call.answer}/cancel") as response:
        assert response.status == 202, await response.text()
    return sent_at


async def _seen(engine: aiohttp.ClientSession) -> tuple[int, float]:
    """How many streams were closed on the engine, and when the last was."""
    async with engine.get("/calls") as response:
        counted = await response.json()
    return counted.get("cancelled", 0), counted["cancelled_at"] or 0.0
