"""`GET /api/events` and `GET /api/streams/{id}`: the log, for those whose tenant it is."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.desk import Desk
from gateway.errors import InvalidRequest, NotFound
from gateway.intake import id_in_path
from gateway.log.asked import Asked, asked_of_log, asked_of_stream
from gateway.log.errors import EventUnreadable
from gateway.log.ports import EventLog, Unreadable
from gateway.log.reading import Readers, Reading
from gateway.ports import Caller


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    limits = desk.limits
    readers = Readers(limits.log_readers_max, limits.log_readers_per_tenant_max)

    def reading(
        request: Request, caller: Caller, log: EventLog, asked: Asked, after: int
    ) -> Response:
        readers.check(caller.tenant)
        return Reading(
            desk.open_streams,
            readers,
            limits,
            log,
            asked,
            after,
            tenant=caller.tenant,
            still_allowed=lambda: desk.caller(request),
            request_id=request.state.request_id,
        )

    @router.get("/api/events")
    async def events(request: Request) -> Response:
        caller = await desk.caller(request)
        asked = asked_of_log(request, caller, limit_max=limits.log_events_max)
        log = desk.gateway.logs[asked.context]
        end = await log.end()
        if asked.first > end + 1:
            raise InvalidRequest(
                f"from is {asked.first}, but the last event of this log stands at {end}; was it "
                "the log of another context, or of a store that was restored?",
                "from",
            )
        after = asked.first - 1
        if asked.wanted.since is not None:
            after = max(after, await log.before(asked.wanted.since))
        return reading(request, caller, log, asked, after)

    @router.get("/api/streams/{stream}")
    async def stream(request: Request) -> Response:
        caller = await desk.caller(request)
        id_ = id_in_path(request, "stream")
        asked = asked_of_stream(request, caller, id_, limit_max=limits.log_events_max)
        log = desk.gateway.logs[asked.context]
        try:
            tenant = await log.tenant_of(id_)
        except Unreadable as error:
            raise EventUnreadable(error.place) from error
        if tenant != caller.tenant:
            raise NotFound(f"stream {id_}")
        return reading(request, caller, log, asked, 0)

    return router
