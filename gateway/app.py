"""Puts the gateway together: `create_app(parts)` is the ASGI application that the wiring serves."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from commands.errors import Refused
from gateway import (
    answers,
    conversations,
    feed,
    health,
    histories,
    messages,
    search,
    usage,
)
from gateway.desk import Desk
from gateway.errors import Declined
from gateway.faces import http_error, refusal
from gateway.fleet import routes as fleet
from gateway.log import routes as log
from gateway.middleware import Porch
from gateway.openai import chat, models, stored
from gateway.parts import Gateway

__all__ = ["Gateway", "create_app", "desk_of"]


def create_app(parts: Gateway) -> FastAPI:
    """The application over these ports. Serve it with `gateway.server.serve_gateway`.

    It sends no CORS headers, and has no pages of its own.
    """
    desk = Desk(parts)
    app = FastAPI(
        title="Thalweg",
        openapi_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Porch)],
        exception_handlers={Declined: refusal, Refused: refusal, HTTPException: http_error},
    )
    app.state.desk = desk
    for room in (
        chat,
        answers,
        messages,
        conversations,
        search,
        histories,
        feed,
        usage,
        log,
        stored,
        models,
        fleet,
        health,
    ):  # in the order of their traffic
        app.include_router(room.routes(desk))
    return app


def desk_of(app: FastAPI) -> Desk:
    """The part of an application that knows its open streams."""
    desk: Desk = app.state.desk
    return desk
