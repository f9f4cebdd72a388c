"""Conversations on the native API: start one, post a message at its head."""

from collections.abc import Mapping
from uuid import UUID

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from commands.conversations import (
    Conversation,
    NewMessage,
    PostMessage,
    StartConversation,
    post_message,
    start_conversation,
)
from commands.store import Receipt
from events.conversations import Role
from events.envelope import Event
from events.ids import AnswerId, ConversationId, MessageId, derived_id
from gateway.answers import stream_address
from gateway.desk import Decide, Desk
from gateway.intake import call_of, id_in_path, read_object, validated
from gateway.sampling import MaxTokens, Seed, Stop, Subject, Temperature, TopP, sampling


class StartBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user: Subject | None = None


class PostBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    content: str = Field(min_length=1)
    parent: UUID | None = Field(strict=False)
    """The head of the branch as the client sees it; null for the first message. Required."""
    model: str | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop = Field(default=(), strict=False)
    user: Subject | None = None


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.post("/api/conversations", status_code=201)
    async def start(request: Request) -> Response:
        caller = await desk.caller(request)
        body = await read_object(request, desk.limits)
        asked = validated(StartBody, body)
        call = call_of(request, desk.gateway, caller, body)
        id_ = ConversationId(derived_id(caller.tenant, call.command, "conversation"))

        def decide(state: Conversation) -> list[Event]:
            return start_conversation(state, StartConversation(id_))

        receipt = await desk.submit(call, id_, decide, subject=asked.user, new_stream=True)
        return accepted(201, f"/api/conversations/{id_}", receipt, {"conversation": id_})

    @router.post("/api/conversations/{conversation}/messages", status_code=202)
    async def post(request: Request) -> Response:
        caller = await desk.caller(request)
        conversation = ConversationId(id_in_path(request, "conversation"))
        body = await read_object(request, desk.limits)
        asked = validated(PostBody, body)
        call = call_of(request, desk.gateway, caller, body)
        answer = AnswerId(derived_id(caller.tenant, call.command, "answer"))
        message = MessageId(derived_id(caller.tenant, call.command, "message:0"))
        how = sampling(
            desk.limits,
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
            stop=asked.stop,
        )

        def decide(model: str) -> Decide:
            command = PostMessage(
                conversation,
                asked.parent,
                NewMessage(message, Role.USER, asked.content),
                desk.ask_answer(answer, model, how),
            )
            return lambda state: post_message(state, command)

        receipt = await desk.ask(
            call,
            conversation,
            answer,
            asked.model,
            decide,
            subject=asked.user,
            parent=asked.parent,
        )
        ids = {"conversation": conversation, "message": message, "answer": answer}
        return accepted(202, stream_address(answer), receipt, ids)

    return router


def accepted(status: int, location: str, receipt: Receipt, ids: Mapping[str, UUID]) -> Response:
    """The same for a repeat, byte for byte."""
    body = orjson.dumps(
        {**ids, "receipt": str(receipt), "stored_at": receipt.stored_at.isoformat()}
    )
    return Response(body, status, {"location": location}, "application/json")
