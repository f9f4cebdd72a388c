"""What was used: tokens and answers of a tenant, by day, user and model."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.desk import Desk
from gateway.errors import InvalidRequest
from gateway.pages import PageQuery, cursor_of, page, place_of, query_of
from gateway.read_after import token_header, wait_applied
from gateway.read_ports import UsagePlace, UsageQuery, UsageRow
from gateway.sampling import Subject

DAYS_DEFAULT = 31
DAYS_MAX = 366
MODEL_CHARACTERS_MAX = 1_024
BY = ("day", "user", "model")
TENANT = "tenant"

Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31))]


class UsageParameters(PageQuery):
    from_: Annotated[Day | None, Field(alias="from")] = None
    to: Day | None = None
    user: Subject | None = None
    model: Annotated[str, Field(min_length=1, max_length=MODEL_CHARACTERS_MAX)] | None = None
    by: Annotated[str, Field(max_length=64)] = ",".join(BY)


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    usage = desk.gateway.usage

    @router.get("/api/usage")
    async def sums(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = query_of(request, UsageParameters)
        last = asked.to or desk.gateway.now().date()
        first = asked.from_ or last - timedelta(days=DAYS_DEFAULT - 1)
        if not timedelta() <= last - first < timedelta(days=DAYS_MAX):
            raise InvalidRequest(
                f"from {first} to {last}: it should be a day and the same or a later one, at most "
                f"{DAYS_MAX} days in all",
                "from",
            )
        by = rows_by(asked.by)
        query = UsageQuery(caller.tenant, first, last, asked.user, asked.model, by)
        question = [caller.tenant, first, last, asked.user, asked.model, sorted(by)]
        behind = place_of(asked.cursor, "usage", question, UsagePlace)
        parked = await wait_applied(asked.after, usage.applied, desk.limits)
        read = await usage.rows(query, behind=behind, limit=asked.limit + 1)
        rows = read.value[: asked.limit]
        next_cursor = None
        if len(read.value) > asked.limit:
            next_cursor = cursor_of("usage", question, rows[-1].place)
        return page(
            [shown(row, by) for row in rows],
            next_cursor,
            headers=token_header(read.seen),
            tenant=caller.tenant,
            **{"from": first, "to": last},
            parked=parked,
        )

    return router


def rows_by(text: str) -> frozenset[str]:
    """What gets rows of its own. Raises InvalidRequest."""
    wanted = frozenset(text.split(","))
    if wanted == {TENANT}:
        return frozenset()
    if not wanted <= set(BY):
        raise InvalidRequest(
            f"by is {text!r}: it should be some of day,user,model with commas, or tenant for one "
            "sum",
            "by",
        )
    return wanted


def shown(row: UsageRow, by: frozenset[str]) -> dict[str, Any]:
    place = row.place
    key = {"day": place.day, "user": place.subject, "model": place.model}
    return {name: value for name, value in key.items() if name in by} | {
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "finished": row.finished,
        "failed": row.failed,
        "cancelled": row.cancelled,
    }
