"""Is the process alive, and what can it do now."""

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from gateway.desk import Desk


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.get("/livez")
    async def alive() -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    @router.get("/readyz")
    async def ready() -> Response:
        """200 if commands can be accepted, whether or not answers can be given now."""
        report = await desk.gateway.health.check()
        draining = desk.open_streams.draining
        takes_commands = report.commands_ready and not draining
        not_ready = "draining" if draining else "not ready"
        body = {
            "commands": "ready" if takes_commands else not_ready,
            "answers": "ready" if report.answers_ready else "not ready",
            "dependencies": dict(report.dependencies),
        }
        status = 200 if takes_commands else 503
        return Response(orjson.dumps(body), status, media_type="application/json")

    return router
