"""Old cursors, read again and again while something is wrong: what is served is what was served."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp

from tests.faults.apparatus.beside import stop
from tests.faults.case import Fault
from tests.faults.world import OWN_KEY, World
from tests.fixtures.thalweg import RunningThalweg

READ_SECONDS_MAX = 30
OLD_TOKENS = 60
OLD_SECONDS_MAX = 180
"""For the answer that is to be an old one, before the fault."""
BETWEEN_SECONDS = 0.1
OPENING = b"retry: 1000\n\n"


@dataclass
class Old:
    """An answer that has ended, and the frames of its stream."""

    path: str
    frames: list[bytes]


@dataclass
class Readings:
    served: int = 0
    refused: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def _session(thalweg: RunningThalweg) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        thalweg.url,
        headers={"Authorization": f"Bearer {thalweg.api_key}"},
        timeout=aiohttp.ClientTimeout(total=READ_SECONDS_MAX),
    )


async def an_old_answer(thalweg: RunningThalweg, tokens: int) -> Old:
    async with _session(thalweg) as session:
        key = {"Idempotency-Key": f"{OWN_KEY}{uuid4().hex}"}
        async with session.post("/api/conversations", json={}, headers=key) as response:
            conversation = (await response.json())["conversation"]
        body = {"content": f"tokens={tokens} delay_ms=5", "parent": None}
        path = f"/api/conversations/{conversation}/messages"
        async with session.post(
            path, json=body, headers={"Idempotency-Key": f"{OWN_KEY}{uuid4().hex}"}
        ) as said:
            answer = (await said.json())["answer"]
        path = f"/api/answers/{answer}/stream"
        async with asyncio.timeout(OLD_SECONDS_MAX):
            while True:  # a machine with much to do may not have it at once
                async with session.get(path) as response:
                    frames = _frames(await response.read())
                    if response.status == 200 and len(frames) > 1:
                        return Old(path, frames)
                await asyncio.sleep(BETWEEN_SECONDS)


def _frames(body: bytes) -> list[bytes]:
    frames = [frame + b"\n\n" for frame in body.split(b"\n\n")[:-1]]
    return [frame for frame in frames if frame != OPENING and not frame.startswith(b":")]


@asynccontextmanager
async def read_again(
    thalweg: RunningThalweg, old: Old, chosen: random.Random
) -> AsyncIterator[Readings]:
    """Reads from random cursors until the block ends."""
    readings = Readings()

    async def read() -> None:
        async with _session(thalweg) as session:
            while True:
                await asyncio.sleep(BETWEEN_SECONDS)
                index = chosen.randrange(len(old.frames) - 1)  # at the end: 204
                cursor = {"Last-Event-ID": str(index)}
                try:
                    async with session.get(old.path, headers=cursor) as response:
                        body = await response.read()
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    readings.refused.append(repr(error))
                    continue
                found = _frames(body)
                if response.status == 503:  # a machine with much to do is late as well
                    readings.refused.append(f"{body!r}")
                elif response.status != 200:
                    readings.different.append(f"from {index}: {response.status} {body!r}")
                elif found != old.frames[index + 1 :]:
                    readings.different.append(f"from {index}: {found}")
                else:
                    readings.served += 1

    reading = asyncio.create_task(read())
    try:
        yield readings
    finally:
        await stop(reading)


def over_old_cursors(fault: Fault) -> Fault:
    """The fault, while cursors of an answer that ended before it are read. Nothing that is served
    may differ, and something must be served: after the fault, if the machine has too much to do."""

    async def both(world: World) -> None:
        old = await an_old_answer(world.thalweg, OLD_TOKENS)
        async with read_again(world.thalweg, old, world.random) as readings:
            await fault(world)
            await world.until(
                lambda: readings.served, "an old cursor to be served", OLD_SECONDS_MAX
            )
        served, refused = readings.served, readings.refused
        world.note(f"old cursors: {served} served, {len(refused)} refused {refused[:1]}")
        assert readings.different == [], readings.different

    return both
