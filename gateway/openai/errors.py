"""Errors as OpenAI's clients read them."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from commands.errors import Refused
from gateway.again import retry_headers
from gateway.errors import Declined, status_of


def response(error: Declined | Refused, headers: Mapping[str, str] | None = None) -> Response:
    param = error.parameter if isinstance(error, Declined) else None
    return plain(
        status_of(error),
        error.CODE,
        str(error),
        param=param,
        headers={**retry_headers(error), **(headers or {})},
    )


def plain(
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = orjson.dumps(body_of(status, code, message, param))
    return Response(body, status, dict(headers or {}), "application/json")


def body_of(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
