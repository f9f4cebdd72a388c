"""Requests that come whether or not there is room: tenants on the OpenAI face, each at its rate."""

import asyncio
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID, uuid4

import aiohttp

from tests.faults.engines import TGI
from tests.faults.world import OWN_KEY, World

CHAT = "/v1/chat/completions"
CONTENT = re.compile(r'"content":"((?: \d+@c\d+)+)"')
NUMBER = re.compile(r" (\d+)@c")
KEY_KNOWN_SECONDS_MAX = 120.0
ANSWERED_SECONDS_MAX = 180.0
ANSWER_IN_LOCATION = 3
"""Which part of `/api/answers/ANSWER/stream`."""


@dataclass(frozen=True)
class Tenant:
    name: str
    rate: float
    """Requests a second, in capacities of the fleet."""
    tiers: tuple[str, ...] = ("default",)
    """OpenAI's `service_tier`, in turns."""


@dataclass
class Asked:
    """One request, and what has become of it."""

    tenant: str
    tier: str
    sent_at: float
    status: int = 0
    """Of HTTP; 0: nothing came."""
    code: str = ""
    """Of the error, instead of an answer or in its middle."""
    retry_after: str = ""
    answer: UUID | None = None
    """None: it was refused before it was one."""
    tokens: int = 0
    begun_at: float = 0.0
    """When its first token was there; 0: none came."""
    ended_at: float = 0.0
    wrong: str = ""

    @property
    def is_whole(self) -> bool:
        return self.ended_at > 0 and not self.code and not self.wrong


@dataclass
class Traffic:
    """What comes to a fleet that gives `capacity` answers a second of `tokens` tokens each."""

    world: World
    capacity: float
    tokens: int
    delay_ms: int
    asked: list[Asked] = field(default_factory=list)
    _keys: dict[str, str] = field(default_factory=dict)
    _running: set["asyncio.Task[None]"] = field(default_factory=set)

    async def make_keys(self, tenants: Sequence[Tenant]) -> None:
        """An API key of each tenant, known to the gateway."""
        made = await asyncio.gather(*(asyncio.to_thread(self._key, one.name) for one in tenants))
        self._keys.update(zip((one.name for one in tenants), made, strict=True))
        for name in self._keys:
            known = partial(self._is_known, name)
            await self.world.until(known, "the gateway to know a key", KEY_KNOWN_SECONDS_MAX)

    def _key(self, tenant: str) -> str:
        made = self.world.thalweg.cli("keys", "create", "--tenant", tenant)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def _is_known(self, name: str) -> bool:
        url = f"{self.world.thalweg.url}/v1/models"
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=self._headers(name))).close()
        except OSError:
            return False
        return True

    def _headers(self, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[tenant]}"}

    async def flow(self, tenants: Sequence[Tenant], seconds: float) -> None:
        """For so long; then whatever was asked is seen to its end."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=ANSWERED_SECONDS_MAX)
        async with aiohttp.ClientSession(
            self.world.thalweg.url, connector=connector, timeout=timeout
        ) as http:
            until = time.monotonic() + seconds
            await asyncio.gather(*(self._come(http, tenant, until) for tenant in tenants))
            await asyncio.gather(*self._running)

    async def _come(self, http: aiohttp.ClientSession, tenant: Tenant, until: float) -> None:
        due, number = time.monotonic(), 0
        while due < until:
            await asyncio.sleep(due - time.monotonic())
            asked = Asked(tenant.name, tenant.tiers[number % len(tenant.tiers)], time.monotonic())
            self.asked.append(asked)
            task = asyncio.create_task(self._ask(http, asked))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            number += 1
            due += 1 / (tenant.rate * self.capacity)

    async def ask(self, tenant: str, tier: str) -> Asked:
        """One request by itself."""
        asked = Asked(tenant, tier, time.monotonic())
        async with aiohttp.ClientSession(self.world.thalweg.url) as http:
            await self._ask(http, asked)
        return asked

    async def _ask(self, http: aiohttp.ClientSession, asked: Asked) -> None:
        content = f"tokens={self.tokens} delay_ms={self.delay_ms} {uuid4().hex}"
        body = {
            "model": TGI,
            "messages": [{"role": "user", "content": content}],
            "stream": True,
            "service_tier": asked.tier,
        }
        headers = {**self._headers(asked.tenant), "Idempotency-Key": f"{OWN_KEY}{uuid4().hex}"}
        numbers: list[int] = []
        try:
            async with http.post(CHAT, json=body, headers=headers) as response:
                asked.status = response.status
                asked.retry_after = response.headers.get("Retry-After", "")
                if location := response.headers.get("Location"):
                    asked.answer = UUID(location.split("/")[ANSWER_IN_LOCATION])
                if response.status != 200:
                    asked.code = json.loads(await response.text())["error"]["code"]
                    return
                async for line in response.content:
                    text = line.decode()
                    if '"error"' in text:
                        asked.code = json.loads(text.removeprefix("data: "))["error"]["code"]
                    for said in CONTENT.findall(text):
                        asked.begun_at = asked.begun_at or time.monotonic()
                        numbers += map(int, NUMBER.findall(said))
        except (aiohttp.ClientError, TimeoutError) as error:
            asked.code = repr(error)
        finally:
            asked.ended_at, asked.tokens = time.monotonic(), len(numbers)
            if numbers != list(range(len(numbers))):
                asked.wrong = f"it said {numbers}"
            elif not asked.code and len(numbers) != self.tokens:
                asked.wrong = f"{len(numbers)} of {self.tokens} tokens"

    def told(self, tenant: str) -> str:
        """How a tenant fared, for the report."""
        of = [one for one in self.asked if one.tenant == tenant]
        codes = Counter(one.code for one in of if one.code)
        whole = sum(one.is_whole for one in of)
        return f"{tenant}: {whole} of {len(of)} whole, {dict(codes)}"
