"""Which face a request is for, and how errors look there."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from commands.errors import Refused
from gateway import problems
from gateway.errors import Declined
from gateway.openai import errors as openai_errors

OPENAI_PREFIX = "/v1/"


def is_openai(request: Request) -> bool:
    return request.url.path.startswith(OPENAI_PREFIX)


async def refusal(request: Request, error: Exception) -> Response:
    """An expected refusal, as the face that was asked writes it."""
    if not isinstance(error, Declined | Refused):
        raise error
    request.app.state.desk.gateway.meter.refused(error.CODE)
    return (
        openai_errors.response(error) if is_openai(request) else problems.response(request, error)
    )


async def http_error(request: Request, error: Exception) -> Response:
    """What routing refuses: 404 and 405."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    method, path = request.method, request.url.path
    detail = {
        404: f"there is nothing at {path}; docs/api.md lists what there is",
        405: f"{path} does not take {method}; use {headers.get('allow', 'another method')}",
    }.get(error.status_code, str(error.detail))
    if is_openai(request):
        return openai_errors.plain(error.status_code, code, detail, headers=headers)
    return problems.plain(request, error.status_code, code, detail, headers=headers)


def internal_error(request: Request) -> Response:
    detail = "something went wrong here; the log has it under this request's id"
    if is_openai(request):
        return openai_errors.plain(500, "internal_error", detail)
    return problems.plain(request, 500, "internal_error", detail)
