"""One client's way to the gateway: commands that may be sent again, streams, reads. Everything that
is invoked and seen goes into the history."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.faults.history import History, Kind

CONNECT_SECONDS_MAX = 10
SILENCE_SECONDS_MAX = 35
"""Between two bytes: the gateway's pings are 15 s apart, and one may be late."""
RETRY_SECONDS = 0.1
ACCEPTED = frozenset({200, 201, 202})
NEVER_STORED = frozenset({"store_saturated", "no_model_known"})
"""Codes of 503 that say for sure that nothing was stored; other ones don't."""
UNFOUNDED = frozenset({"answer_in_progress", "too_many_unanswered"})
"""Refusals that will not be there for ever: a client that insists comes again."""
CONNECTION = "connection"
CLOSED = "closed"
"""A stream that was ended in good order, without the end of its answer."""


@dataclass(frozen=True)
class Command:
    """Something to be done, under a key that lets it be sent again."""

    what: str
    method: str
    path: str
    body: dict[str, Any]
    key: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    kind: Kind
    code: str = ""
    body: dict[str, Any] = field(default_factory=dict)


class Door:
    """Use it with `async with`. `number` is the client's in the history."""

    def __init__(self, history: History, url: str, api_key: str, number: int) -> None:
        self.history, self.number = history, number
        self.accepted: dict[str, Command] = {}
        """By key: what a repeat has to get the same answer for."""
        self.followed: list[str] = []
        """Answers that were read to their end."""
        self._session = aiohttp.ClientSession(
            url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
            ),
        )

    async def __aenter__(self) -> "Door":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def send(self, command: Command) -> Outcome:
        """Once. The outcome is in the history too."""
        facts = {**command.facts, "key": command.key}
        op = self.history.invoke(self.number, command.what, **facts)
        outcome = Outcome(Kind.UNKNOWN, "cancelled")
        text = ""
        try:
            async with self._session.request(
                command.method,
                command.path,
                json=command.body or None,
                headers={"Idempotency-Key": command.key},
            ) as response:
                text = await response.text()
                outcome = outcome_of(response.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError):
            outcome = Outcome(Kind.UNKNOWN, CONNECTION)
        finally:
            said = {"body": text} if outcome.kind is Kind.OK else {"code": outcome.code}
            self.history.outcome(self.number, op, outcome.kind, command.what, **said)
        if outcome.kind is Kind.OK:
            self.accepted[command.key] = command
        return outcome

    async def insist(self, command: Command) -> Outcome:
        """Again and again with the same key, until it is accepted or refused for good."""
        while True:
            outcome = await self.send(command)
            if outcome.kind is Kind.OK:
                return outcome
            if outcome.kind is Kind.FAIL and outcome.code not in UNFOUNDED | NEVER_STORED:
                return outcome
            await asyncio.sleep(RETRY_SECONDS)

    async def follow(
        self, answer: str, *, again: bool = False, begun: asyncio.Event | None = None
    ) -> str:
        """Reads the stream of an answer to its end, over all connections that it takes; returns the
        kind of the end. `again`: from the beginning, of one that was read before. `begun` is set
        when there is a chunk."""
        last = -1
        while True:
            last, end = await self._connection(answer, last, again, begun)
            if end:
                self.followed.append(answer)
                return end
            await asyncio.sleep(RETRY_SECONDS)

    async def _connection(
        self, answer: str, last: int, again: bool, begun: asyncio.Event | None
    ) -> tuple[int, str]:
        facts: dict[str, Any] = {"answer": answer, "after": last, "again": again}
        op = self.history.invoke(self.number, "stream", **facts)
        headers = {"Last-Event-ID": str(last)} if last >= 0 else {}
        kind, code, end, error = Kind.UNKNOWN, CONNECTION, "", ""
        try:
            path = f"/api/answers/{answer}/stream"
            async with self._session.get(path, headers=headers) as response:
                if response.status != 200:
                    code = outcome_of(response.status, await response.text()).code
                    return last, end
                code = CLOSED
                async for event in sse(response):
                    data = json.loads(event["data"])
                    if event.get("event") == "problem":
                        code = data["code"]
                        return last, end
                    last = int(event["id"])
                    if event["event"] == "end":
                        kind, end = Kind.OK, data["kind"]
                    seen = {"answer": answer, "index": last, "text": data["text"], "again": again}
                    self.history.saw(self.number, op, **seen, **({"end": end} if end else {}))
                    if begun is not None:
                        begun.set()
                    if end:
                        return last, end
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            code, error = CONNECTION, repr(problem)
        finally:
            said = {} if kind is Kind.OK else {"code": code, "error": error}
            self.history.outcome(self.number, op, kind, "stream", **said)
        return last, end

    async def read(self, conversation: str, after: str) -> None:
        """The conversation, as it is after a command whose receipt this is."""
        op = self.history.invoke(self.number, "read", conversation=conversation, after=after)
        outcome = Outcome(Kind.UNKNOWN, "cancelled")
        seen: dict[str, Any] = {}
        try:
            path, query = f"/api/conversations/{conversation}", {"after": after}
            async with self._session.get(path, params=query) as response:
                outcome = outcome_of(response.status, await response.text())
                seen = {name: outcome.body.get(name) for name in ("title", "position", "parked")}
        except (aiohttp.ClientError, TimeoutError, OSError):
            outcome = Outcome(Kind.UNKNOWN, CONNECTION)
        finally:
            said = seen if outcome.kind is Kind.OK else {"code": outcome.code}
            self.history.outcome(self.number, op, outcome.kind, "read", **said)


def outcome_of(status: int, text: str) -> Outcome:
    try:
        body = json.loads(text)
    except ValueError:
        return Outcome(Kind.UNKNOWN, f"{status} {text[:80]!r}")
    if status in ACCEPTED:
        return Outcome(Kind.OK, body=body)
    code = str(body.get("code", status))
    known = status < 500 or code in NEVER_STORED
    return Outcome(Kind.FAIL if known else Kind.UNKNOWN, code, body)


async def sse(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The events of a stream of server-sent events that have data and came whole."""
    event: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line == "":
            if "data" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")
