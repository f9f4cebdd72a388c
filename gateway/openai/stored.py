"""Stored completions: list, read, change the metadata of, and delete them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from commands.conversations import (
    Conversation,
    DeleteConversation,
    ReplaceMetadata,
    delete_conversation,
    replace_metadata,
)
from events.conversations import Kind
from events.envelope import Event
from gateway.described import Metadata
from gateway.desk import Desk
from gateway.errors import InvalidRequest, ListBehind, NotFound
from gateway.intake import call_of, read_object, validated
from gateway.openai.bodies import UpdateBody
from gateway.openai.completions import (
    conversation_of,
    found,
    listed,
    not_there,
    place_of,
)
from gateway.openai.ports import CompletionsWanted, Place
from gateway.ports import Caller
from gateway.read_after import named_in_headers, token_header, wait_applied

PAGE_MAX = 100  # this and the next are OpenAI's
PAGE_DEFAULT = 20
EMPTY_PAGES_MAX = 10
"""Of completions that were deleted since: clients take an empty page for the last one."""
_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)


class PageQuery(BaseModel):
    """How far to read, and from where. Values come as text."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    order: Literal["asc", "desc"] = "asc"


class ListQuery(PageQuery):
    model: str | None = None
    metadata: Metadata = Field(default_factory=dict)


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/chat/completions")
    async def list_completions(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = validated(ListQuery, query_of(request))
        applied = desk.gateway.histories.applied  # the list is read of the same tables
        await wait_applied(named_in_headers(request), applied, desk.limits)
        wanted = CompletionsWanted(
            tenant=caller.tenant,
            limit=asked.limit + 1,
            model=asked.model,
            metadata=asked.metadata,
            newest_first=asked.order == "desc",
            after=None if asked.after is None else await place(caller, asked.after),
        )
        for _ in range(EMPTY_PAGES_MAX):
            named = await desk.gateway.completions.find(wanted)
            seen = await applied.seen()
            there, read = await listed(desk, named[: asked.limit])
            if there or read == len(named):
                rows = [one.as_object() for one in there]
                return page(rows, more=read < len(named), headers=token_header(seen))
            wanted = replace(wanted, after=named[read - 1].place)
        raise ListBehind(EMPTY_PAGES_MAX * asked.limit)

    async def place(caller: Caller, completion: str) -> Place:
        try:
            return await place_of(desk, caller, completion)
        except NotFound:
            raise InvalidRequest(
                f"after: there is no completion {completion[:64]!r}; send the last id of a page",
                "after",
            ) from None

    @router.get("/v1/chat/completions/{completion}")
    async def retrieve(request: Request) -> Response:
        caller = await desk.caller(request)
        one = await found(desk, caller, request.path_params["completion"])
        return as_json(one.as_object())

    @router.post("/v1/chat/completions/{completion}")
    async def update(request: Request) -> Response:
        caller = await desk.caller(request)
        body = await read_object(request, desk.limits)
        asked = validated(UpdateBody, body)
        call = call_of(request, desk.gateway, caller, body)
        one = await found(desk, caller, request.path_params["completion"])
        command = ReplaceMetadata(one.conversation, asked.metadata or {})

        def decide(state: Conversation) -> list[Event]:
            return replace_metadata(state, command)

        await desk.submit(call, one.conversation, decide)
        changed = await found(desk, caller, request.path_params["completion"])
        return as_json(changed.as_object())

    @router.delete("/v1/chat/completions/{completion}")
    async def delete(request: Request) -> Response:
        """Idempotent. Also of one whose answer is being given, which stops then."""
        caller = await desk.caller(request)
        if await read_object(request, desk.limits):
            raise InvalidRequest("a deletion has no body; leave it out")
        id_ = request.path_params["completion"]
        conversation = await conversation_of(desk, caller, id_)
        call = call_of(request, desk.gateway, caller, {})

        def decide(state: Conversation) -> list[Event]:
            if state.kind is not Kind.COMPLETION or not state.stored:
                raise not_there(id_)
            return delete_conversation(state, DeleteConversation(conversation))

        await desk.submit(call, conversation, decide)
        return as_json({"id": id_, "object": "chat.completion.deleted", "deleted": True})

    @router.get("/v1/chat/completions/{completion}/messages")
    async def messages(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = validated(PageQuery, dict(request.query_params))
        one = await found(desk, caller, request.path_params["completion"])
        rows = one.messages()
        if asked.order == "desc":
            rows.reverse()
        if asked.after is not None:
            ids = [row["id"] for row in rows]
            if asked.after not in ids:
                raise InvalidRequest(
                    f"after: there is no message {asked.after[:64]!r}; send the last id of a page",
                    "after",
                )
            rows = rows[ids.index(asked.after) + 1 :]
        return page(rows[: asked.limit], more=len(rows) > asked.limit)

    return router


def query_of(request: Request) -> dict[str, Any]:
    """The query, with `metadata[name]=value` gathered."""
    asked: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        pair = _METADATA.fullmatch(name)
        if pair is not None:
            metadata[pair[1]] = value
        else:
            asked[name] = value
    return {**asked, "metadata": metadata} if metadata else asked


def page(
    rows: Sequence[dict[str, Any]], *, more: bool, headers: Mapping[str, str] | None = None
) -> Response:
    return as_json(
        {
            "object": "list",
            "data": rows,
            "first_id": rows[0]["id"] if rows else None,
            "last_id": rows[-1]["id"] if rows else None,
            "has_more": more,
        },
        headers,
    )


def as_json(content: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), headers=headers, media_type="application/json")
