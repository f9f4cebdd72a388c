"""First tokens of urgent requests while a thousand of flex wait, and while nothing does."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench import measure
from tests.bench.client import Connection, Target, connect
from tests.bench.measure import Spread
from tests.fixtures.thalweg import RunningThalweg

DELAY_MS, TOKENS, URGENT_TOKENS = 200, 8, 2
"""A first token as soon as a real engine's, and so slow that two cores have time."""
PLACES = 36
"""Of the engine: full, it ends 22 answers a second."""
SETTINGS = {"THALWEG_ENGINE_REQUESTS_MAX": str(PLACES), "THALWEG_ENGINE_REQUESTS_AHEAD_MAX": "0"}
OPENING_AT_A_TIME = 16
WAITING_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class Found:
    alone: Spread
    behind: Spread
    waiting_min: int
    """So many of flex had no token yet when the last urgent one had its first."""


async def first_tokens(thalweg: RunningThalweg, *, waiting: int, probes: int) -> Found:
    target = Target(thalweg.port, thalweg.api_key)
    urgent = _request(target, "priority", URGENT_TOKENS)
    alone = await _probed(thalweg, urgent, probes)
    flood: list[Connection] = []
    asking = await _flooded(thalweg, _request(target, "flex", TOKENS), waiting + PLACES, flood)
    try:
        behind = await _probed(thalweg, urgent, probes)
        left = sum(not one.answer.arrivals for one in flood)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        for one in flood:
            one.close()
    return Found(Spread.of(alone), Spread.of(behind), left)


def _request(target: Target, tier: str, tokens: int) -> bytes:
    told = Target(target.port, target.api_key, extra={"service_tier": tier})
    return told.request(f"tokens={tokens} delay_ms={DELAY_MS}", stream=True)


async def _probed(thalweg: RunningThalweg, request: bytes, probes: int) -> Sequence[float]:
    connection = await connect(thalweg.port)
    found = []
    for _ in range(probes):
        answer = measure.check(await connection.ask(request), URGENT_TOKENS)
        found.append(answer.first_token_seconds)
    connection.close()
    return found


async def _flooded(
    thalweg: RunningThalweg, request: bytes, number: int, into: list[Connection]
) -> list["asyncio.Task[None]"]:
    """So many clients, each of which asks again when it was answered; all have asked by now."""
    asking: list[asyncio.Task[None]] = []
    left = iter(range(number))

    async def client(connection: Connection) -> None:
        while True:
            measure.check(await connection.ask(request), TOKENS)

    async def opener() -> None:
        for _ in left:
            connection = await connect(thalweg.port)
            into.append(connection)
            asking.append(asyncio.create_task(client(connection)))
            await connection.accepted.wait()

    async with asyncio.timeout(WAITING_SECONDS_MAX):
        await asyncio.gather(*(opener() for _ in range(OPENING_AT_A_TIME)))
    return asking
