"""The same questions to each subject: what it adds, what it carries, and what a kill -9 takes."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson

from tests.bench import measure
from tests.bench.client import Answer, Connection, Target, connect
from tests.bench.measure import Spread
from tests.bench.peers.subject import Subject
from tests.bench.repeats import generations_of, repeated, still

TOKENS = 20
FOUND_SECONDS_MAX = 10.0
"""A read side may be behind; what is not there by then counts as lost."""
PAGE, PAGES_MAX = 100, 100
POLL_SECONDS = 0.5
STREAMS_AT_A_KILL = 8
TOKENS_AT_A_KILL = 150
SHOWN_AT_A_KILL = 30
"""Tokens, of each stream, before the kill."""
ID = re.compile(rb'"id": ?"((?:chatcmpl|resp)[^"]*)"')


@dataclass(frozen=True)
class Kept:
    """Of the answers that were said to be finished before a kill, how many were not kept."""

    acknowledged: int
    lost: int


@dataclass(frozen=True)
class Shown:
    """Of the tokens that streams had shown at a kill: how many are in no answer afterwards."""

    shown: int
    lost: int
    generations: float
    """Of an answer, at the engine, until its client had all of it."""


@dataclass(frozen=True)
class Found:
    """What was measured of one subject."""

    name: str
    straight: Spread
    through: Spread
    streamed: float
    plain: float
    """Answers/s at 32 at a time."""
    kept: Kept | None
    """None: it keeps no answers."""
    shown: Shown
    generations: float
    """Of one send that the official client had to repeat."""

    def added(self, share: str) -> float:
        return float(getattr(self.through, share) - getattr(self.straight, share))


async def subject(one: Subject, engine: Target, *, pairs: int, seconds: float, sends: int) -> Found:
    """All measurements of a subject that is started, in their order. It is killed twice."""
    target = one.target
    _, first = await load(target, seconds / 2, stream=True)
    straight, through = await measure.first_token(engine, target, pairs=pairs)
    streamed, _ = await load(target, seconds, stream=True)
    plain, _ = await load(target, seconds, stream=False)
    generations = await repeated(target, engine.port, sends=sends)
    if one.keeps_answers and (unkept := await missing(target, first)):
        raise measure.WrongAnswer(f"not listed although nothing was killed: {sorted(unkept)[:3]}")
    kept = await acknowledged_at_a_kill(one, seconds)
    shown = await shown_at_a_kill(one, engine.port)
    return Found(one.name, straight, through, streamed, plain, kept, shown, generations)


async def load(target: Target, seconds: float, *, stream: bool) -> tuple[float, list[Answer]]:
    """As many answers as go through in that time, and what ended of them until it broke."""
    request = target.request(f"tokens={TOKENS} delay_ms=0", stream=stream)
    answers: list[Answer] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = await connect(target.port, target.said(stream=stream))
        try:
            while time.perf_counter() < until:
                answers.append(measure.check(await connection.ask(request), TOKENS))
        finally:
            connection.close()

    began = time.perf_counter()
    clients = [asyncio.create_task(client()) for _ in range(measure.AT_A_TIME)]
    ended = await asyncio.gather(*clients, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            raise error
    return len(answers) / (time.perf_counter() - began), answers


# A kill after the end -----------------------------------------------------------------------------


async def acknowledged_at_a_kill(one: Subject, seconds: float) -> Kept | None:
    """kill -9 under load; then every answer whose end a client has seen is looked up."""
    loading = asyncio.create_task(load(one.target, 2 * seconds, stream=True))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(one.kill)
    _, answers = await loading
    await asyncio.to_thread(one.restart)
    if not one.keeps_answers:
        return None
    return Kept(len(answers), len(await missing(one.target, answers)))


async def missing(target: Target, answers: Sequence[Answer]) -> set[str]:
    """The ids of those that the subject does not list, with their whole text, in the time."""
    left = {id_of(answer): b"".join(b" " + token for token in answer.tokens) for answer in answers}
    deadline = time.monotonic() + FOUND_SECONDS_MAX
    while left and time.monotonic() < deadline:
        found = await texts_of(target, list(left))
        left = {id_: text for id_, text in left.items() if text not in found.get(id_, b"")}
        await asyncio.sleep(POLL_SECONDS if left else 0)
    return set(left)


def id_of(answer: Answer) -> str:
    found = ID.search(answer.body)
    assert found is not None, bytes(answer.body[:300])
    return found[1].decode()


async def texts_of(target: Target, ids: Sequence[str]) -> dict[str, bytes]:
    """What the subject lists of these answers now, of those that it has.

    It is listed, not asked one by one: OGX writes a page of log about each that it does not have.
    """
    wanted, found = set(ids), dict[str, bytes]()
    headers = {"Authorization": f"Bearer {target.api_key}"}
    query = {"limit": str(PAGE), "order": "desc"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{target.port}", headers=headers) as client:
        for _ in range(PAGES_MAX):
            async with client.get(target.path, params=query) as response:
                listed = (await response.json())["data"]
            found |= {one["id"]: orjson.dumps(one) for one in listed if one["id"] in wanted}
            if not listed or len(found) == len(wanted):
                break
            query["after"] = listed[-1]["id"]
    return found


# A kill in mid-answer -----------------------------------------------------------------------------


async def shown_at_a_kill(one: Subject, engine_port: int) -> Shown:
    """kill -9 while answers stream; each client then sends the same again, under the same key.

    A token that a client has seen is kept when it stands in the answer to the repeat, or in what
    the subject has of the first answer; the engine marks tokens with the call that said them.
    """
    target = one.target
    before = await still(engine_port)
    content = f"tokens={TOKENS_AT_A_KILL} delay_ms=20 tag=1"
    requests = [
        target.request(content, stream=True, headers=f"Idempotency-Key: bench-{number}\r\n")
        for number in range(STREAMS_AT_A_KILL)
    ]
    connections = [await connect(target.port, target.said(stream=True)) for _ in requests]
    asked = [
        asyncio.create_task(one.ask(request))
        for one, request in zip(connections, requests, strict=True)
    ]
    await measure.until(
        lambda: min(said(connection) for connection in connections) >= SHOWN_AT_A_KILL
    )
    await asyncio.to_thread(one.kill)
    ended = await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.to_thread(one.restart)
    first = [connection.answer for connection in connections]
    stored: dict[str, bytes] = {}
    if one.keeps_answers:
        stored = await texts_of(target, [id_of(answer) for answer in first])
    again = await asyncio.gather(*(whole(target, request) for request in requests))
    lost = 0
    for answer, repeat, error in zip(first, again, ended, strict=True):
        if not isinstance(error, BaseException):
            continue  # it went on to its end
        kept = len(common(answer.tokens, repeat.tokens))
        if b"".join(b" " + token for token in answer.tokens) in stored.get(id_of(answer), b""):
            kept = len(answer.tokens)
        lost += len(answer.tokens) - kept
    shown = sum(len(answer.tokens) for answer in first)
    generations = (await generations_of(engine_port) - before) / len(requests)
    return Shown(shown, lost, generations)


def said(connection: Connection) -> int:
    return sum(tokens for _, tokens in connection.answer.arrivals)


async def whole(target: Target, request: bytes) -> Answer:
    connection = await connect(target.port, target.said(stream=True))
    try:
        return measure.check(await connection.ask(request), TOKENS_AT_A_KILL)
    finally:
        connection.close()


def common(shown: Sequence[bytes], again: Sequence[bytes]) -> Sequence[bytes]:
    """The beginning that both have."""
    for place, (one, other) in enumerate(zip(shown, again, strict=False)):
        if one != other:
            return shown[:place]
    return shown[: len(again)]
