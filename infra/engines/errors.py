"""What an engine's complaint means: try later, never, or elsewhere.

The first event of a stream is looked at like a status: TGI says its errors inside a stream that has
begun with 200, on its chat route always with the code 422.
"""

from typing import Any

from processors.answers.engine import EngineFailed, EngineRefused, Overloaded

MESSAGE_CHARACTERS_MAX = 500
"""Of what an engine says about an error; it may repeat the whole request."""

NEVER = ("validation", "template_error", "tool_error", "BadRequestError", "invalid_request_error")
"""Error types of requests that are wrong in themselves (TGI, vLLM, llama.cpp)."""

NEVER_WORDS = ("Input validation error", "Template error", "Tool error")
"""The same in TGI's chat stream, which has lost the type."""

Complaint = Overloaded | EngineRefused | EngineFailed


def complaint(name: str, status: int, body: Any, *, busy: tuple[int, ...] = (429,)) -> Complaint:
    """The error that an answer with this status and JSON body (None: no JSON) stands for.

    `busy` are the statuses by which this kind of engine says that it has no room.
    """
    message, kind, code = _said(body)
    about = f"{name}: {message or f'HTTP {status}'}"
    if kind == "overloaded" or message == "Model is overloaded" or {status, code} & {*busy}:
        return Overloaded(about)
    if kind in NEVER or message.startswith(NEVER_WORDS):
        return EngineRefused(message)
    if status in (400, 413, 422):
        return EngineRefused(
            message or f"The engine cannot read this request (HTTP {status}): it may be too long."
        )
    if status in (401, 403, 404, 405):
        about += f" (HTTP {status}); is this the right protocol and address, without a key?"
    # 503 is what a load balancer says when no engine is there.
    return EngineFailed(about, kind=f"HTTP {status}", reached=status != 503)


def streamed_complaint(name: str, body: Any, *, said: bool) -> Complaint:
    """The error that an event of a stream stands for. After a token it is always EngineFailed."""
    message, _, code = _said(body)
    if said:
        return EngineFailed(f"{name}: {message or 'an error without words'}", kind="complaint")
    trusted = code if code in (400, 429, 503) else 500  # TGI's 422 may mean anything
    return complaint(name, trusted, body, busy=(429, 503))


def _said(body: Any) -> tuple[str, str, int]:
    """(message, type, code) of TGI's, OpenAI's and vLLM's older form."""
    if not isinstance(body, dict):
        return "", "", 0
    error = body.get("error", body)
    if isinstance(error, dict):
        message, kind = error.get("message"), error.get("type")
        code = error.get("code", error.get("http_status_code"))
    else:
        message, kind, code = error, body.get("error_type"), None
    return (
        message[:MESSAGE_CHARACTERS_MAX] if isinstance(message, str) else "",
        kind if isinstance(kind, str) else "",
        code if isinstance(code, int) else 0,
    )
