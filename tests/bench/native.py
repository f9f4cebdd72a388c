"""Answers whose ids, and so whose partition, the bench chooses; and their native streams."""

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

import aiohttp
import psycopg

from events.ids import derived_id
from infra.partitions import partition_of
from infra.servers import resolve
from infra.settings import Settings
from tests.bench.client import Target
from tests.fixtures.thalweg import RunningThalweg

TENANT = "SELECT tenant FROM keys_v1 WHERE revoked_at IS NULL ORDER BY created_at LIMIT 1"
SAID = re.compile(rb" (\d+)")
RECONNECT_SECONDS = 0.02
_numbers = count(time.time_ns())


@dataclass(frozen=True)
class Call:
    """A chat call that is to be sent with `key`, and what it will be called."""

    key: str
    conversation: UUID
    answer: UUID

    @property
    def headers(self) -> str:
        return f"Idempotency-Key: {self.key}\r\n"


@dataclass
class Calls:
    """Makes calls of the key's own tenant."""

    thalweg: RunningThalweg
    tenant: UUID = field(init=False)
    partitions: int = field(init=False)

    def __post_init__(self) -> None:
        settings = resolve(Settings(home=self.thalweg.home))
        self.partitions = settings.partitions
        with psycopg.connect(settings.database_url("projections")) as connection:
            row = connection.execute(TENANT).fetchone()
        assert row is not None
        self.tenant = UUID(str(row[0]))

    @property
    def target(self) -> Target:
        return Target(self.thalweg.port, self.thalweg.api_key)

    def any(self) -> Call:
        key = f"bench-{next(_numbers)}"
        ids = [derived_id(self.tenant, f"key:{key}", of) for of in ("conversation", "answer")]
        return Call(key, *ids)

    def in_partition(self, partition: int) -> Call:
        while True:
            call = self.any()
            if partition_of(call.conversation, self.partitions) == partition:
                return call

    async def cancel(self, calls: list[Call]) -> None:
        headers = {"Authorization": f"Bearer {self.thalweg.api_key}"}
        async with aiohttp.ClientSession(self.thalweg.url, headers=headers) as client:
            for call in calls:
                async with client.post(f"/api/answers/{call.answer}/cancel") as response:
                    await response.read()


class Follower:
    """Reads an answer's native stream, and comes again with its cursor when it breaks."""

    def __init__(self, thalweg: RunningThalweg, call: Call) -> None:
        self._url = f"{thalweg.url}/api/answers/{call.answer}/stream"
        self._headers = {"Authorization": f"Bearer {thalweg.api_key}"}
        self.arrivals: list[tuple[float, int]] = []
        """(time, number) of each token."""
        self._cursor = ""

    async def follow(self) -> None:
        """Until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as client:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    await self._read(client)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _read(self, client: aiohttp.ClientSession) -> None:
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        async with client.get(self._url, headers=headers) as response:
            if response.status != 200:
                return
            async for line in response.content:
                name, _, value = line.rstrip().partition(b": ")
                if name == b"id":
                    self._cursor = value.decode()
                elif name == b"data":
                    now = time.perf_counter()
                    text = value.partition(b'"text":')[2].partition(b",")[0]
                    self.arrivals += [(now, int(number)) for number in SAID.findall(text)]
