"""How soon the next token is there after a kill -9."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from tests.bench import measure
from tests.bench.client import ANSWER_SECONDS_MAX, Connection, connect
from tests.bench.native import Call, Calls, Follower
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

LONG_TOKENS = 900
LONG_DELAY_MS = 60
UNFINISHED = 8
"""In the one partition; all of them are given by the worker that is killed."""
PARTITION = 0
NEXT_SECONDS_MAX = 30.0
FOLLOWERS = 8
FOLLOWED_TOKENS = 500
SHOWN_MIN = 20
BACK_SECONDS_MAX = 60


async def of_worker_with_many_behind(
    thalweg: RunningThalweg, *, behind: int, kills: int
) -> list[float]:
    """Seconds to the next token of unfinished answers that have finished ones behind them.

    So many answers of 20 tokens are finished behind, in the same partition, so that they can't be
    committed and have to be recognised by whoever takes over.
    """
    gaps: list[float] = []
    for _ in range(kills):
        gaps += await _one(thalweg, behind)
    return gaps


async def _one(thalweg: RunningThalweg, behind: int) -> list[float]:
    calls = Calls(thalweg)
    content = f"tokens={LONG_TOKENS} delay_ms={LONG_DELAY_MS}"
    unfinished = [calls.in_partition(PARTITION) for _ in range(UNFINISHED)]
    connections = [await connect(thalweg.port) for _ in unfinished]
    asked = [
        asyncio.create_task(
            connection.ask(calls.target.request(content, stream=True, headers=call.headers))
        )
        for connection, call in zip(connections, unfinished, strict=True)
    ]
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        await asyncio.gather(*(one.begun.wait() for one in connections))
    await _finish(calls, [calls.in_partition(PARTITION) for _ in range(behind)])
    gaps = await _killed(thalweg, connections)
    for connection in connections:
        numbers = connection.answer.numbers
        if numbers != list(range(len(numbers))):
            raise measure.WrongAnswer(str(numbers))
        connection.close()
    await asyncio.gather(*asked, return_exceptions=True)
    await calls.cancel(unfinished)
    await asyncio.to_thread(wait_for, lambda: len(thalweg.pids("answers")) > 1, "both workers")
    return gaps


async def _finish(calls: Calls, wanted: Sequence[Call]) -> None:
    left = iter(wanted)

    async def client() -> None:
        connection = await connect(calls.thalweg.port)
        for call in left:
            request = calls.target.request(
                "tokens=20 delay_ms=0", stream=True, headers=call.headers
            )
            measure.check(await connection.ask(request), 20)
        connection.close()

    await asyncio.gather(*(client() for _ in range(measure.AT_A_TIME)))


async def _killed(thalweg: RunningThalweg, connections: Sequence[Connection]) -> list[float]:
    """Kills workers until it was the one that speaks in these streams."""
    for pid in thalweg.pids("answers"):
        os.kill(pid, signal.SIGKILL)
        killed_at = time.perf_counter()
        await asyncio.sleep(measure.GAP_SECONDS_MIN)
        silent = [one for one in connections if _last(one) < killed_at]
        if not silent:
            continue
        counts = {one: len(one.answer.arrivals) for one in silent}
        await measure.until(
            partial(_all_went_on, counts),
            seconds_max=NEXT_SECONDS_MAX,
        )
        return [one.answer.arrivals[counts[one]][0] - killed_at for one in silent]
    raise measure.WrongAnswer("no worker fell silent")


def _all_went_on(counts: Mapping[Connection, int]) -> bool:
    return all(len(one.answer.arrivals) > count for one, count in counts.items())


def _last(connection: Connection) -> float:
    """When its last token before the silence came; tokens on their way at a kill still come."""
    arrivals = connection.answer.arrivals
    return arrivals[-1][0] - 2 * LONG_DELAY_MS / 1_000 if arrivals else 0.0


async def of_gateway(thalweg: RunningThalweg, *, kills: int) -> list[float]:
    """Seconds to the next token for clients that reconnect with their cursor.

    Later ones have waited for the delay before the restart of what keeps dying, too.
    """
    gaps: list[float] = []
    for _ in range(kills):
        calls = Calls(thalweg)
        asked = [calls.any() for _ in range(FOLLOWERS)]
        content = f"tokens={FOLLOWED_TOKENS} delay_ms=20"
        connections = [await connect(thalweg.port) for _ in asked]
        answers = [
            asyncio.create_task(
                one.ask(calls.target.request(content, stream=True, headers=call.headers))
            )
            for one, call in zip(connections, asked, strict=True)
        ]
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await asyncio.gather(*(one.begun.wait() for one in connections))
        followers = [Follower(thalweg, call) for call in asked]
        following = [asyncio.create_task(one.follow()) for one in followers]
        try:
            gaps += await _gateway_killed(thalweg, followers)
        finally:
            for task in (*following, *answers):
                task.cancel()
            with suppress(ConnectionError):
                await asyncio.gather(*following, *answers, return_exceptions=True)
            for connection in connections:
                connection.close()
        await asyncio.to_thread(
            wait_for, thalweg.is_ready, "the gateway", seconds_max=BACK_SECONDS_MAX
        )
        await calls.cancel(asked)
    return gaps


async def _gateway_killed(thalweg: RunningThalweg, followers: Sequence[Follower]) -> list[float]:
    await measure.until(lambda: min(len(one.arrivals) for one in followers) >= SHOWN_MIN)
    os.kill(thalweg.pids("gateway")[0], signal.SIGKILL)
    killed_at = time.perf_counter()
    await asyncio.sleep(2 * measure.TOKEN_SECONDS)  # what was on its way
    counts = {one: len(one.arrivals) for one in followers}
    await measure.until(
        lambda: all(len(one.arrivals) > count for one, count in counts.items()),
        seconds_max=NEXT_SECONDS_MAX,
    )
    for one in followers:
        numbers = [number for _, number in one.arrivals]
        if numbers != list(range(len(numbers))):
            raise measure.WrongAnswer(str(numbers))
    return [one.arrivals[counts[one]][0] - killed_at for one in followers]
