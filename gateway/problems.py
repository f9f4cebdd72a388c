"""Errors of the native API: problem details as in RFC 9457, with the typed fields of the error."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from commands.errors import Refused
from gateway.again import retry_headers
from gateway.errors import Declined, InvalidKey, status_of

MEDIA_TYPE = "application/problem+json"
RESERVED = frozenset({"type", "title", "status", "detail", "instance", "code"})


def response(request: Request, error: Declined | Refused) -> Response:
    headers = retry_headers(error)
    if isinstance(error, InvalidKey):
        headers["www-authenticate"] = "Bearer"
    return plain(
        request, status_of(error), error.CODE, str(error), headers=headers, more=typed_fields(error)
    )


def typed_fields(error: Declined | Refused) -> dict[str, Any]:
    return {one.name: getattr(error, one.name) for one in fields(error) if one.name not in RESERVED}


def plain(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    body = body_of(status, code, detail, request.state.request_id, more)
    return Response(body, status, dict(headers or {}), MEDIA_TYPE)


def body_of(
    status: int, code: str, detail: str, request_id: str, more: Mapping[str, Any] | None = None
) -> bytes:
    return orjson.dumps(fields_of(status, code, detail, request_id) | dict(more or {}))


def fields_of(status: int, code: str, detail: str, request_id: str) -> dict[str, Any]:
    """What every problem has."""
    return {
        "type": f"urn:thalweg:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": f"urn:thalweg:request:{request_id}",
        "code": code,
    }
