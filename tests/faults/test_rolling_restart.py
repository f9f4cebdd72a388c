"""Each role is told to stop under load, one after the other: no client sees an error."""

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.faults.clients import sse
from tests.fixtures.processes import Process, alive, free_port
from tests.fixtures.thalweg import RunningThalweg

ROLES = ("gateway", "relay", "answers", "recorder", "projections")
TALKERS = 4
REPLACED_SECONDS_MAX = 40
TURN_SECONDS_MAX = 60
TOKENS = 30


@pytest.fixture
def thalweg(tmp_path: Path) -> Iterator[RunningThalweg]:
    port = free_port()
    engine = Process(
        tmp_path / "engine.log", "-m", "tests.fixtures.numbered_engine", "--port", str(port)
    )
    try:
        with RunningThalweg(tmp_path / "home", engines=f"tgi+http://127.0.0.1:{port}") as running:
            yield running
    finally:
        engine.stop()


@dataclass
class Talker:
    """Posts a message, follows its answer, and again. Repeats nothing: any error is one."""

    thalweg: RunningThalweg
    errors: list[str] = field(default_factory=list)
    turns: int = 0

    async def talk(self, enough: asyncio.Event) -> None:
        headers = {"Authorization": f"Bearer {self.thalweg.api_key}"}
        timeout = aiohttp.ClientTimeout(total=TURN_SECONDS_MAX, sock_read=TURN_SECONDS_MAX)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            while not enough.is_set():
                try:
                    await self._turn(session)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self.errors.append(repr(error))
                self.turns += 1

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        url = self.thalweg.url
        started = await self._post(session, f"{url}/api/conversations", {})
        if started is None:
            return
        posted = await self._post(
            session,
            f"{url}/api/conversations/{started['conversation']}/messages",
            {"content": f"tokens={TOKENS} delay_ms=20", "parent": None},
        )
        if posted is None:
            return
        texts: list[str] = []
        while not await self._follow(session, posted["answer"], texts):
            pass
        if "".join(texts) != "".join(f" {k}" for k in range(TOKENS)):
            self.errors.append(f"read {texts}")

    async def _post(
        self, session: aiohttp.ClientSession, url: str, body: dict[str, Any]
    ) -> dict[str, Any] | None:
        headers = {"Idempotency-Key": uuid4().hex}
        async with session.post(url, json=body, headers=headers) as response:
            answered: dict[str, Any] = await response.json()
            if response.status not in (200, 201, 202):
                self.errors.append(f"{response.status}: {answered}")
                return None
            return answered

    async def _follow(self, session: aiohttp.ClientSession, answer: str, texts: list[str]) -> bool:
        """Whether the end came; a stream that says `come again` is followed with its cursor."""
        headers = {"Last-Event-ID": str(len(texts) - 1)} if texts else {}
        url = f"{self.thalweg.url}/api/answers/{answer}/stream"
        async with session.get(url, headers=headers) as response:
            if response.status != 200:
                self.errors.append(f"{response.status}: {await response.text()}")
                return True
            async for event in sse(response):
                if event.get("event") == "problem":
                    self.errors.append(event["data"])
                    return True
                assert int(event["id"]) == len(texts)
                texts.append(json.loads(event["data"])["text"])
                if event["event"] == "end":
                    return True
        return False


async def replaced(thalweg: RunningThalweg, role: str, which: int) -> None:
    """SIGTERM to one process of the role; returns when another one is there and it is gone."""
    before = thalweg.pids(role)
    old = thalweg.signal(role, signal.SIGTERM, which=which)
    async with asyncio.timeout(REPLACED_SECONDS_MAX):
        while alive(old) or len(thalweg.pids(role)) < len(before):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_rolling_restart_of_every_role_shows_no_client_an_error(
    thalweg: RunningThalweg,
) -> None:
    enough = asyncio.Event()
    talkers = [Talker(thalweg) for _ in range(TALKERS)]
    talking = [asyncio.create_task(each.talk(enough)) for each in talkers]
    try:
        for role in ROLES:
            for which in range(len(thalweg.pids(role))):
                await replaced(thalweg, role, which)
    finally:
        enough.set()
        await asyncio.gather(*talking)
    assert [error for each in talkers for error in each.errors] == []
    assert all(each.turns > 1 for each in talkers)
