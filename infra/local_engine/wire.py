"""What all routes share: reading a body, headers, event streams and errors on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import orjson
from aiohttp import hdrs, web

from infra.local_engine import limits
from infra.local_engine.engine import Job
from infra.local_engine.errors import BadBody, EngineError
from infra.local_engine.fields import JsonObject, read_object

DONE = b"[DONE]"
STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
CORS_HEADERS = {
    "access-control-allow-methods": "GET,POST",
    "access-control-allow-headers": "content-type",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def body_of(request: web.Request) -> JsonObject:
    """The request's JSON object. Raises BadBody."""
    if request.content_type != "application/json" or hdrs.CONTENT_TYPE not in request.headers:
        raise BadBody(415, "Expected request with `Content-Type: application/json`")
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        reason = "Failed to buffer the request body: length limit exceeded"
        raise BadBody(413, reason) from error
    return read_object(body)


def json_response(value: object, *, status: int = 200, job: Job | None = None) -> web.Response:
    """A JSON body, with the headers that TGI gives a generation."""
    headers = {} if job is None else compute_headers(job)
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json", headers=headers
    )


def compute_headers(job: Job) -> dict[str, str]:
    """What a generation cost, in milliseconds and tokens."""
    seconds = job.queue_seconds + job.inference_seconds
    tokens = max(1, len(job.said))
    return {
        "x-compute-type": "cpu",
        "x-compute-time": f"{seconds:.9f}",
        "x-total-time": f"{seconds * 1000:.0f}",
        "x-queue-time": f"{job.queue_seconds * 1000:.0f}",
        "x-inference-time": f"{job.inference_seconds * 1000:.0f}",
        "x-time-per-token": f"{job.inference_seconds * 1000 / tokens:.0f}",
        "x-prompt-tokens": str(job.input_length),
        "x-generated-tokens": str(len(job.said)),
    }


async def event_stream(request: web.Request, events: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Sends each item as one event in one HTTP chunk; closes `events` when the client goes away."""
    response = web.StreamResponse(headers=STREAM_HEADERS)
    clock = Clock()
    comments = None
    try:
        await response.prepare(request)  # at once: the answer may wait in the queue
        comments = asyncio.create_task(keep_alive(response, clock))
        async with aclosing(events):
            async for data in events:
                await response.write(b"data: " + data + b"\n\n")
                clock.touch()
        await response.write_eof()
    except ConnectionResetError:
        pass  # nobody is left to be told
    finally:
        if comments is not None:
            comments.cancel()
    return response


class Clock:
    """When something was last sent."""

    def __init__(self) -> None:
        self.touched = time.monotonic()

    def touch(self) -> None:
        """Something was sent."""
        self.touched = time.monotonic()

    def silent_seconds(self) -> float:
        """How long ago that was."""
        return time.monotonic() - self.touched


async def keep_alive(response: web.StreamResponse, clock: Clock) -> None:
    """Sends a comment whenever the stream has been silent for long, until it is cancelled."""
    while True:
        await asyncio.sleep(max(0.0, limits.keep_alive_seconds - clock.silent_seconds()))
        if clock.silent_seconds() >= limits.keep_alive_seconds:
            try:
                await response.write(b":\n\n")
            except ConnectionResetError:
                return
            clock.touch()


@web.middleware
async def wire_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors before a stream in TGI's form; preflight requests; empty bodies of 404 and 405."""
    try:
        return await handler(request)
    except BadBody as error:
        return web.Response(text=str(error), status=error.status)
    except EngineError as error:
        return json_response(error.body(), status=error.status)
    except web.HTTPMethodNotAllowed as error:
        allowed = ",".join(sorted(error.allowed_methods))
        headers = {"allow": allowed}
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(headers=headers | CORS_HEADERS)
        return web.Response(status=405, headers=headers)
    except web.HTTPNotFound:
        return web.Response(status=404)


async def common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What TGI says on every answer."""
    response.headers["access-control-allow-origin"] = "*"
    response.headers["vary"] = (
        "origin, access-control-request-method, access-control-request-headers"
    )
