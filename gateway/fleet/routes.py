"""How the fleet is, for who has a key: whether requests wait, and for how long."""

import time
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from events.ids import TenantId
from gateway.desk import Desk
from gateway.fleet.table import Whose, table_of
from gateway.fleet.view import FIRST_TO_LAST, FleetView


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()
    fleet = desk.gateway.fleet

    @router.get("/api/fleet")
    async def shown(request: Request) -> Response:
        caller = await desk.caller(request)
        now = time.monotonic()
        table: dict[str, Any] = table_of(fleet.reports(now), Whose(caller.tenant))
        table["waits"] = waits(fleet, caller.tenant, now)
        return Response(orjson.dumps(table), media_type="application/json")

    return router


def waits(fleet: FleetView, tenant: TenantId, now: float) -> list[dict[str, Any]]:
    """What a request of this tenant would wait now: what admission goes by."""
    reports = [report for _, report in fleet.reports(now)]
    models: set[str] = set()
    for report in reports:
        models.update(line.model for line in report.queues)
        models.update(line.model for line in report.served)
        for engine in report.engines:
            models.update(engine.models or ())
    lines = []
    for model in sorted(models):
        for band in FIRST_TO_LAST:
            outlook = fleet.outlook(model, band, tenant, now)
            if outlook is not None:
                known = outlook.wait_seconds
                wait = None if known is None else round(known, 1)
                lines.append({"model": model, "band": band, "wait_seconds": wait})
    return lines
