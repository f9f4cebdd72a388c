"""Conversations as their readers see them: lists, one of them, and its messages by branch."""

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from commands.errors import UnknownConversation, UnknownNode
from events.codec import Undecodable
from events.conversations import ConversationDeleted, ConversationStarted
from gateway.answers import stream_address
from gateway.branches import Siblings, Tree, page_of
from gateway.desk import Desk
from gateway.errors import ConversationParked
from gateway.intake import id_in_path
from gateway.pages import (
    InvalidCursor,
    PageQuery,
    ReadQuery,
    answered,
    cursor_of,
    page,
    place_of,
    query_of,
)
from gateway.ports import Caller
from gateway.read_after import token_header, wait_applied
from gateway.read_ports import ActivityPlace, ConversationRow, NodeRow, Read
from gateway.sampling import Subject

ARCHIVED: dict[str, bool | None] = {"true": True, "false": False, "any": None}


class ListQuery(PageQuery):
    user: Subject | None = None
    archived: Literal["true", "false", "any"] = "false"


class MessagesQuery(PageQuery):
    head: UUID | None = None


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    histories = desk.gateway.histories

    async def found(caller: Caller, conversation: UUID) -> Read[ConversationRow]:
        read = await histories.conversation(caller.tenant, conversation)
        if read.value is None:
            if await is_parked(caller, conversation):
                raise ConversationParked(conversation)
            raise UnknownConversation(conversation)
        return Read(read.value, read.seen)

    async def is_parked(caller: Caller, conversation: UUID) -> bool:
        """Whether it would have been found, had its events been applied. The event store says
        whose it is: of another tenant's nothing is told.
        """
        if not await histories.applied.parked([conversation]):
            return False
        try:
            recorded = await desk.gateway.recordings.load(conversation)
        except Undecodable:  # nobody knows whose it is
            return False
        return (
            bool(recorded)
            and recorded[0].meta.tenant == caller.tenant
            and isinstance(recorded[0].event, ConversationStarted)
            and recorded[0].event.stored
            and not any(isinstance(one.event, ConversationDeleted) for one in recorded)
        )

    @router.get("/api/conversations")
    async def all_of_them(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = query_of(request, ListQuery)
        subject = asked.user or caller.owner
        question = [caller.tenant, subject, asked.archived]
        below = place_of(asked.cursor, "conversations", question, ActivityPlace)
        parked = await wait_applied(asked.after, histories.applied, desk.limits)
        read = await histories.conversations(
            caller.tenant,
            subject,
            archived=ARCHIVED[asked.archived],
            below=below,
            limit=asked.limit + 1,
        )
        rows = read.value[: asked.limit]
        next_cursor = None
        if len(read.value) > asked.limit:
            last = ActivityPlace(rows[-1].last_activity, rows[-1].conversation)
            next_cursor = cursor_of("conversations", question, last)
        items = [shown(row) for row in rows]
        return page(items, next_cursor, headers=token_header(read.seen), parked=parked)

    @router.get("/api/conversations/{conversation}")
    async def one(request: Request) -> Response:
        caller = await desk.caller(request)
        conversation = id_in_path(request, "conversation")
        asked = query_of(request, ReadQuery)
        await wait_applied(asked.after, histories.applied, desk.limits)
        read = await found(caller, conversation)
        return answered(shown(read.value), token_header(read.seen))

    @router.get("/api/conversations/{conversation}/messages")
    async def messages(request: Request) -> Response:
        caller = await desk.caller(request)
        conversation = id_in_path(request, "conversation")
        asked = query_of(request, MessagesQuery)
        question = [caller.tenant, conversation, asked.head]
        # (the branch's head, the last node that was given)
        below = place_of(asked.cursor, "messages", question, tuple[UUID, UUID])
        await wait_applied(asked.after, histories.applied, desk.limits)
        row = (await found(caller, conversation)).value
        tree = Tree(await histories.tree(conversation))
        head = below[0] if below else asked.head or row.head
        branch = tree.branch(head)
        if asked.head is not None and not branch:
            raise UnknownNode(conversation, asked.head)
        if below:
            at = next((at for at, one in enumerate(branch) if one.node == below[1]), None)
            if at is None:
                raise InvalidCursor
            branch = branch[at + 1 :]
        places, more = page_of(branch, limit=asked.limit, bytes_max=desk.limits.page_bytes_max)
        read = await histories.nodes(conversation, [one.position for one in places])
        nodes = {node.position: node for node in read.value}
        items = [
            shown_node(nodes[one.position], tree.siblings(one.node))
            for one in places
            if one.position in nodes
        ]
        next_cursor = None
        if more and head is not None:
            next_cursor = cursor_of("messages", question, (head, places[-1].node))
        headers = token_header(read.seen)
        return page(items, next_cursor, headers=headers, head=head, parked=row.parked)

    return router


def shown(row: ConversationRow) -> dict[str, Any]:
    """A conversation as the native API writes it."""
    return {
        "conversation": row.conversation,
        "kind": row.kind,
        "user": row.subject,
        "title": row.title,
        "opening": row.opening,
        "metadata": dict(row.metadata),
        "archived": row.archived,
        "created_at": row.created_at,
        "last_activity": row.last_activity,
        "head": row.head,
        "model": row.model,
        "messages": row.messages,
        "answers": row.answers,
        "unread": row.unread,
        "answering": [
            {"answer": answer, "stream": stream_address(answer)} for answer in row.answering
        ],
        "position": row.position,
        "parked": row.parked,
    }


def shown_node(node: NodeRow, siblings: Siblings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "node": node.node,
        "kind": "message" if node.model is None else "answer",
        "role": node.role,
        "parent": node.parent,
        "position": node.position,
        "created_at": node.created_at,
        "text": node.text,
        "siblings": {
            "number": siblings.number,
            "count": siblings.count,
            "around": [{"node": one.node, "head": one.head} for one in siblings.around],
        },
    }
    if node.model is None:
        attachments = [one.model_dump() for one in node.attachments]
        return fields | {"attachments": attachments, "edits": node.edits}
    usage = None
    if node.prompt_tokens is not None:
        usage = {
            "prompt_tokens": node.prompt_tokens,
            "completion_tokens": node.completion_tokens,
        }
    return fields | {
        "model": node.model,
        "band": node.band,
        "status": node.status,
        "reason": node.reason,
        "error": node.error,
        "usage": usage,
        "ended_at": node.ended_at,
        "stream": stream_address(node.node),
    }
