"""One stream of everything that concerns a user: conversations that change, answers as they come.

A change is sent as the conversation's newest form, so a reader that comes again gets each one that
has changed since once, however often it did. Nothing is kept for a reader but its cursor.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from commands.errors import StoreUnavailable
from events.answers import Entry
from gateway import problems
from gateway.answers import entry_fields
from gateway.desk import Desk
from gateway.errors import AnswerExpired, Declined, InvalidKey, InvalidRequest, NotFound
from gateway.feed_answers import FollowedAnswers
from gateway.feed_cursor import FOLLOWED_MAX, FeedCursor, parse
from gateway.histories import shown
from gateway.pages import ReadQuery, query_of
from gateway.ports import Caller
from gateway.read_after import wait_applied
from gateway.read_ports import Changed
from gateway.sampling import Subject
from gateway.sent_events import Put, SentEvents

logger = logging.getLogger("thalweg.gateway")

CHANGES_PER_READ_MAX = 50
"""Conversations read at once by a feed that is behind: some 50 kB."""
READS_AT_ONCE_MAX = 2
"""Of all feeds of a gateway, so that a thousand woken ones leave connections to other reads."""
READ_AGAIN_SECONDS = 1.0
"""After a read failed: the feed goes on without it meanwhile."""
PARAMETER_CHARACTERS_MAX = 1_024

Text = Annotated[str, Field(max_length=PARAMETER_CHARACTERS_MAX)]


class FeedQuery(ReadQuery):
    user: Subject | None = None
    tokens: Text = "false"
    starting_after: Text | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a feed, and of whom."""

    caller: Caller
    subject: str
    still_there: Callable[[], Awaitable[Caller]]
    """Raises InvalidKey once the key was revoked."""
    request_id: str


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    reading = asyncio.Semaphore(READS_AT_ONCE_MAX)

    @router.get("/api/feed")
    async def feed(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = query_of(request, FeedQuery)
        cursor = cursor_of(request, asked)
        await wait_applied(asked.after, desk.gateway.histories.applied, desk.limits)
        subject = asked.user or caller.owner
        reader = Reader(
            caller, subject, lambda: desk.caller(request), str(request.state.request_id)
        )
        named = answers_named(asked.tokens)
        conversations = {
            answer: (await desk.readable(caller, answer)).conversation for answer in named or ()
        }
        if cursor is None:
            number = await desk.gateway.histories.last_number(caller.tenant, subject)
            cursor = FeedCursor(number)
        if named is None:
            return Feed(desk, reading, reader, cursor.number)
        recorded = set()
        if not named:
            for answer in cursor.answers:
                # Of another installation, perhaps, or gone since.
                with suppress(NotFound, AnswerExpired):
                    conversations[answer] = (await desk.readable(caller, answer)).conversation
                    if not await is_open(caller, conversations[answer], answer):
                        recorded.add(answer)
            conversations |= await desk.gateway.histories.answering(caller.tenant, subject)
        made = Feed(desk, reading, reader, cursor.number)
        made.follow(conversations, cursor, recorded, fixed=bool(named))
        return made

    async def is_open(caller: Caller, conversation: UUID, answer: UUID) -> bool:
        """As changes tell it: the one that said that it has ended may have been sent before."""
        read = await desk.gateway.histories.conversation(caller.tenant, conversation)
        return read.value is not None and answer in read.value.answering

    return router


def cursor_of(request: Request, asked: FeedQuery) -> FeedCursor | None:
    """None: from now on. Raises InvalidRequest. An EventSource that comes again sends the header
    beside the address that it was made with, so the header comes first."""
    name, text = "Last-Event-ID", request.headers.get("last-event-id")
    if not text:
        name, text = "starting_after", asked.starting_after
    if text is None:
        return None
    cursor = parse(text)
    if cursor is None:
        raise InvalidRequest(f"{name} is {text[:64]!r}: it should be an id of this feed", name)
    return cursor


def answers_named(tokens: str) -> list[UUID] | None:
    """Whose chunks are wanted: None of no answer, an empty list of all. Raises InvalidRequest."""
    if tokens == "false":
        return None
    if tokens == "true":
        return []
    try:
        named = [UUID(text) for text in tokens.split(",")]
    except ValueError:
        named = []
    if not 0 < len(named) <= FOLLOWED_MAX:
        raise InvalidRequest(
            f"tokens is {tokens[:64]!r}: it should be true, false, or ids of 1 to {FOLLOWED_MAX} "
            "answers with commas",
            "tokens",
        )
    return named


class Feed(SentEvents):
    """The response that carries a feed."""

    def __init__(self, desk: Desk, reading: asyncio.Semaphore, reader: Reader, number: int) -> None:
        about = {"feed": "true", "key": str(reader.caller.key)}
        super().__init__(desk.open_streams, {}, patient=False, about=about)
        self._desk = desk
        self._reading = reading
        self._reader = reader
        self._number = number
        self._answers: FollowedAnswers | None = None
        self._first: list[tuple[UUID, UUID, int, bool]] = []
        self._look_at = 0.0
        self._news = asyncio.Event()
        self._changed = True

    def follow(
        self,
        conversations: Mapping[UUID, UUID],
        cursor: FeedCursor,
        recorded: Collection[UUID],
        *,
        fixed: bool,
    ) -> None:
        """Sends chunks of these answers too, and unless it is `fixed`, of those to come."""
        self._answers = FollowedAnswers(
            self._desk.gateway.streams, self._reader.caller.tenant, self._news.set, fixed=fixed
        )
        for answer, conversation in conversations.items():
            index = cursor.answers.get(answer, 0)
            self._first.append((answer, conversation, index, answer in recorded))

    async def pump(self, put: Put) -> None:
        """Until it is interrupted, or the key is revoked."""
        tenant = self._reader.caller.tenant
        self._look_at = asyncio.get_running_loop().time() + self._desk.limits.keepalive_seconds
        try:
            with self._desk.gateway.changes.joined(tenant, self._reader.subject, self._wake):
                for answer, conversation, index, recorded in self._first:
                    if self._answers is not None:
                        self._answers.follow(answer, conversation, index, recorded=recorded)
                await put(self._opening())
                while True:
                    self._news.clear()
                    await self._send_entries(put)
                    if self._changed:
                        await self._send_changes(put)
                    await self._wait(put)
        finally:
            if self._answers is not None:
                await self._answers.close()

    def broken(self, error: Exception) -> bytes:
        if isinstance(error, InvalidKey):
            return self._problem(error)
        logger.error("a feed broke", exc_info=error)
        return b": the feed broke; come again with your cursor\n\n"

    def draining(self) -> bytes:
        return b": this gateway is stopping; come again with your cursor\n\n"

    # what is sent ---------------------------------------------------------------------------

    async def _send_entries(self, put: Put) -> None:
        if self._answers is None:
            return
        for answer, conversation, entry in self._answers.entries():
            if isinstance(entry, Declined):
                await put(self._problem(entry))
            else:
                await put(self._entry(answer, conversation, entry))

    async def _send_changes(self, put: Put) -> None:
        self._changed = False
        histories = self._desk.gateway.histories
        more = True
        while more:
            try:
                async with self._reading:
                    changes = await histories.changes(
                        self._reader.caller.tenant,
                        self._reader.subject,
                        above=self._number,
                        limit=CHANGES_PER_READ_MAX,
                    )
            except StoreUnavailable:
                asyncio.get_running_loop().call_later(READ_AGAIN_SECONDS, self._wake)
                return
            for change in changes:
                self._number = change.number
                if self._answers is not None:
                    self._answers.are_open(change.row.conversation, change.row.answering)
                await put(self._conversation(change))
            more = len(changes) == CHANGES_PER_READ_MAX

    async def _wait(self, put: Put) -> None:
        """For news; now and then it looks whether the reader may still read."""
        now = asyncio.get_running_loop().time
        if now() < self._look_at:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at):
                    await self._news.wait()
                return
        self._look_at = now() + self._desk.limits.keepalive_seconds
        with suppress(StoreUnavailable):  # a key that can't be looked up was not revoked
            await self._reader.still_there()
        await put(b": ping\n\n")

    def _wake(self) -> None:
        self._changed = True
        self._news.set()

    # frames ---------------------------------------------------------------------------------

    @property
    def _id(self) -> bytes:
        answers = self._answers.cursors if self._answers is not None else {}
        return str(FeedCursor(self._number, answers)).encode()

    def _opening(self) -> bytes:
        """A reader that is cut off before anything happens has a cursor all the same."""
        return b"retry: %d\nid: %b\n\n" % (
            round(self._desk.limits.reconnect_seconds * 1000),
            self._id,
        )

    def _conversation(self, change: Changed) -> bytes:
        row = change.row
        data: dict[str, Any] = {"conversation": row.conversation, "deleted": row.deleted}
        if not row.deleted:
            data = shown(row) | data
        return self._frame(b"conversation", data)

    def _entry(self, answer: UUID, conversation: UUID, entry: Entry) -> bytes:
        name = b"chunk" if entry.end is None else b"end"
        return self._frame(
            name, {"answer": answer, "conversation": conversation, **entry_fields(entry)}
        )

    def _frame(self, name: bytes, data: dict[str, Any]) -> bytes:
        content = orjson.dumps(data, option=orjson.OPT_UTC_Z)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (self._id, name, content)

    def _problem(self, error: Declined) -> bytes:
        more = problems.typed_fields(error)
        body = problems.body_of(error.STATUS, error.CODE, str(error), self._reader.request_id, more)
        return b"event: problem\ndata: %b\n\n" % body
