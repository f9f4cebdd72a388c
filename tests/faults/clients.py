"""Clients as they are in the field: they repeat what failed, with the same idempotency key, and
reconnect with their cursor. Each keeps a history of what it invoked and saw, for the judge."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from tests.faults.door import sse

RETRY_SECONDS = 0.1
TURN_SECONDS_MAX = 90
"""A turn that takes longer than this under one fault counts as lost."""


@dataclass
class Turn:
    """One message and what was seen of its answer."""

    conversation: UUID
    message: str
    key: str
    body: dict[str, Any]
    posted: bytes = b""
    """What the accepted post was answered with."""
    answer: UUID | None = None
    seen: list[tuple[int, str]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    posts: int = 0
    connections: int = 0
    arrivals: list[float] = field(default_factory=list)
    """time.monotonic() of each chunk."""

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.seen)


class Client:
    """Talks to the native API. `model` chooses who answers; None leaves it to the gateway."""

    def __init__(self, url: str, api_key: str, model: str | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._model = {} if model is None else {"model": model}
        self.turns: list[Turn] = []
        self.begun = asyncio.Event()
        """Set when the first chunk of a turn has been seen."""

    async def converse(self, messages: list[str]) -> None:
        """One conversation; each message is posted to the head that the one before left."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=20)
        async with aiohttp.ClientSession(headers=self._headers, timeout=timeout) as session:
            started = await self._insist(session, f"{self._url}/api/conversations", {}, uuid4().hex)
            conversation = UUID(json.loads(started)["conversation"])
            parent: str | None = None
            for message in messages:
                body = {"content": message, "parent": parent, **self._model}
                turn = Turn(conversation, message, uuid4().hex, body)
                self.turns.append(turn)
                parent = await self._turn(session, turn)

    async def check_again(self) -> list[str]:
        """In what a repeat of each post, and of each stream from its begin, differs."""
        found = []
        async with aiohttp.ClientSession(headers=self._headers) as session:
            for turn in self.turns:
                path, headers = self._path(turn), {"Idempotency-Key": turn.key}
                async with session.post(path, json=turn.body, headers=headers) as response:
                    if await response.read() != turn.posted:
                        found.append(f"{turn.answer}: the post was answered {turn.posted!r} before")
                again = replace(turn, seen=[], end=None, arrivals=[])
                await self._follow(session, again)
                if (again.seen, again.end) != (turn.seen, turn.end):
                    found.append(f"{turn.answer}: read again {again.seen}, before {turn.seen}")
        return found

    def _path(self, turn: Turn) -> str:
        return f"{self._url}/api/conversations/{turn.conversation}/messages"

    async def _turn(self, session: aiohttp.ClientSession, turn: Turn) -> str:
        async with asyncio.timeout(TURN_SECONDS_MAX):
            turn.posted = await self._insist(session, self._path(turn), turn.body, turn.key, turn)
            turn.answer = UUID(json.loads(turn.posted)["answer"])
            while turn.end is None:
                with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                    await self._follow(session, turn)
                if turn.end is None:
                    await asyncio.sleep(RETRY_SECONDS)
        return str(turn.answer)

    async def _follow(self, session: aiohttp.ClientSession, turn: Turn) -> None:
        turn.connections += 1
        headers = {"Last-Event-ID": str(turn.seen[-1][0])} if turn.seen else {}
        url = f"{self._url}/api/answers/{turn.answer}/stream"
        async with session.get(url, headers=headers) as response:
            if response.status != 200:
                return
            async for event in sse(response):
                if event.get("event") == "problem":
                    return
                index, data = int(event["id"]), json.loads(event["data"])
                turn.seen.append((index, data["text"]))
                turn.arrivals.append(time.monotonic())
                self.begun.set()
                if event["event"] == "end":
                    turn.end = data
                    return

    async def _insist(
        self,
        session: aiohttp.ClientSession,
        url: str,
        body: dict[str, Any],
        key: str,
        turn: Turn | None = None,
    ) -> bytes:
        """Posts until it is accepted, always with the same key."""
        deadline = time.monotonic() + TURN_SECONDS_MAX
        last: object = None
        while time.monotonic() < deadline:
            if turn is not None:
                turn.posts += 1
            try:
                headers = {"Idempotency-Key": key}
                async with session.post(url, json=body, headers=headers) as response:
                    content = await response.read()
                    if response.status in (200, 201, 202):
                        return content
                    answered = json.loads(content)
                    # The end is shown before it is recorded; a paused recorder makes that long.
                    early = answered.get("code") == "answer_in_progress"
                    assert early or response.status in (429, 500, 502, 503), answered
                    last = answered
            except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
                last = error
            await asyncio.sleep(RETRY_SECONDS)
        raise AssertionError(f"{url} was not accepted in {TURN_SECONDS_MAX} s: {last!r}")
