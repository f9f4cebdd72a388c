"""Search in what was written and answered: ranked, with what was found marked."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.desk import Desk
from gateway.pages import PageQuery, cursor_of, page, place_of, query_of
from gateway.read_after import token_header, wait_applied
from gateway.read_ports import Found, FoundPlace
from gateway.sampling import Subject

QUERY_CHARACTERS_MAX = 256


class SearchQuery(PageQuery):
    q: Annotated[str, Field(min_length=1, max_length=QUERY_CHARACTERS_MAX)]
    user: Subject | None = None


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    histories = desk.gateway.histories

    @router.get("/api/conversations/search")
    async def search(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = query_of(request, SearchQuery)
        subject = asked.user or caller.owner
        question = [caller.tenant, subject, asked.q]
        below = place_of(asked.cursor, "search", question, FoundPlace)
        parked = await wait_applied(asked.after, histories.applied, desk.limits)
        read = await histories.search(
            caller.tenant, subject, asked.q, below=below, limit=asked.limit + 1
        )
        found = read.value[: asked.limit]
        next_cursor = None
        if len(read.value) > asked.limit:
            next_cursor = cursor_of("search", question, found[-1].place)
        items = [shown(one) for one in found]
        return page(items, next_cursor, headers=token_header(read.seen), parked=parked)

    return router


def shown(one: Found) -> dict[str, Any]:
    return {
        "conversation": one.place.conversation,
        "node": one.node,
        "role": one.role,
        "created_at": one.place.created_at,
        "title": one.title,
        "opening": one.opening,
        "archived": one.archived,
        "rank": one.place.rank,
        "excerpt": one.excerpt,
        "marks": one.marks,
    }
