"""Messages on the native API: post one, edit one, ask for another answer to one."""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from commands.conversations import (
    AskAnswer,
    NewMessage,
    PostMessage,
    RequestAnswer,
    post_message,
    request_answer,
)
from events.conversations import Role, Sampling
from events.ids import AnswerId, MessageId, derived_id
from gateway.answers import stream_address
from gateway.described import Attachments, references
from gateway.desk import Decide, Desk
from gateway.errors import InvalidRequest
from gateway.limits import GatewayLimits
from gateway.receipts import accepted
from gateway.sampling import MaxTokens, Seed, Stop, Subject, Temperature, TopP, sampling


class AskBody(BaseModel):
    """How an answer is to be given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop = Field(default=(), strict=False)


class PostBody(AskBody):
    content: str = Field(min_length=1)
    parent: UUID | None = Field(strict=False)
    """The head as the client sees it; null for the first message. Of an edit: what the edited
    message is below. Required."""
    role: Literal["user", "system"] = "user"
    edits: UUID | None = Field(default=None, strict=False)
    attachments: Attachments = ()
    user: Subject | None = None


class AnswerBody(AskBody):
    parent: UUID = Field(strict=False)
    """The message that is to be answered, again or at last."""
    user: Subject | None = None


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.post("/api/conversations/{conversation}/messages", status_code=202)
    async def post(request: Request) -> Response:
        call, conversation, asked = await desk.about_conversation(request, PostBody)
        tenant = call.caller.tenant
        message = MessageId(derived_id(tenant, call.command, "message:0"))
        new = NewMessage(message, Role(asked.role), asked.content, references(asked.attachments))
        edits = None if asked.edits is None else MessageId(asked.edits)
        ids: dict[str, UUID] = {"conversation": conversation, "message": message}

        def decide(ask: AskAnswer | None) -> Decide:
            command = PostMessage(conversation, asked.parent, new, ask, edits)
            return lambda state: post_message(state, command)

        def shown(ended: UUID) -> bool:
            return ended == asked.parent

        if new.role is Role.SYSTEM:
            check_no_answer(asked)
            receipt = await desk.submit(
                call, conversation, decide(None), subject=asked.user, shown=shown
            )
            return accepted(201, f"/api/conversations/{conversation}", receipt, ids)
        answer = AnswerId(derived_id(tenant, call.command, "answer"))
        how = sampling_of(asked, desk.limits)
        receipt = await desk.ask(
            call,
            conversation,
            answer,
            asked.model,
            lambda model: decide(desk.ask_answer(call, answer, model, how)),
            subject=asked.user,
            shown=shown,
        )
        return accepted(202, stream_address(answer), receipt, {**ids, "answer": answer})

    @router.post("/api/conversations/{conversation}/answers", status_code=202)
    async def answer_again(request: Request) -> Response:
        call, conversation, asked = await desk.about_conversation(request, AnswerBody)
        answer = AnswerId(derived_id(call.caller.tenant, call.command, "answer"))
        how = sampling_of(asked, desk.limits)

        def decide(model: str) -> Decide:
            ask = desk.ask_answer(call, answer, model, how)
            command = RequestAnswer(conversation, asked.parent, ask)
            return lambda state: request_answer(state, command)

        receipt = await desk.ask(
            call,
            conversation,
            answer,
            asked.model,
            decide,
            subject=asked.user,
            shown=lambda ended: True,  # to the same message; it names no answer
        )
        ids: dict[str, UUID] = {"conversation": conversation, "answer": answer}
        return accepted(202, stream_address(answer), receipt, ids)

    return router


def sampling_of(asked: AskBody, limits: GatewayLimits) -> Sampling:
    return sampling(
        limits,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        stop=asked.stop,
    )


def check_no_answer(asked: AskBody) -> None:
    """Nothing is ignored, so what is about an answer has no place where none is asked for."""
    for name in sorted(asked.model_fields_set.intersection(AskBody.model_fields)):
        raise InvalidRequest(f"{name}: a system message asks for no answer; leave it out", name)
