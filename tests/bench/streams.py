"""Many open streams of answers on one gateway: what each costs, and how late frames are.

Most of them are silent (their engine thinks), some speak at 20 tokens/s, which is fast reading.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tests.bench import measure
from tests.bench.client import Answer, Connection, connect
from tests.bench.measure import Spread
from tests.bench.native import Call, Calls
from tests.bench.read_side import fresh_gateway, resident_bytes
from tests.fixtures.thalweg import RunningThalweg

ACTIVE_TOKENS_PER_SECOND = 20
SETTINGS = {
    "THALWEG_UNANSWERED_REQUESTS_MAX": "5000",
    "THALWEG_UNANSWERED_REQUESTS_PER_TENANT_MAX": "5000",
    "THALWEG_UNFINISHED_REQUESTS_MAX": "5000",
    "THALWEG_ENGINE_REQUESTS_MAX": "512",
}
"""Of an installation whose one tenant may have so many answers open, and whose one engine may hold
those that hang and those that speak; the defaults allow fewer."""
READERS_OF_AN_ANSWER = 30
"""So many of the silent streams follow the same answer, which hangs at its engine."""
OPENING_AT_A_TIME = 16
OPENED_SECONDS_MAX = 180
DELAY_SECONDS = 1 / ACTIVE_TOKENS_PER_SECOND


@dataclass(frozen=True)
class Streams:
    bytes_each: float
    late: Spread
    """Seconds that a frame came after its token's time."""
    frames: int


class Opened(asyncio.Protocol):
    """Says when the head of a response has come, and lets its body go."""

    def __init__(self) -> None:
        self.head = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.head.is_set():
            if not data.startswith(b"HTTP/1.1 200"):
                raise measure.WrongAnswer(repr(data[:300]))
            self.head.set()

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def close(self) -> None:
        self._transport.abort()


async def streams(thalweg: RunningThalweg, *, silent: int, active: int, seconds: float) -> Streams:
    """Opens the silent ones and weighs them; then lets the active ones speak beside them."""
    gateway = await fresh_gateway(thalweg)
    calls = Calls(thalweg)
    hanging = [calls.any() for _ in range(math.ceil(silent / READERS_OF_AN_ANSWER))]
    content = "tokens=20 delay_ms=0 hang_after=1"
    first = await opened(
        [calls.target.request(content, stream=True, headers=c.headers) for c in hanging],
        thalweg.port,
    )
    reads = [stream_request(thalweg, hanging[number % len(hanging)]) for number in range(silent)]
    before = resident_bytes(gateway)
    others = await opened(reads, thalweg.port)
    each = (resident_bytes(gateway) - before) / silent
    try:
        late = await lateness(calls, active, seconds)
    finally:
        for connection in (*first, *others):
            connection.close()
        await calls.cancel(hanging)
    return Streams(each, Spread.of(late), len(late))


async def opened(requests: Sequence[bytes], port: int) -> list[Opened]:
    """Streams whose heads have come; they are left open."""
    found: list[Opened] = []
    left = iter(requests)
    loop = asyncio.get_running_loop()

    async def opener() -> None:
        for request in left:
            _, connection = await loop.create_connection(Opened, "127.0.0.1", port)
            connection.send(request)
            await connection.head.wait()
            found.append(connection)

    async with asyncio.timeout(OPENED_SECONDS_MAX):
        await asyncio.gather(*(opener() for _ in range(OPENING_AT_A_TIME)))
    return found


def stream_request(thalweg: RunningThalweg, call: Call) -> bytes:
    head = (
        f"GET /api/answers/{call.answer}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {thalweg.api_key}\r\n\r\n"
    )
    return head.encode()


async def lateness(calls: Calls, active: int, seconds: float) -> list[float]:
    """Of every frame of answers that speak at the same time: how long after its token's time.

    A token's time is counted from the stream's most punctual frame, so that what every frame takes
    is not lateness, and what some take longer is; the engine's own unsteadiness is in it too.
    """
    tokens = max(2, round(seconds * ACTIVE_TOKENS_PER_SECOND))
    content = f"tokens={tokens} delay_ms={DELAY_SECONDS * 1_000:.0f}"
    request = calls.target.request(content, stream=True)
    connections = [await connect(calls.thalweg.port) for _ in range(active)]

    async def one(number: int, connection: Connection) -> Answer:
        await asyncio.sleep(number / active)  # they don't begin as one
        return measure.check(await connection.ask(request), tokens)

    answers = await asyncio.gather(*(one(*each) for each in enumerate(connections)))
    late: list[float] = []
    for answer, connection in zip(answers, connections, strict=True):
        connection.close()
        at, said = [], 0
        for arrived, number in answer.arrivals:
            at.append(arrived - said * DELAY_SECONDS)  # by the frame's first token
            said += number
        punctual = min(at)
        late += [one - punctual for one in at]
    return late
