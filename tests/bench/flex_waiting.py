"""First tokens of urgent requests while a thousand of flex wait, and while nothing does.

Nobody listens to those of flex: what a gateway does for open streams is measured elsewhere.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import aiohttp

from tests.bench import measure
from tests.bench.client import Target, connect
from tests.bench.measure import Spread
from tests.fixtures.thalweg import RunningThalweg

DELAY_MS, URGENT_TOKENS = 200, 2
"""A first token as soon as a real engine's, and so slow that two cores have time."""
TOKENS = (3, 13, 5, 11, 7, 9, 4, 12)
"""Of flex, in turns: equal ones would go in step, and end and begin all at once."""
ASKING_AT_A_TIME = 8
AGAIN_SECONDS = 0.2
REFUSED = (429, 503)
"""Asked again soon: so many at once may be too much for a while."""
FILLED_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class Found:
    alone: Spread
    behind: Spread
    waiting_min: int
    """So many of flex were waiting or being answered all the time."""


def settings(places: int) -> dict[str, str]:
    """Of a Thalweg whose engine has so many: full, it ends 0.6 answers a second for each."""
    return {
        "THALWEG_ENGINE_REQUESTS_MAX": str(places),
        "THALWEG_ENGINE_REQUESTS_AHEAD_MAX": "0",
    }


async def first_tokens(
    thalweg: RunningThalweg, engine: Target, *, waiting: int, places: int, probes: int
) -> Found:
    """With `settings(places)`. Raises AssertionError: a request of flex was turned away for good,
    TimeoutError: they never were so many."""
    target = Target(thalweg.port, thalweg.api_key)
    urgent = _request(target, "priority", URGENT_TOKENS)
    alone = await _probed(thalweg, urgent, probes)
    requests = cycle([_request(target, "flex", tokens) for tokens in TOKENS])
    enough = waiting + places
    flood = _Flood(thalweg, engine, requests, enough, number=enough + places)
    async with asyncio.TaskGroup() as tasks:  # a flood that breaks off ends the wait for it
        filling = tasks.create_task(flood.keep())
        try:
            async with asyncio.timeout(FILLED_SECONDS_MAX):
                await flood.is_there.wait()
        except TimeoutError:
            raise TimeoutError(f"{waiting} never waited: {flood}") from None
        behind = await _probed(thalweg, urgent, probes)
        filling.cancel()
    return Found(Spread.of(alone), Spread.of(behind), flood.least)


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


@dataclass
class _Flood:
    """Asks for as many more as were answered; what is urgent is counted with them, a few."""

    thalweg: RunningThalweg
    engine: Target
    requests: Iterator[bytes]
    enough: int
    number: int
    """It asks for so many: more than is enough, since some are answered while it asks."""
    asked: int = 0
    refused: int = 0
    refusal: bytes = b""
    """The last one."""
    least: int = 0
    is_there: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Until it is cancelled."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.engine.port}") as http:
            before = await self._finished(http)
            while True:
                open_ = self.asked - (await self._finished(http) - before)
                if self.is_there.is_set():
                    self.least = min(self.least, open_)
                elif open_ >= self.enough:
                    self.least = open_
                    self.is_there.set()
                await self._ask(self.number - open_)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _finished(self, http: aiohttp.ClientSession) -> int:
        async with http.get("/calls") as response:
            return int((await response.json()).get("finished", 0))

    async def _ask(self, number: int) -> None:
        left = iter(range(number))

        async def client() -> None:
            for _ in left:
                connection = await connect(self.thalweg.port)
                asking = asyncio.create_task(connection.ask(next(self.requests)))
                await connection.accepted.wait()
                answer = connection.answer
                connection.close()
                await asyncio.gather(asking, return_exceptions=True)
                if answer.status in REFUSED:
                    self.refused += 1
                    self.refusal = answer.body
                    return
                assert answer.status == 200, f"{answer.status} {bytes(answer.body)!r}"
                self.asked += 1

        await asyncio.gather(*(client() for _ in range(ASKING_AT_A_TIME)))
