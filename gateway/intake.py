"""From bytes to a call: body, idempotency key, and the fingerprint that tells a repeat."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from commands.store import Attempt
from commands.submit import fingerprint
from gateway.errors import (
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    InvalidRequest,
    NotFound,
    UnsupportedParameter,
)
from gateway.limits import GatewayLimits
from gateway.parts import Gateway
from gateway.ports import Caller

Body = TypeVar("Body", bound=BaseModel)

DEADLINE_HEADER = "X-Request-Timeout"
"""In seconds. Official OpenAI clients send one of their own with a default that nobody chose
(`x-stainless-read-timeout`), so that one is not taken for a wish."""
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Call:
    """One command of a client."""

    caller: Caller
    command: str
    """The command id: `key:` and the client's idempotency key, or `call:` and a fresh id."""
    keyed: bool
    """The client gave a key, so that it may send the call again."""
    asked: bytes
    """Fingerprint of route and body."""
    deadline_seconds: float
    """The client waits no longer for an answer that this call asks for."""
    attempt: Attempt | None = None
    """Which send of it this is, if it has no key and later sends may join it."""


async def read_object(request: Request, limits: GatewayLimits) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty one.

    Raises InvalidRequest, BodyTooLarge, BodyTooSlow and ClientGone. Lone surrogates are not text
    and are refused: nothing behind this door could encode them.
    """
    body = await _read_bytes(request, limits)
    if not body:
        return {}
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; a lone surrogate is not text" if "surrogate" in str(error) else ""
        raise InvalidRequest(f"the body is not valid JSON: {error}{hint}") from None
    if not isinstance(decoded, dict):
        raise InvalidRequest("the body is valid JSON but not an object; send {...}")
    return decoded


async def _read_bytes(request: Request, limits: GatewayLimits) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes_max:
        raise BodyTooLarge(limits.body_bytes_max)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds_max):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes_max:
                    raise BodyTooLarge(limits.body_bytes_max)
                parts.append(part)
    except TimeoutError:
        raise BodyTooSlow(limits.body_seconds_max) from None
    except ClientDisconnect:
        raise ClientGone from None
    return b"".join(parts)


def validated(kind: type[Body], body: dict[str, Any]) -> Body:
    """The body as a `kind`. Raises InvalidRequest and UnsupportedParameter, naming the part."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    unsupported = [one for one in problems if one["type"] == "extra_forbidden"]
    problem = unsupported[0] if unsupported else problems[0]
    name = _named(problem["loc"])
    if unsupported:
        raise UnsupportedParameter(f"the parameter {name!r} is not supported; leave it out", name)
    message = problem["msg"].removeprefix("Value error, ")
    raise InvalidRequest(f"{name}: {message}" if name else message, name or None)


def _named(location: tuple[int | str, ...]) -> str:
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif re.fullmatch(r"\w+", part):  # else it is pydantic's name for one case of a union
            name += f".{part}" if name else part
    return name


def call_of(request: Request, gateway: Gateway, caller: Caller, body: dict[str, Any]) -> Call:
    """The call that a request makes. Raises InvalidRequest for a malformed idempotency key."""
    keys = request.headers.getlist("idempotency-key")
    seconds = _deadline_seconds(request, gateway.limits)
    if not keys:
        return Call(caller, f"call:{gateway.new_id()}", False, b"", seconds)
    if len(keys) > 1 or _IDEMPOTENCY_KEY.fullmatch(keys[0]) is None:
        raise InvalidRequest(
            "the header Idempotency-Key should be one value of 1 to 255 visible ASCII characters",
            "Idempotency-Key",
        )
    return Call(caller, f"key:{keys[0]}", True, asked_of(request, body), seconds)


def _deadline_seconds(request: Request, limits: GatewayLimits) -> float:
    """What the client's header says, up to the bound; without one, the bound."""
    said = request.headers.getlist(DEADLINE_HEADER)
    if not said:
        return limits.answer_seconds_max
    if len(said) > 1 or _SECONDS.fullmatch(said[0]) is None or float(said[0]) <= 0:
        raise InvalidRequest(
            f"the header {DEADLINE_HEADER} should be one number of seconds above 0",
            DEADLINE_HEADER,
        )
    return min(float(said[0]), limits.answer_seconds_max)


def asked_of(request: Request, body: dict[str, Any]) -> bytes:
    """The fingerprint of route and body in any order of its fields. Raises InvalidRequest."""
    try:
        canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise InvalidRequest("the body is nested too deep; send a flatter one") from None
    return fingerprint(f"{request.method} {request.url.path}", canonical)


def id_in_path(request: Request, noun: str) -> UUID:
    """The id that the address names. What is not an id names nothing: raises NotFound."""
    text = request.path_params[noun]
    try:
        found = UUID(text)
    except ValueError:
        raise NotFound(f"{noun} {text!r}") from None
    if str(found) != text.lower():
        raise NotFound(f"{noun} {text!r}")
    return found
