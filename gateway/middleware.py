"""What happens to every request before and after its route: ids, trace, and the last resort."""

import logging
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events import trace
from events.ids import fresh_id
from gateway.faces import internal_error

logger = logging.getLogger("thalweg.gateway")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Porch:
    """Gives each request its id (`x-request-id`, the client's own if it is a plain one) and trace.

    What no route has handled becomes a 500 without any detail of what went wrong: that is in the
    log, under the same id. Plain ASGI: a stream passes through without a task or a queue.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked_id = headers.get("x-request-id", "")
        request_id = asked_id if _REQUEST_ID.fullmatch(asked_id) else str(fresh_id())
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if not started and message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with trace.within(trace.child_of(headers.get("traceparent"))):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                logger.exception(
                    "a request failed", extra={"request": request_id, "path": scope["path"]}
                )
                if started:  # the server closes the connection: nothing else can be said
                    raise
                await internal_error(Request(scope))(scope, receive, send_with_id)
