"""How soon an answer goes on after its engine has gone wrong: two engines, one of them faulty."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tests.bench import measure
from tests.bench.client import Answer, chat_request, connect
from tests.faults.engines import TGI, Engines
from tests.fixtures.numbered_faults import Fault, Faults
from tests.fixtures.thalweg import RunningThalweg

FIRST_TOKEN_SECONDS_MAX, BETWEEN_TOKENS_SECONDS_MAX = 2.0, 1.0
"""The timers of this installation; what takes longer is what is measured."""
SETTINGS = {
    "THALWEG_ENGINE_FIRST_TOKEN_SECONDS_MAX": str(FIRST_TOKEN_SECONDS_MAX),
    "THALWEG_ENGINE_BETWEEN_TOKENS_SECONDS_MAX": str(BETWEEN_TOKENS_SECONDS_MAX),
}
KINDS = (("tgi", TGI), ("tgi", TGI))
FAULTY = 0
TOKENS, DELAY_MS = 100, 20
SPOKEN_MIN = 10
"""Tokens that every stream has when the engine is killed."""
USED_AGAIN_SECONDS_MAX = 60.0
AGAIN_SECONDS = 0.2

Gaps = Mapping[str, list[float]]


async def recovered(thalweg: RunningThalweg, engines: Engines, answers: int) -> Gaps:
    """By fault: seconds without a token, of each answer that was struck."""
    told = {
        f"hangs ({FIRST_TOKEN_SECONDS_MAX:g} s are allowed)": Fault.HANG,
        f"stalls ({BETWEEN_TOKENS_SECONDS_MAX:g} s are allowed)": Fault.STALL,
        "cuts the connection": Fault.CUT,
    }
    found: dict[str, list[float]] = {}
    for name, fault in told.items():
        await asyncio.to_thread(engines.tell, FAULTY, Faults((fault,)))
        given = await _given(thalweg, answers)
        await asyncio.to_thread(engines.tell, FAULTY, Faults())
        hung = fault is Fault.HANG
        found[name] = [gap for one in given for gap in ([_first(one)] if hung else _gaps(one))]
        if hung:
            found[name] = [gap for gap in found[name] if gap >= FIRST_TOKEN_SECONDS_MAX]
        await _used_again(thalweg, engines)

    async def kill() -> None:
        await asyncio.to_thread(engines.kill, TGI)

    found["is killed by kill -9"] = [
        gap for one in await _given(thalweg, answers, kill) for gap in _gaps(one)
    ]
    return found


async def _given(
    thalweg: RunningThalweg, answers: int, strike: Callable[[], Awaitable[None]] | None = None
) -> list[Answer]:
    """Whole answers; `strike` is awaited when all are being given."""
    request = chat_request(
        f"tokens={TOKENS} delay_ms={DELAY_MS}", stream=True, api_key=thalweg.api_key
    )
    connections = [await connect(thalweg.port) for _ in range(answers)]
    asked = [asyncio.create_task(one.ask(request)) for one in connections]
    if strike is not None:
        await measure.until(
            lambda: all(len(one.answer.arrivals) >= SPOKEN_MIN for one in connections)
        )
        await strike()
    given = [measure.check(answer, TOKENS) for answer in await asyncio.gather(*asked)]
    for one in connections:
        one.close()
    return given


def _first(answer: Answer) -> float:
    return answer.first_token_seconds


def _gaps(answer: Answer) -> list[float]:
    """Before the first token of each further call of an engine: tags name the calls."""
    times = [at for at, number in answer.arrivals for _ in range(number)]
    calls = [token.partition(b"@")[2] for token in answer.tokens]
    return [
        times[place] - times[place - 1]
        for place in range(1, len(calls))
        if calls[place] != calls[place - 1]
    ]


async def _used_again(thalweg: RunningThalweg, engines: Engines) -> None:
    """The engine is trusted again: it is given calls beside the other one."""
    before = engines.counts(FAULTY)["finished"]
    async with asyncio.timeout(USED_AGAIN_SECONDS_MAX):
        while engines.counts(FAULTY)["finished"] < before + 2:
            await _given(thalweg, 2)
            await asyncio.sleep(AGAIN_SECONDS)


def engines_in(folder: Path) -> Engines:
    return Engines(folder / "engines", KINDS)
