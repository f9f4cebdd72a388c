"""What happens to every request before and after its route: ids, trace, and the last resort."""

import logging
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events import trace
from events.ids import fresh_id
from gateway.faces import OPENAI_PREFIX, internal_error

logger = logging.getLogger("thalweg.gateway")

UNTOLD = ("/livez", "/readyz")
"""Asked every few seconds by machines: they make no spans."""

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
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal started, status
            if not started and message["type"] == "http.response.start":
                started, status = True, message["status"]
                answered = MutableHeaders(scope=message)
                answered["x-request-id"] = request_id
                if scope["path"].startswith(OPENAI_PREFIX):  # what OpenAI's says, to its clients
                    took = (trace.now_ns() - began) / 1_000_000
                    answered["openai-processing-ms"] = str(max(1, round(took)))
            await send(message)

        came_with, began = headers.get("traceparent"), trace.now_ns()
        own = trace.child_of(came_with)
        with trace.within(own):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                logger.exception(
                    "a request failed", extra={"request": request_id, "path": scope["path"]}
                )
                if started:  # the server closes the connection: nothing else can be said
                    raise
                await internal_error(Request(scope))(scope, receive, send_with_id)
            finally:
                if trace.is_told(own) and scope["path"] not in UNTOLD:
                    _tell(scope, own, came_with, began, status)


def _tell(scope: Scope, own: str, came_with: str | None, began_ns: int, status: int) -> None:
    """The request's span: the whole of a stream, from the head to its last frame."""
    route = getattr(scope.get("route"), "path", "")
    above = trace.ids_of(came_with)
    attributes: dict[str, trace.Attribute] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status,
        "thalweg.request": scope["state"]["request_id"],
    }
    trace.tell(
        trace.Span(
            f"{scope['method']} {route}".rstrip(),
            own,
            above[1] if above else None,
            began_ns,
            trace.now_ns(),
            trace.Kind.SERVER,
            attributes,
            str(status) if status >= 500 else "",
        )
    )
