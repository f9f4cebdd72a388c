"""The measurements: what is done, how often, and what counts as an answer: all tokens, in order."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.bench.client import (
    ANSWER_SECONDS_MAX,
    Answer,
    Connection,
    Target,
    chat_request,
    connect,
)
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

WARM_UP_REQUESTS = 64
TOKENS_AT_20_MS = 4
TOKEN_SECONDS = 0.020
AT_A_TIME = 32
STREAMS_AT_A_KILL = 8
TOKENS_AT_A_KILL = 500
GAP_SECONDS_MIN = 0.5
"""A stream that was silent this long after the kill was answered by the worker that was killed."""


POLL_SECONDS = 0.005


class WrongAnswer(Exception):
    """A measurement of answers that are not whole would be worth nothing."""


@dataclass(frozen=True)
class Spread:
    """Percentiles of a sample, in seconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> "Spread":
        ordered = sorted(sample)

        def percentile(share: float) -> float:
            return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]

        return cls(percentile(0.5), percentile(0.95), percentile(0.99))


@dataclass(frozen=True)
class Rate:
    """Requests of one run at `AT_A_TIME`."""

    per_second: float
    seconds: Spread
    """From request to the end of the answer."""


async def until(condition: Callable[[], bool], *, seconds_max: float = ANSWER_SECONDS_MAX) -> None:
    """Polls, since what is waited for is a count that protocols keep. Raises TimeoutError."""
    async with asyncio.timeout(seconds_max):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


def check(answer: Answer, tokens: int) -> Answer:
    """Raises WrongAnswer unless it says 0 to tokens - 1."""
    if answer.status != 200 or answer.numbers != list(range(tokens)):
        said = bytes(answer.body[-300:])
        raise WrongAnswer(f"status {answer.status}, numbers {answer.numbers}, ends with {said!r}")
    return answer


async def warm_up(port: int, api_key: str) -> None:
    """Fills caches and pools of every process on the way."""
    await rate(port, api_key, stream=True, requests=WARM_UP_REQUESTS)


async def first_token(engine: Target, target: Target, *, pairs: int) -> tuple[Spread, Spread]:
    """(straight, through the target): time to the first token of an engine at 20 ms a token.

    In turns, so that both see the same machine.
    """
    content = f"tokens={TOKENS_AT_20_MS} delay_ms=20"
    straight, through = [await connect(one.port, one.said(stream=True)) for one in (engine, target)]
    asked = {straight: engine.request(content, stream=True)}
    asked[through] = target.request(content, stream=True)
    samples: dict[Connection, list[float]] = {straight: [], through: []}
    for pair in range(pairs):
        for connection in (straight, through) if pair % 2 else (through, straight):
            answer = check(await connection.ask(asked[connection]), TOKENS_AT_20_MS)
            samples[connection].append(answer.first_token_seconds)
    straight.close()
    through.close()
    return Spread.of(samples[straight]), Spread.of(samples[through])


async def rate(port: int, api_key: str, *, stream: bool, requests: int) -> Rate:
    """As many answers of 20 tokens, said at once, as go through at `AT_A_TIME`."""
    request = chat_request("tokens=20 delay_ms=0", stream=stream, api_key=api_key)
    left = iter(range(requests))
    seconds: list[float] = []

    async def client() -> None:
        connection = await connect(port)
        try:
            for _ in left:
                answer = check(await connection.ask(request), 20)
                seconds.append(answer.ended_at - answer.asked_at)
        finally:
            connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))
    return Rate(requests / (time.perf_counter() - began), Spread.of(seconds))


async def after_a_kill(thalweg: RunningThalweg, *, kills: int) -> list[float]:
    """Seconds from kill -9 of a worker to the next token, of every answer that it was giving."""
    gaps: list[float] = []
    for _ in range(kills):
        gaps += await _one_kill(thalweg)
    return gaps


async def _one_kill(thalweg: RunningThalweg) -> list[float]:
    content = f"tokens={TOKENS_AT_A_KILL} delay_ms=20"
    request = chat_request(content, stream=True, api_key=thalweg.api_key)
    connections = [await connect(thalweg.port) for _ in range(STREAMS_AT_A_KILL)]
    asked = [asyncio.create_task(one.ask(request)) for one in connections]
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await asyncio.gather(*(one.begun.wait() for one in connections))
    workers = thalweg.pids("answers")
    os.kill(workers[0], signal.SIGKILL)
    killed_at = time.perf_counter()
    gaps = []
    for answer in await asyncio.gather(*asked):
        check(answer, TOKENS_AT_A_KILL)
        times = [at for at, _ in answer.arrivals]
        silences = [
            (after - before, after - killed_at)
            for before, after in pairwise(times)
            if after > killed_at
        ]
        longest, until = max(silences)
        if longest >= GAP_SECONDS_MIN:
            gaps.append(until)
    for connection in connections:
        connection.close()
    await asyncio.to_thread(_wait_for_workers, thalweg, len(workers))
    return gaps


def _wait_for_workers(thalweg: RunningThalweg, number: int) -> None:
    wait_for(lambda: len(thalweg.pids("answers")) >= number, "the worker to be started again")
