"""Conversations on the native API: start one, change it, choose its branch, delete it."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from commands.conversations import (
    ArchiveConversation,
    ChooseBranch,
    Conversation,
    DeleteConversation,
    MarkRead,
    NewMessage,
    RenameConversation,
    ReplaceMetadata,
    StartConversation,
    UnarchiveConversation,
    archive_conversation,
    choose_branch,
    delete_conversation,
    mark_read,
    rename_conversation,
    replace_metadata,
    start_conversation,
    unarchive_conversation,
)
from events.conversations import Role
from events.envelope import Event
from events.ids import ConversationId, MessageId, derived_id
from gateway.described import Metadata, Title
from gateway.desk import Decide, Desk
from gateway.errors import InvalidRequest
from gateway.intake import Call, call_of, id_in_path, read_object, validated
from gateway.receipts import accepted
from gateway.sampling import Subject

POSITION_MAX = 2**31 - 1  # a stream's positions are 32 bits

Position = Annotated[int, Field(ge=1, le=POSITION_MAX)]


class StartBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user: Subject | None = None
    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)
    stored: bool = True
    system: Annotated[str, Field(min_length=1)] | None = None


class ChangeBody(BaseModel):
    """What is absent stays as it is; a title of null is none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: Subject | None = None
    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)
    archived: bool = False


class HeadBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user: Subject | None = None
    head: UUID = Field(strict=False)
    """The last node of the branch."""


class ReadBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user: Subject | None = None
    position: Position


class DeleteQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    user: Subject | None = None


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    async def done(
        call: Call, conversation: ConversationId, subject: str | None, decide: Decide
    ) -> Response:
        receipt = await desk.submit(call, conversation, decide, subject=subject)
        return accepted(200, None, receipt, {"conversation": conversation})

    @router.post("/api/conversations", status_code=201)
    async def start(request: Request) -> Response:
        caller = await desk.caller(request)
        body = await read_object(request, desk.limits)
        asked = validated(StartBody, body)
        call = call_of(request, desk.gateway, caller, body)
        id_ = ConversationId(derived_id(caller.tenant, call.command, "conversation"))
        ids: dict[str, UUID] = {"conversation": id_}
        system = None
        if asked.system is not None:
            ids["message"] = derived_id(caller.tenant, call.command, "message:0")
            system = NewMessage(MessageId(ids["message"]), Role.SYSTEM, asked.system)
        command = StartConversation(id_, asked.title, asked.metadata, asked.stored, system)

        def decide(state: Conversation) -> list[Event]:
            return start_conversation(state, command)

        receipt = await desk.submit(call, id_, decide, subject=asked.user, new_stream=True)
        return accepted(201, f"/api/conversations/{id_}", receipt, ids)

    @router.patch("/api/conversations/{conversation}")
    async def change(request: Request) -> Response:
        call, conversation, asked = await desk.about_conversation(request, ChangeBody)
        changes = decisions(conversation, asked)

        def decide(state: Conversation) -> list[Event]:
            return [event for decision in changes for event in decision(state)]

        return await done(call, conversation, asked.user, decide)

    @router.delete("/api/conversations/{conversation}")
    async def delete(request: Request) -> Response:
        caller = await desk.caller(request)
        conversation = ConversationId(id_in_path(request, "conversation"))
        if await read_object(request, desk.limits):
            raise InvalidRequest("a deletion has no body; send `user` in the query")
        query = dict(request.query_params)
        asked = validated(DeleteQuery, query)
        call = call_of(request, desk.gateway, caller, query)
        command = DeleteConversation(conversation)
        return await done(
            call, conversation, asked.user, lambda state: delete_conversation(state, command)
        )

    @router.post("/api/conversations/{conversation}/head")
    async def choose(request: Request) -> Response:
        call, conversation, asked = await desk.about_conversation(request, HeadBody)
        command = ChooseBranch(conversation, asked.head)
        return await done(
            call, conversation, asked.user, lambda state: choose_branch(state, command)
        )

    @router.post("/api/conversations/{conversation}/read")
    async def read(request: Request) -> Response:
        call, conversation, asked = await desk.about_conversation(request, ReadBody)
        command = MarkRead(conversation, asked.position)
        return await done(call, conversation, asked.user, lambda state: mark_read(state, command))

    return router


def decisions(
    conversation: ConversationId, asked: ChangeBody
) -> list[Callable[[Conversation], list[Event]]]:
    """One for each thing that is to change; none is in the way of another. Raises InvalidRequest
    if there is nothing to change."""
    wanted = asked.model_fields_set
    changes: list[Callable[[Conversation], list[Event]]] = []
    if "title" in wanted:
        rename = RenameConversation(conversation, asked.title)
        changes.append(lambda state: rename_conversation(state, rename))
    if "metadata" in wanted:
        replace = ReplaceMetadata(conversation, asked.metadata)
        changes.append(lambda state: replace_metadata(state, replace))
    if "archived" in wanted and asked.archived:
        archive = ArchiveConversation(conversation)
        changes.append(lambda state: archive_conversation(state, archive))
    elif "archived" in wanted:
        unarchive = UnarchiveConversation(conversation)
        changes.append(lambda state: unarchive_conversation(state, unarchive))
    if not changes:
        raise InvalidRequest("nothing is to change; send `title`, `metadata` or `archived`")
    return changes
