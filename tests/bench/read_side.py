"""The read side measured: rebuild, lag under load, feed fan-out, search."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

import aiohttp
import psycopg

from events.topics import Topics
from infra.servers import resolve
from infra.settings import Settings
from tests.bench import measure
from tests.bench.measure import Spread
from tests.bench.messages import produce, vocabulary
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg

PROBE_SECONDS = 0.1
LOAD_REQUESTS = 2_000
CAUGHT_UP_SECONDS_MAX = 300
FEED_SECONDS_MAX = 120
REBUILD_SECONDS_MAX = 300

APPLIED = "SELECT coalesce(sum(position), 0) FROM histories_v1_positions"
TENANT = "SELECT tenant, owner FROM keys_v1 WHERE revoked_at IS NULL ORDER BY created_at LIMIT 1"


@dataclass(frozen=True)
class Rebuild:
    events: int
    per_second: float


@dataclass(frozen=True)
class Feed:
    bytes_each: float
    seconds: Spread
    """From the answer to a rename to its frame."""


class Falsified(Exception):
    """What was measured did not do what it should."""


def client_of(thalweg: RunningThalweg) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        thalweg.url,
        headers={"Authorization": f"Bearer {thalweg.api_key}"},
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0),
    )


async def fill(thalweg: RunningThalweg, *, messages: int) -> int:
    """Puts them into the past of the key's owner; returns when the read model has them."""
    settings = resolve(Settings(home=thalweg.home))
    url = settings.database_url("projections")
    tenant, owner = await asyncio.to_thread(_row, url, TENANT)
    before = await asyncio.to_thread(_applied, url)
    topic = Topics().domain("conversations")
    sent = await asyncio.to_thread(
        produce, settings.kafka_servers, topic, UUID(str(tenant)), str(owner), messages=messages
    )
    await asyncio.to_thread(
        wait_for,
        lambda: _applied(url) >= before + sent,
        "the past to be applied",
        seconds_max=CAUGHT_UP_SECONDS_MAX,
    )
    return sent


def _applied(url: str) -> int:
    return int(str(_row(url, APPLIED)[0]))


def _row(url: str, query: LiteralString) -> tuple[object, ...]:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)


async def rebuild(thalweg: RunningThalweg, name: str) -> Rebuild:
    """`thalweg rebuild`, which compares what it built with the live read model."""
    done = await asyncio.to_thread(thalweg.cli, "rebuild", name, seconds_max=REBUILD_SECONDS_MAX)
    if done.returncode != 0:
        raise Falsified(f"{done.stdout}\n{done.stderr}")
    said = re.search(r"([\d,]+) events .*?([\d,]+) events/s", done.stdout + done.stderr)
    if said is None:
        raise Falsified(f"no figures in {done.stdout!r} {done.stderr!r}")
    events, per_second = (int(figure.replace(",", "")) for figure in said.groups())
    return Rebuild(events, per_second)


async def search(thalweg: RunningThalweg, *, searches: int) -> Spread:
    """Searches for words from the commonest to the rarest."""
    words = vocabulary()
    step = len(words) // searches
    seconds = []
    async with client_of(thalweg) as client:
        for word in words[::step][:searches]:
            began = time.perf_counter()
            await _search(client, word)
            seconds.append(time.perf_counter() - began)
    return Spread.of(seconds)


async def _search(client: aiohttp.ClientSession, word: str) -> int:
    async with client.get("/api/conversations/search", params={"q": word}) as response:
        body = await response.json()
        if response.status != 200:
            raise Falsified(str(body))
        return len(body["data"])


async def lag(thalweg: RunningThalweg, *, probes: int) -> list[float]:
    """Seconds from an accepted command to a read that sees it, while the machine is loaded."""
    load = asyncio.create_task(_load(thalweg))
    seconds: list[float] = []
    try:
        async with client_of(thalweg) as client:
            conversation = (await _post(client, "/api/conversations", {}))["conversation"]
            path = f"/api/conversations/{conversation}"
            for number in range(probes):
                accepted = await _patch(client, path, {"title": f"probe {number}"})
                began = time.perf_counter()
                async with client.get(path, params={"after": accepted["receipt"]}) as response:
                    body = await response.json()
                seconds.append(time.perf_counter() - began)
                if response.status != 200 or body["title"] != f"probe {number}":
                    raise Falsified(str(body))
                await asyncio.sleep(PROBE_SECONDS)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    return seconds


async def _load(thalweg: RunningThalweg) -> None:
    while True:
        await measure.rate(thalweg.port, thalweg.api_key, stream=True, requests=LOAD_REQUESTS)


async def feed(thalweg: RunningThalweg, *, feeds: int, changes: int) -> Feed:
    """Opens so many feeds, of a user each, and renames a conversation of some of them."""
    gateway = await fresh_gateway(thalweg)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(thalweg))
        users = [f"reader-{number}" for number in range(feeds)]
        conversations = {
            user: (await _post(client, "/api/conversations", {"user": user}))["conversation"]
            for user in users[:changes]
        }
        before = resident_bytes(gateway)
        readers: dict[str, AsyncIterator[bytes]] = {}
        for user in users:
            response = await stack.enter_async_context(
                client.get("/api/feed", params={"user": user})
            )
            readers[user] = frames(response)
            await anext(readers[user])
        each = (resident_bytes(gateway) - before) / feeds
        seconds = []
        for user, conversation in conversations.items():
            began = time.perf_counter()
            title = f"changed for {user}"
            await _patch(client, f"/api/conversations/{conversation}", {"title": title})
            async with asyncio.timeout(FEED_SECONDS_MAX):
                async for frame in readers[user]:
                    if title.encode() in frame:
                        break
            seconds.append(time.perf_counter() - began)
    return Feed(each, Spread.of(seconds))


async def fresh_gateway(thalweg: RunningThalweg) -> int:
    """The pid of a gateway's next life: memory that a former part has let go of would hide what
    is taken now."""
    before = thalweg.signal("gateway", signal.SIGTERM)
    await asyncio.to_thread(
        wait_for, lambda: thalweg.pids("gateway") not in ([], [before]), "another gateway"
    )
    await asyncio.to_thread(wait_for, thalweg.is_ready, "the gateway")
    return next(pid for pid in thalweg.pids("gateway") if pid != before)


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    gathered = b""
    async for line in response.content:
        gathered += line
        if line == b"\n":
            yield gathered
            gathered = b""


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Rss:"))


async def _post(
    client: aiohttp.ClientSession, path: str, body: dict[str, object]
) -> dict[str, str]:
    async with client.post(path, json=body) as response:
        return await _accepted(response)


async def _patch(
    client: aiohttp.ClientSession, path: str, body: dict[str, object]
) -> dict[str, str]:
    async with client.patch(path, json=body) as response:
        return await _accepted(response)


async def _accepted(response: aiohttp.ClientResponse) -> dict[str, str]:
    body: dict[str, str] = await response.json()
    if response.status >= 300:
        raise Falsified(str(body))
    return body
