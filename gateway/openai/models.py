"""The models that the fleet serves, as OpenAI's clients list them."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.desk import Desk
from gateway.fleet.errors import NoModelKnown, UnknownModel


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def models(request: Request) -> Response:
        await desk.caller(request)
        served = await desk.gateway.models.ids()
        listed = [as_object(model) for model in served or ()]
        return Response(
            orjson.dumps({"object": "list", "data": listed}), media_type="application/json"
        )

    @router.get("/v1/models/{model:path}")
    async def model(request: Request) -> Response:
        await desk.caller(request)
        name = request.path_params["model"]
        if name not in (await desk.gateway.models.ids() or ()):
            may_come = await desk.gateway.models.may_serve(name)
            raise NoModelKnown if may_come else UnknownModel(name)
        return Response(orjson.dumps(as_object(name)), media_type="application/json")

    return router


def as_object(model: str) -> dict[str, Any]:
    """`created` is 0: when a model was made is not known, and the same answer every time is."""
    return {"id": model, "object": "model", "created": 0, "owned_by": "thalweg"}
