"""Answers on the native API: read one's stream from any cursor, and ask that it stop."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from commands.conversations import CancelAnswer, Conversation, cancel_answer
from events.answers import Entry
from events.envelope import Event
from events.ids import AnswerId, ConversationId
from gateway import problems
from gateway.answer_streams import AnswerRef
from gateway.desk import Desk
from gateway.errors import Declined, Draining, InvalidRequest, NotFound, status_of
from gateway.event_stream import EventStream, peeked
from gateway.intake import call_of, id_in_path, read_object

_CURSOR = re.compile(r"[0-9]{1,9}")


def stream_address(answer: UUID) -> str:
    return f"/api/answers/{answer}/stream"


def entry_fields(entry: Entry) -> dict[str, Any]:
    """A chunk or the end of an answer, as the native API writes it."""
    fields: dict[str, Any] = {"index": entry.index, "text": entry.text}
    if entry.logprobs:
        fields["logprobs"] = [one.model_dump() for one in entry.logprobs]
    if entry.end is None:
        return fields
    end = entry.end
    fields |= {"kind": end.kind.value, "reason": end.reason, "error": end.error}
    return fields | {"usage": end.usage.model_dump()}


@dataclass(frozen=True, slots=True)
class NativeFrames:
    """Server-sent events as the HTML standard has them; a frame's id is the entry's index."""

    request_id: str
    reconnect_seconds: float

    def opening(self) -> bytes:
        return b"retry: %d\n\n" % round(self.reconnect_seconds * 1000)

    def ping(self) -> bytes:
        return b": ping\n\n"

    def entry(self, entry: Entry) -> bytes:
        name = b"chunk" if entry.end is None else b"end"
        fields = orjson.dumps(entry_fields(entry))
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (entry.index, name, fields)

    def broken(self, error: Declined) -> bytes:
        """A reader that comes again with its cursor misses nothing: EventSource does by itself.

        For one that is only to come again elsewhere a comment is enough.
        """
        if isinstance(error, Draining):
            return b": this gateway is stopping, come again with your cursor\n\n"
        problem = problems.body_of(status_of(error), error.CODE, str(error), self.request_id)
        return b"event: problem\ndata: %b\n\n" % problem


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.get("/api/answers/{answer}/stream")
    async def stream(request: Request) -> Response:
        caller = await desk.caller(request)
        after = cursor_of(request)
        answer = AnswerId(id_in_path(request, "answer"))
        row = await desk.readable(caller, answer)
        desk.join_turn(answer)
        conversation = ConversationId(row.conversation)
        ref = AnswerRef(answer, conversation, caller.tenant, ended=row.ended)
        entries = desk.gateway.streams.read(ref, after=after)
        if row.ended:
            rest = await peeked(answer, entries)
            if rest is None:
                return Response(status_code=204)  # tells an EventSource not to come again
            entries = rest
        frames = NativeFrames(request.state.request_id, desk.limits.reconnect_seconds)
        return EventStream(
            desk.open_streams,
            answer,
            entries,
            frames,
            {},
            patient=False,
            followed=desk.followed,
        )

    @router.post("/api/answers/{answer}/cancel", status_code=202)
    async def cancel(request: Request) -> Response:
        caller = await desk.caller(request)
        body = await read_object(request, desk.limits)
        if body:
            raise InvalidRequest("a cancel has no body; leave it out")
        call = call_of(request, desk.gateway, caller, body)
        answer = AnswerId(id_in_path(request, "answer"))
        row = await desk.gateway.answers.find_answer(answer)
        if row is None or row.tenant != caller.tenant:
            raise NotFound(f"answer {answer}")
        command = CancelAnswer(ConversationId(row.conversation), answer)

        def decide(state: Conversation) -> list[Event]:
            return cancel_answer(state, command)

        receipt = await desk.submit(call, row.conversation, decide)
        content = orjson.dumps({"answer": answer, "receipt": str(receipt)})
        location = {"location": stream_address(answer)}
        return Response(content, 202, location, "application/json")

    return router


def cursor_of(request: Request) -> int:
    """The index after which to read; -1: from the beginning. Raises InvalidRequest.

    `Last-Event-ID` comes before `?starting_after=`: an EventSource that reconnects sends both.
    """
    name, value = "Last-Event-ID", request.headers.get("last-event-id")
    if not value:
        name, value = "starting_after", request.query_params.get("starting_after")
    if value is None:
        return -1
    if _CURSOR.fullmatch(value) is None:
        raise InvalidRequest(
            f"{name} is {value[:64]!r}: it should be the index of the last entry that was read, "
            "a whole number from 0",
            name,
        )
    return int(value)
